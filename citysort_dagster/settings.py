"""Settings of one installation, from the environment or a `.env` file in the working folder."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dotenv import load_dotenv
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from citysort_dagster.days import FIRST, LAST
from citysort_dagster.privacy import keep_private

if TYPE_CHECKING:
    from connectors.addresses import Reach

_HOW_TO_WRITE_AN_ADDRESS = (
    "it looks like postgresql://user:password@host/name or sqlite:////folder/file, with :, /, ? and @ in a"
    " password written as %3A, %2F, %3F and %40"
)


class SettingsError(Exception):
    """A setting cannot be used; the sentence names it and never its value."""


class Settings(BaseSettings):
    """What `CITYSORT_…` variables say; each field's description is its documentation."""

    model_config = SettingsConfigDict(env_prefix="CITYSORT_", env_ignore_empty=True, frozen=True)

    data_dir: Path = Field(
        default=Path("data"),
        description="Folder that holds the documents database, the files and Dagster's storage.",
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="Documents database: postgresql://user:password@host/name, or empty for SQLite in the data folder.",
    )
    files_url: str = Field(
        default="",
        description="Where stored files live: s3://bucket/prefix, gs://bucket/prefix, or empty for the data folder.",
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="Fernet key that encrypts stored secrets; empty: the file secret.key in the data folder.",
    )
    partitions: Literal["monthly", "weekly", "daily"] = Field(
        default="monthly", description="Length of a partition; weeks start on Monday. All in UTC."
    )
    partitions_start: date = Field(
        default=date(2020, 1, 1),
        ge=FIRST,
        le=LAST,
        description="First day (UTC) of the first partition, which also takes everything older.",
    )
    rules_file: Path | None = Field(
        default=None, description="Classification rules; empty: the rules.yaml that comes with CitySort."
    )
    webhook_url: SecretStr = Field(
        default=SecretStr(""), description="Address that is told, by a JSON POST, of every failed run."
    )

    allowed_networks: str = Field(
        default="",
        description="Networks, such as 10.2.0.0/16, 127.0.0.0/8, that sources configured in the console may"
        " reach besides the public internet.",
    )
    allowed_folder: Path | None = Field(
        default=None,
        description="Folder in which sources configured in the console may read files (databases, certificates);"
        " empty: none.",
    )

    @field_validator("allowed_networks")
    @classmethod
    def _known_networks(cls, networks: str) -> str:
        if not networks:
            return networks
        from connectors.addresses import read_networks

        try:
            read_networks(networks)
        except ValueError:
            raise ValueError("must be a list of networks such as 10.2.0.0/16, separated by commas") from None
        return networks

    @field_validator("data_dir", "rules_file", "allowed_folder")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        try:
            return path.expanduser().absolute() if path else None
        except (RuntimeError, OSError):  # ~ of nobody; a working folder that is gone
            raise ValueError("is a path that leads nowhere") from None

    @field_validator("data_dir")
    @classmethod
    def _nameable(cls, path: Path) -> Path:
        if "?" in str(path):  # what follows would be taken for options in the addresses of its databases
            raise ValueError("must not hold a question mark")
        return path

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value():
            return url
        import sqlalchemy as sa

        try:
            parts = sa.make_url(url.get_secret_value())
        except (sa.exc.ArgumentError, ValueError):
            raise ValueError("is not a valid address; " + _HOW_TO_WRITE_AN_ADDRESS) from None
        if parts.drivername not in ("postgresql", "postgresql+psycopg", "sqlite"):
            raise ValueError("must start with postgresql:// or sqlite:///")
        # What follows a second @ would be taken for a host, and errors name the host.
        is_file = parts.drivername == "sqlite"
        if "@" in (parts.host or "") or (is_file and (parts.host or parts.query or not parts.database)):
            raise ValueError("is not a valid address; " + _HOW_TO_WRITE_AN_ADDRESS)
        return url

    @property
    def sqlalchemy_url(self) -> str:
        """The documents database as SQLAlchemy wants it, with the psycopg 3 driver named. A secret."""
        url = self.database_url.get_secret_value()
        if not url:
            return f"sqlite:///{self.data_dir / 'citysort.db'}"
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def console_reach(self) -> Reach:
        """What sources configured in the console may reach."""
        from connectors.addresses import Reach, read_networks

        return Reach(read_networks(self.allowed_networks), self.allowed_folder)

    @property
    def dagster_home(self) -> Path:
        """The folder that DAGSTER_HOME names for this installation."""
        return self.data_dir / "dagster"


def load_settings() -> Settings:
    """The settings as they are now.

    Variables of `.env` also reach the process environment, where `{env: NAME}` references look;
    what the environment already holds wins. What this process writes from now on is kept private.
    Raises SettingsError.
    """
    keep_private()
    try:
        load_dotenv(Path.cwd() / ".env")
    except (OSError, ValueError):  # ValueError: not UTF-8, or a character that no variable can hold
        raise SettingsError("the file .env in the working folder cannot be read as text in UTF-8") from None
    try:
        settings = Settings()
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        name = "CITYSORT_" + "_".join(str(part) for part in problem["loc"]).upper()
        raise SettingsError(f"setting {name}: {problem['msg'].removeprefix('Value error, ')}") from None
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"setting CITYSORT_DATA_DIR: cannot make {settings.data_dir}: {error.strerror}"
        ) from None
    if not os.access(settings.data_dir, os.W_OK):
        raise SettingsError(f"setting CITYSORT_DATA_DIR: {settings.data_dir} cannot be written to")
    return settings
