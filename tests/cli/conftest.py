"""The command line, run in this process on an installation of its own, with each kind of database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from citysort_dagster.cli import main
from citysort_dagster.store.database import Database
from tests.importer.conftest import City


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Command:
    """`citysort`, with what it prints."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str | Path) -> Ran:
        self._capture.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        return Ran(code, out, err.decode())

    def well(self, *arguments: str | Path) -> Ran:
        """Runs it and holds it to success."""
        ran = self(*arguments)
        assert ran.code == 0, ran
        return ran


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of the installation that commands find in the environment, not yet made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-01-01")  # each partition of an import takes time
    for name in ("CITYSORT_DATABASE_URL", "CITYSORT_FILES_URL", "CITYSORT_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


@pytest.fixture
def citysort(data_dir: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """The command on SQLite."""
    return Command(capfdbinary)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The documents database of the installation, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{data_dir / 'citysort.db'}"
    url = request.getfixturevalue("postgresql_server").create_database().render_as_string(hide_password=False)
    monkeypatch.setenv("CITYSORT_DATABASE_URL", url.replace("postgresql+psycopg://", "postgresql://"))
    return str(url)


@pytest.fixture
def town(database_url: str, data_dir: Path, tmp_path: Path) -> Iterator[City]:
    """The same installation with documents to import, by the importer itself, from the source town_hall."""
    data_dir.mkdir()
    (tmp_path / "source").mkdir()
    database = Database(database_url)
    database.migrate()
    yield City(tmp_path / "source", data_dir, database)
    database.close()
