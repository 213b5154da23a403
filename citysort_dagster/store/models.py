"""The tables of the documents database. All times are UTC."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware UTC times in Python, on databases with and without time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime(),
        dict[str, Any]: sa.JSON(),
        list[str]: sa.JSON(),
        int: sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    }


class ConnectorConfig(Base):
    """A configured source. Secrets in `config_json` are encrypted or references."""

    __tablename__ = "connector_configs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    connector_type: Mapped[str]
    config_json: Mapped[dict[str, Any]]
    enabled: Mapped[bool]
    schedule: Mapped[str | None]
    description: Mapped[str | None]
    owners: Mapped[list[str]]
    tags: Mapped[dict[str, Any]]
    group_name: Mapped[str]
    partitions_per_run: Mapped[int | None]
    origin: Mapped[str] = mapped_column(server_default="file")
    """file (sources.yaml, which alone changes it) or console (the console and the HTTP API)."""
    watermark: Mapped[datetime | None]
    """Up to where the source was listed completely; None: never, or its configuration has changed."""
    last_sync_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class SourceCheckpoint(Base):
    """Where the last complete listing of a source's changes came to, for connectors that know such a thing."""

    __tablename__ = "source_checkpoints"

    source: Mapped[str] = mapped_column(
        sa.ForeignKey("connector_configs.name", ondelete="CASCADE"), primary_key=True
    )
    checkpoint: Mapped[str]
    """The connector's own. No credential, but shown to nobody: it may hold links."""
    configured_at: Mapped[datetime]
    """`updated_at` of the source then: a source that was changed since has to be listed whole."""


class SyncLogEntry(Base):
    """The newest imported version of each document of each source."""

    __tablename__ = "connector_sync_log"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy reads it from the class

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    document_id: Mapped[str] = mapped_column(sa.ForeignKey("documents.id"))
    synced_at: Mapped[datetime]
    run_id: Mapped[str]
    gone_at: Mapped[datetime | None]
    """The tombstone: when the document was found to be gone from the source; None while it is there."""


class Document(Base):
    """One version of a document. Never removed, its file never altered."""

    __tablename__ = "documents"
    __table_args__ = (
        sa.Index("documents_by_source", "source", "external_id"),
        sa.Index("documents_by_stage", "stage", "partition"),
        sa.Index("documents_by_department", "department", "status"),
        sa.Index("documents_by_run", "run_id"),
        sa.Index("documents_by_import", "imported_at", "id"),
        sa.Index("documents_by_source_import", "source", "imported_at", "id"),
        sa.Index("documents_by_status_import", "status", "imported_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    connector_type: Mapped[str]
    external_id: Mapped[str]
    version: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str | None]
    size: Mapped[int]
    sha256: Mapped[str]
    path: Mapped[str] = mapped_column(unique=True)
    source_url: Mapped[str | None]
    source_modified_at: Mapped[datetime | None]
    source_metadata: Mapped[dict[str, Any]]
    partition: Mapped[str]
    run_id: Mapped[str]
    imported_at: Mapped[datetime]
    supersedes: Mapped[str | None]
    superseded_by: Mapped[str | None]
    status: Mapped[str]
    """ingested, routed, needs_review or failed."""
    stage: Mapped[str]
    """The last stage passed: imported, extracted, classified or queued."""
    doc_type: Mapped[str | None]
    confidence: Mapped[float | None]
    urgency: Mapped[str | None]
    department: Mapped[str | None]
    fields: Mapped[dict[str, Any]]
    review_reasons: Mapped[list[str]]
    due_date: Mapped[date | None]
    decision: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    """What a person decided, which holds however often the document is processed: doc_type, department,
    the fields they set, and by whom. None: nobody has."""


class DocumentText(Base):
    """The text of a document, or why there is none."""

    __tablename__ = "document_texts"

    document_id: Mapped[str] = mapped_column(sa.ForeignKey("documents.id"), primary_key=True)
    text: Mapped[str]
    media_type: Mapped[str | None]
    pages: Mapped[int | None]
    truncated: Mapped[bool]
    problem: Mapped[str | None]


class ImportFailure(Base):
    """A listed document that is not imported: failed (tried again) or refused (by rule)."""

    __tablename__ = "import_failures"
    __table_args__ = (sa.Index("import_failures_by_next_try", "next_try_at"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    filename: Mapped[str]
    partition: Mapped[str]
    reason: Mapped[str]
    refused: Mapped[bool]
    attempts: Mapped[int]
    first_failed_at: Mapped[datetime]
    last_failed_at: Mapped[datetime]
    next_try_at: Mapped[datetime | None]
    """None: refused, so not tried again by itself."""
    run_id: Mapped[str]


class Import(Base):
    """One import of a source: what it was asked for and what came of it."""

    __tablename__ = "imports"
    __table_args__ = (sa.Index("imports_by_source", "source", "started_at"),)

    run_id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    window_start: Mapped[datetime | None]
    window_end: Mapped[datetime | None]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    status: Mapped[str]
    """running, complete, limited (cut short by its limit), incomplete (the listing broke off), failed, or
    interrupted (its run ended before it did)."""
    error: Mapped[str | None]
    listed: Mapped[int]
    imported: Mapped[int]
    skipped: Mapped[int]
    failed: Mapped[int]
    bytes: Mapped[int]


class AuditEvent(Base):
    """What happened, when, to which document, in which run, by whom. Only ever added to."""

    __tablename__ = "audit_events"
    __table_args__ = (
        sa.Index("audit_events_by_document", "document_id"),
        sa.Index("audit_events_by_run", "run_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    event: Mapped[str]
    actor: Mapped[str]
    document_id: Mapped[str | None]
    source: Mapped[str | None]
    run_id: Mapped[str | None]
    details: Mapped[dict[str, Any]]


class ApiToken(Base):
    """Who may use the HTTP API and the console, and as what. The token itself is kept nowhere."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    hash: Mapped[str] = mapped_column(unique=True)
    """SHA-256 (hex) of the token, which is random enough to need no slower one."""
    role: Mapped[str]
    """viewer, operator or admin."""
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Session(Base):
    """Somebody signed in with a browser."""

    __tablename__ = "sessions"

    hash: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 (hex) of the cookie."""
    token_id: Mapped[int] = mapped_column(sa.ForeignKey("api_tokens.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class RunOverride(Base):
    """A configuration for one run only, encrypted. The run that opens it removes it."""

    __tablename__ = "run_overrides"

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    sealed: Mapped[str]
    expires_at: Mapped[datetime]
