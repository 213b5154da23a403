"""A configured source as Dagster sees it: a resource, and a partitioned asset that imports it."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from citysort_dagster.days import parse_day
from citysort_dagster.files import FileStoreError
from citysort_dagster.import_batch import Counts, ImportRequest
from citysort_dagster.importer import Importer, ImportSummary, covers
from citysort_dagster.installation import Installation
from citysort_dagster.instance import end_interrupted_imports
from citysort_dagster.partitions import Calendar
from citysort_dagster.reconcile import reconcile
from citysort_dagster.run_overrides import OVERRIDE_TAG, OverrideGone, opened
from citysort_dagster.secrets import SecretUnavailable
from citysort_dagster.source_checks import check_source, source_check_specs
from citysort_dagster.source_configs import (
    SourceConfig,
    UnknownSource,
    connector_for,
    get_source,
    known_source,
)
from citysort_dagster.store import checkpoints
from citysort_dagster.store.database import DatabaseError
from citysort_dagster.store.models import Document
from citysort_dagster.store.sync_log import OVERLAP
from connectors import connector_class
from connectors.base import ConfigurationError, Connector, ConnectorError, Window, unexpected

PARTITION_TAG = "dagster/partition"
PARTITION_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""By these tags Dagster knows what partitions a run is for."""

IMPORTED_TAG = "citysort/imported"
"""Tells the runs that brought documents from those that found nothing new."""

SHOWN_DOCUMENTS = 20
SHOWN_PROBLEMS = 100


on_progress: ContextVar[Callable[[Counts], None]] = ContextVar("on_progress", default=lambda counts: None)
"""Told now and then how an import in this process stands."""


class ImportConfig(dg.Config):
    """What a person may choose when launching an import. Nothing here can do harm."""

    limit: int | None = Field(
        default=None,
        description="Download at most this many documents, the newest first where possible.",
    )
    reimport: bool = Field(
        default=False, description="Download known documents again and compare them with what is stored."
    )
    refresh: bool = Field(
        default=False, description="List only what has changed since the source was last listed completely."
    )
    date_from: str | None = Field(default=None, description="First day to list (UTC, YYYY-MM-DD).")
    date_to: str | None = Field(default=None, description="Last day to list (UTC, YYYY-MM-DD).")


def asset_key(source: str) -> dg.AssetKey:
    """The key of the asset of a source."""
    return dg.AssetKey(["sources", source])


def resource_key(source: str) -> str:
    """The key of the resource of a source."""
    return f"source_{source}"


@dataclass(frozen=True)
class SourceConnector:
    """The resource of a source: opens its connector, in the run that needs it.

    It takes no configuration from Dagster: nothing of it can be shown in a page, kept in run
    storage, or overridden by whoever launches a run.
    """

    source: str

    @contextmanager
    def open(self, installation: Installation, override: str | None = None) -> Iterator[Connector]:
        """The connector with the settings that the source has now, secrets included; or with those of
        an `override`, which serves once.

        Raises dagster.Failure with one sentence when the source has been removed or disabled since
        the run was launched, or cannot be used as it is configured. What nobody foresaw comes out
        as one as well, with where it happened but without its text, which may hold anything.
        """
        try:
            source = known_source(installation.database, self.source)
        except UnknownSource:
            raise _failure(self.source, "it has been removed, nothing was imported") from None
        if not source.enabled:
            raise _failure(
                self.source,
                f"it is disabled, nothing was imported; `citysort sources enable {self.source}` enables it",
            )
        try:
            if override is not None:
                source = opened(installation.database, installation.settings, source, override)
            connector = connector_for(source, installation.settings)
        except (OverrideGone, SecretUnavailable) as error:
            raise _failure(self.source, str(error)) from None
        except ConfigurationError as error:
            raise _failure(self.source, str(error).removeprefix(f"source {self.source}: ")) from None
        try:
            try:
                yield connector
            finally:
                connector.close()
        except (ConnectorError, DatabaseError, FileStoreError, dg.Failure, dg.DagsterError):
            raise
        except Exception as error:  # noqa: BLE001 - Dagster would keep its text, and show it
            where = dg.MetadataValue.md(f"```\n{_stack(error)}```")
            raise _failure(self.source, unexpected(error), {"stack": where}) from None


def build_source_resource(source: SourceConfig) -> dg.ResourceDefinition:
    """The connector of a source as a Dagster resource."""
    return dg.ResourceDefinition(
        lambda _context: SourceConnector(source.name),
        config_schema={},
        description=f"The {source.connector_type} connector of the source {source.name}.",
    )


def _failure(source: str, sentence: str, metadata: Mapping[str, Any] | None = None) -> dg.Failure:
    # Run retries are for crashed processes; what a person must mend is not mended by trying again.
    return dg.Failure(f"Source {source}: {sentence}.", metadata=metadata, allow_retries=False)


def _stack(error: BaseException | None) -> str:
    """Where an error and those behind it happened: lines of programs and kinds of errors, no values."""
    lines: list[str] = []
    while error is not None:
        lines[:0] = [*traceback.format_tb(error.__traceback__), f"{type(error).__name__}\n"]
        error = error.__cause__ or error.__context__
    return "".join(lines)


def build_source_asset(source: SourceConfig, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The asset of a source: materializing it imports the documents of its partitions, and its
    checks follow. They can be run alone as well.

    Raises ConfigurationError for an unknown connector and dagster.DagsterError for owners, tags or
    a group that Dagster does not accept.
    """

    key = asset_key(source.name)
    spec = dg.AssetSpec(
        key,
        group_name=source.group_name,
        kinds={connector_class(source.connector_type).kind},
        owners=list(source.owners),
        tags={**source.tags, "citysort/connector": source.connector_type},
        description=_describe(source),
        # An import that is cut short or breaks off materializes the partitions that it completed.
        skippable=True,
    )

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[spec],
        check_specs=source_check_specs(key),
        can_subset=True,
        partitions_def=partitions,
        backfill_policy=(
            dg.BackfillPolicy.multi_run(source.partitions_per_run)
            if source.partitions_per_run
            else dg.BackfillPolicy.single_run()
        ),
        required_resource_keys={"installation", resource_key(source.name)},
        pool=resource_key(source.name),
    )
    def import_source(
        context: dg.AssetExecutionContext, config: ImportConfig
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        installation: Installation = context.resources.installation
        end_interrupted_imports(context.instance, installation.database)
        if context.selected_asset_keys:
            resource: SourceConnector = getattr(context.resources, resource_key(source.name))
            configured = get_source(installation.database, source.name)
            with resource.open(installation, context.run.tags.get(OVERRIDE_TAG)) as connector:
                yield from _import(
                    context,
                    config,
                    source.name,
                    connector,
                    installation,
                    configured.updated_at if configured else None,
                )
        try:
            yield from check_source(
                installation,
                source.name,
                {check.name for check in context.selected_asset_check_keys},
                context.run.run_id if context.selected_asset_keys else None,
            )
        except UnknownSource:
            raise _failure(source.name, "it has been removed") from None

    return import_source


def build_broken_source_asset(
    source: SourceConfig, partitions: dg.PartitionsDefinition[str], reason: str
) -> dg.AssetsDefinition:
    """The asset of a source that cannot be shown as configured: it says why, and so do its runs."""

    @dg.asset(
        key=asset_key(source.name), partitions_def=partitions, description=f"**Cannot be used:** {reason}"
    )
    def broken_source(context: dg.AssetExecutionContext) -> None:
        raise _failure(source.name, reason)

    return broken_source


def _describe(source: SourceConfig) -> str:
    schedule = f"refreshed on the schedule `{source.schedule}` (UTC)" if source.schedule else "no schedule"
    state = "" if source.enabled else " **Disabled.**"
    return (
        f"{source.description or ''}\n\nDocuments of the source `{source.name}` "
        f"(connector `{source.connector_type}`, {schedule}).{state}"
    ).strip()


def _import(
    context: dg.AssetExecutionContext,
    config: ImportConfig,
    source: str,
    connector: Connector,
    installation: Installation,
    configured_at: datetime | None,
) -> Iterator[dg.AssetMaterialization]:
    calendar = installation.calendar
    try:
        keys = _partitions(context, calendar)
        window, partitions = _narrow(config, source, connector, installation, calendar.window(keys), keys)
    except ValueError as error:
        raise _failure(source, str(error)) from None
    overridden = OVERRIDE_TAG in context.run.tags
    changes = config.refresh and connector.keeps_checkpoint and not overridden
    with installation.database.read() as connection:
        checkpoint = checkpoints.load(connection, source) if changes else None
    request = ImportRequest(
        source,
        context.run.run_id,
        window,
        partitions,
        config.limit,
        config.reimport,
        configured_at,
        overridden,
        changes,
        checkpoint,
    )
    importer = Importer(
        request, connector, installation.database, installation.files, calendar, on_progress.get()
    )
    began = time.monotonic()
    summary = importer.summary
    complete: list[str] = []  # the last of them is told with the totals
    failure = None
    tagged = False

    def materialized(partition: str, totals: Mapping[str, Any]) -> dg.AssetMaterialization:
        nonlocal tagged
        if not tagged and summary.counts.imported:
            context.instance.add_run_tags(context.run.run_id, {IMPORTED_TAG: "yes"})
            tagged = True
        # What is materialized looks as if it had been imported whole.
        by_dates = window if config.date_from or config.date_to else None
        if by_dates is not None and not covers(by_dates, calendar.window([partition])):
            totals = {"narrowed_by_dates": True, **totals}
        return _materialization(source, context, installation, summary, partition, totals)

    try:
        for partition in importer.run():
            counts = summary.partitions.get(partition, Counts())
            if partition not in keys and not (counts.imported or counts.failed):
                continue
            if complete:
                yield materialized(complete[-1], {})
            complete.append(partition)
    except ConfigurationError as error:
        failure = str(error)
    except (DatabaseError, FileStoreError) as error:
        raise _failure(source, str(error)) from None
    if summary.incomplete:
        failure = (
            f"it could not be listed completely ({summary.incomplete}); {summary.counts.imported} of the documents "
            "listed before were imported, the next import goes on from there"
        )
    totals = _totals(installation, source, summary.counts, time.monotonic() - began)
    if connector.warnings:
        totals["warnings"] = "; ".join(connector.warnings)
        context.log.warning(f"Source {source}: {totals['warnings']}.")
    if summary.started_over and failure is None:
        totals |= _reconciled(context, installation, source, connector)
    if complete:
        yield materialized(complete[-1], totals)
    if failure is not None:
        raise _failure(source, failure, {**totals, "problems": _problems(summary, None)})
    if summary.limited:
        context.log.warning(
            f"Source {source}: cut short by the limit of {config.limit} documents; there are more to import."
        )
        touched = {partition for partition, counts in summary.partitions.items() if counts.listed}
        for partition in sorted(touched - set(complete)):
            yield materialized(partition, {"cut_short_by_limit": True, **totals})


def _partitions(context: dg.AssetExecutionContext, calendar: Calendar) -> Sequence[str]:
    """The keys of the partitions that the run is for, ascending.

    Taken from the run's tags, as `context.partition_keys` holds the nearest ones for a key that
    does not exist. Raises ValueError, saying what is wrong.
    """
    tags = context.run.tags
    named = [tags[tag] for tag in (PARTITION_TAG, *PARTITION_RANGE_TAGS) if tag in tags]
    if not named:
        raise ValueError("the run names no partition: choose one, or several, when launching it")
    calendar.window(named)
    first, last = calendar.keys.index(named[0]), calendar.keys.index(named[-1])
    if first > last:
        raise ValueError(f"the partitions are the wrong way round: {named[0]} is after {named[-1]}")
    return calendar.keys[first : last + 1]


def _narrow(
    config: ImportConfig,
    source: str,
    connector: Connector,
    installation: Installation,
    asked: Window,
    partitions: Sequence[str],
) -> tuple[Window | None, Sequence[str]]:
    """The window to list, and the partitions that it can complete. Raises ValueError."""
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"the limit is {config.limit}, it must be at least 1")
    if config.refresh:
        if not connector.windowed or connector.keeps_checkpoint:
            # Whatever it lists is taken: documents that turn up with an old date as well.
            return None, partitions
        watermark = known_source(installation.database, source).watermark
        if watermark is None:
            return asked, partitions
        return Window(watermark - OVERLAP, asked.end), partitions
    starts = [start for start in (_day(config.date_from), asked.start) if start]
    ends = [end for end in (_day(config.date_to, after=True), asked.end) if end]
    return Window(max(starts, default=None), min(ends, default=None)), partitions


def _day(text: str | None, after: bool = False) -> datetime | None:
    if text is None:
        return None
    day = parse_day(text)
    midnight = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    return midnight + timedelta(days=1) if after else midnight


def _materialization(
    source: str,
    context: dg.AssetExecutionContext,
    installation: Installation,
    summary: ImportSummary,
    partition: str,
    totals: Mapping[str, Any],
) -> dg.AssetMaterialization:
    counts = summary.partitions.get(partition, Counts())
    metadata: dict[str, Any] = {
        "listed": counts.listed,
        "imported": counts.imported,
        "skipped": counts.skipped,
        "failed": counts.failed,
        "bytes": counts.bytes,
        "dagster/partition_row_count": counts.imported,
        **totals,
    }
    if counts.imported:
        metadata["documents"] = _documents(installation, context.run.run_id, partition)
    if any(problem.partition == partition for problem in summary.problems):
        metadata["problems"] = _problems(summary, partition)
    return dg.AssetMaterialization(asset_key=asset_key(source), partition=partition, metadata=metadata)


def _totals(installation: Installation, source: str, counts: Counts, seconds: float) -> dict[str, Any]:
    with installation.database.read() as connection:
        documents, size = connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(Document.size), 0)).where(
                Document.source == source
            )
        ).one()
    return {
        "run_listed": counts.listed,
        "run_imported": counts.imported,
        "run_skipped": counts.skipped,
        "run_failed": counts.failed,
        "run_bytes": counts.bytes,
        "run_seconds": round(seconds, 3),
        "source_documents": documents,
        "source_bytes": int(size),
    }


def _reconciled(
    context: dg.AssetExecutionContext, installation: Installation, source: str, connector: Connector
) -> dict[str, Any]:
    """Marks what is gone, after the source no longer knew what had changed. Nothing else depends on it."""
    try:
        found = reconcile(installation.database, source, connector, context.run.run_id)
        refusal = found.refusal
    except (ConnectorError, DatabaseError) as error:
        found, refusal = None, str(error)
    if found is None or refusal is not None:
        context.log.warning(f"Source {source}: it was listed whole, but not reconciled: {refusal}.")
        return {"started_over": True}
    return {"started_over": True, "run_gone": found.gone, "run_returned": found.returned}


def _documents(installation: Installation, run_id: str, partition: str) -> dg.MetadataValue[Any]:
    with installation.database.read() as connection:
        rows = connection.execute(
            sa.select(Document.id, Document.filename, Document.source_url, Document.size)
            .where(Document.run_id == run_id, Document.partition == partition)
            .order_by(Document.imported_at, Document.id)
            .limit(SHOWN_DOCUMENTS)
        ).all()
    lines = [
        f"| `{row.id}` | {_cell(row.filename)} | {row.size:,} | {_cell(row.source_url or '')} |"
        for row in rows
    ]
    table = "\n".join(["| document | file name | bytes | at the source |", "|---|---|--:|---|", *lines])
    return dg.MetadataValue.md(
        f"{table}\n\nAll of this run: `citysort documents list --run {run_id}`; "
        "the lineage of one: `citysort documents show DOCUMENT`."
    )


def _problems(summary: ImportSummary, partition: str | None) -> dg.MetadataValue[Any]:
    problems = [one for one in summary.problems if partition in (None, one.partition)][:SHOWN_PROBLEMS]
    lines = [
        f"| {_cell(one.document.external_id)} | {_cell(one.document.filename)} | "
        f"{'refused' if one.refused else 'failed'} | {_cell(one.reason)} |"
        for one in problems
    ]
    table = "\n".join(["| external id | file name | outcome | reason |", "|---|---|---|---|", *lines])
    return dg.MetadataValue.md(f"{table}\n\nAll of them: `citysort failures list`.")


def _cell(text: str) -> str:
    """Text that stays inside its Markdown cell and renders as nothing but text."""
    text = "".join(character if character.isprintable() else "�" for character in text)[:200]
    for character in "\\`*_{}[]<>|#!~":
        text = text.replace(character, f"\\{character}")
    return text.replace("\\<", "&lt;").replace("\\>", "&gt;")
