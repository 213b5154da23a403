"""What the endpoints about sources and imports take and give."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from citysort_dagster import source_editing
from citysort_dagster.days import FIRST, LAST
from citysort_dagster.source_configs import SourceConfig
from citysort_dagster.source_states import SourceState
from citysort_dagster.sources_file import DEFAULT_GROUP, MAX_NAME, MAX_PARTITIONS_PER_RUN

DEFAULT_LIMIT = 50
MOST = 2**31 - 1

Name = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=MAX_NAME)]
Config = Annotated[
    dict[str, Any],
    Field(
        description="Settings of the connector; its JSON schema says which. Secrets go in here and never"
        " come out: one that is left out stays as it is, null removes it."
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceValues(_Strict):
    """What is configured of a source, by the keys of sources.yaml."""

    connector: str = Field(description="The type of its connector.", max_length=60)
    config: Config = Field(default_factory=dict)
    schedule: str | None = Field(default=None, description="When it is refreshed: cron, in UTC.")
    enabled: bool = True
    description: str | None = None
    owners: list[str] = Field(default_factory=list, description="E-mail addresses, or team:NAME.")
    tags: dict[str, str] = Field(default_factory=dict)
    group: str = Field(default=DEFAULT_GROUP, description="The group of its asset in Dagster.")
    partitions_per_run: int | None = Field(default=None, ge=1, le=MAX_PARTITIONS_PER_RUN)


class NewSource(SourceValues):
    """A source to make."""

    name: Name


class SourceChange(_Strict):
    """What to change of a source; what is left out stays, in `config` as well."""

    connector: str | None = Field(default=None, max_length=60)
    config: Config | None = None
    schedule: str | None = None
    enabled: bool | None = None
    description: str | None = None
    owners: list[str] | None = None
    tags: dict[str, str] | None = None
    group: str | None = None
    partitions_per_run: int | None = Field(default=None, ge=1, le=MAX_PARTITIONS_PER_RUN)


class Day(BaseModel):
    """How many documents arrived on a day (UTC)."""

    day: date
    imported: int


class Source(BaseModel):
    """A source, how it is configured and how it stands."""

    name: str
    connector: str
    origin: str = Field(
        description="file: described in sources.yaml and changed there; console: changed here."
    )
    config: dict[str, Any] = Field(description="The settings of its connector that are no secrets.")
    secrets: dict[str, bool] = Field(
        description="The secret settings of its connector, and whether each is set."
    )
    schedule: str | None
    enabled: bool
    description: str | None
    owners: list[str]
    tags: dict[str, str]
    group: str
    partitions_per_run: int | None
    state: str = Field(description="never_synced, fresh, late, failing or disabled.")
    reason: str
    last_sync_at: datetime | None
    last_run_id: str | None
    documents: int
    failures: int
    refused: int
    days: list[Day]
    created_at: datetime
    updated_at: datetime
    notice: str | None = Field(
        default=None,
        description="Something that went on the side, such as a running Dagster that was not told.",
    )


class ConnectorType(BaseModel):
    """A kind of system."""

    type: str
    title: str
    family: str = Field(description="databases or saas_and_cloud")
    config_schema: dict[str, Any] = Field(
        description="The JSON schema of its settings; secrets are writeOnly."
    )


class ConnectorConfig(BaseModel):
    """The saved configuration of a connector's default source, the one named like it."""

    connector: str
    source: str
    saved: bool = Field(description="Whether there is one.")
    config: dict[str, Any]
    secrets: dict[str, bool]


class TestRequest(_Strict):
    """What to test: the saved configuration, or this one, which is not saved."""

    config: Config | None = None


class TestResult(BaseModel):
    """What came of connecting."""

    ok: bool
    message: str


class ImportOrder(_Strict):
    """What to import. The days are those of documents' last modification (UTC), both included."""

    config: Config | None = Field(
        default=None, description="A configuration for this run only. Takes an admin."
    )
    limit: int | None = Field(
        default=DEFAULT_LIMIT, ge=1, le=MOST, description="Download so many documents at most; null: all."
    )
    date_from: date | None = Field(default=None, alias="from", ge=FIRST, le=LAST)
    date_to: date | None = Field(default=None, alias="to", ge=FIRST, le=LAST)
    wait: bool = Field(default=False, description="Answer when it is over, with what came of it.")


class FailedDocument(BaseModel):
    """A document that could not be imported."""

    external_id: str
    filename: str
    reason: str


class ImportReport(BaseModel):
    """How an import stands, or ended."""

    run_id: str
    source: str
    status: str = Field(description="queued, running, succeeded, failed or canceled.")
    finished: bool
    limited: bool = Field(description="It was cut short by its limit: there may be more to import.")
    listed_count: int
    imported_count: int
    skipped_count: int = Field(description="Known already, or refused by rule.")
    failed_count: int
    errors: list[FailedDocument] = Field(description="The first hundred documents that failed.")
    message: str | None = Field(description="Why it failed, or broke off.")
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


def source_of(state: SourceState, notice: str | None = None) -> Source:
    """A source as the API tells it."""
    source: SourceConfig = state.source
    return Source(
        **source_editing.as_values(source),
        origin=source.origin,
        config=source_editing.shown_config(source),
        secrets=source_editing.secrets_set(source),
        state=state.state.replace(" ", "_"),
        reason=state.reason,
        last_sync_at=source.last_sync_at,
        last_run_id=state.last_run_id,
        documents=state.documents,
        failures=state.failures,
        refused=state.refused,
        days=[Day(day=day, imported=imported) for day, imported in state.days],
        created_at=source.created_at,
        updated_at=source.updated_at,
        notice=notice,
    )
