"""Real Dagster runs, executed by the command line in its own process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any, NamedTuple

import dagster as dg
import sqlalchemy as sa

from citysort_dagster.import_batch import Counts
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import PROCESS_TAG, open_instance, process_of, step_failure, this_process
from citysort_dagster.reload import running_url
from citysort_dagster.run_overrides import OVERRIDE_TAG
from citysort_dagster.settings import Settings
from citysort_dagster.source_configs import known_source
from citysort_dagster.store import documents
from citysort_dagster.store.models import AuditEvent, Import, ImportFailure
from citysort_dagster.store.sync_log import now
from connectors.base import ConfigurationError, Window

WAIT_SECONDS = 2.0

NOT_TAKEN_UP = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
"""How runs stand that Dagster's daemon has not launched yet."""


class ImportOutcome(NamedTuple):
    """What came of an import. `skipped` includes refused documents; `errors` are the failed ones,
    each with external_id, filename and reason. `incomplete` says why the source could not be listed
    completely, `failure` why the run failed otherwise; both are None when all went well. `warnings` are
    what nothing failed of and a person should know."""

    source: str
    run_id: str
    imported: int
    skipped: int
    failed: int
    errors: Sequence[Mapping[str, str]]
    limited: bool
    incomplete: str | None
    failure: str | None
    warnings: Sequence[str]


class ProcessOutcome(NamedTuple):
    """What came of a run of the ingestion pipeline: how many documents waited for it, and why it failed."""

    run_id: str | None
    waiting: int
    failure: str | None


def import_source(
    name: str,
    *,
    date_from: date | None = None,
    date_to: date | None = None,
    limit: int | None = None,
    reimport: bool = False,
    run_id: str | None = None,
    override: str | None = None,
    on_progress: Callable[[Counts], None] = lambda counts: None,
    on_wait: Callable[[str], None] = lambda run_id: None,
) -> ImportOutcome:
    """Imports a source over the partitions that the dates (UTC, both inclusive) touch, in one run.

    `run_id` is the id of the run, a new one by default; `override` that of a configuration for it.
    Waits while another import of the source is under way, calling `on_wait` with its run id once.
    Raises UnknownSource, and ConfigurationError for a source that is disabled or dates that cannot be.
    """
    from citysort_dagster import source_assets
    from citysort_dagster.automation import SOURCE_TAG, import_job_name, partition_range_tags

    with open_installation() as installation:
        source = known_source(installation.database, name)
        if not source.enabled:
            raise ConfigurationError(
                f"the source {name} is disabled; `citysort sources enable {name}` enables it"
            )
        keys, config = run_for_days(installation, date_from, date_to, limit, reimport)
        op = source_assets.asset_key(name).to_python_identifier()
        tags = {**partition_range_tags(keys), SOURCE_TAG: name}
        if override is not None:
            tags[OVERRIDE_TAG] = override
        token = source_assets.on_progress.set(on_progress)
        try:
            with open_instance(installation.settings) as instance:
                _wait_for_others(instance, installation.settings, name, on_wait)
                ended = _execute(
                    instance,
                    import_job_name(name),
                    tags=tags,
                    run_config={"ops": {op: {"config": config}}},
                    run_id=run_id,
                )
        finally:
            source_assets.on_progress.reset(token)
        return _outcome(installation, name, ended)


def run_for_days(
    installation: Installation,
    date_from: date | None,
    date_to: date | None,
    limit: int | None,
    reimport: bool = False,
) -> tuple[Sequence[str], dict[str, Any]]:
    """The partitions that the dates touch, and the configuration of a run that imports what lies between.

    Raises ConfigurationError for dates that cannot be.
    """
    window = Window(_midnight(date_from), _midnight(date_to + timedelta(days=1)) if date_to else None)
    if window.start and window.end and window.start >= window.end:
        raise ConfigurationError(f"--from {date_from} is after --to {date_to}")
    config = {
        "limit": limit,
        "reimport": reimport,
        "date_from": date_from.isoformat() if date_from else None,
        "date_to": date_to.isoformat() if date_to else None,
    }
    return installation.calendar.between(window), {k: v for k, v in config.items() if v is not None}


def cancel_waiting_imports(installation: Installation, source: str) -> int:
    """Ends the runs that wait in the queue to import a source that has been removed; how many."""
    from citysort_dagster.automation import imports_under_way

    with open_instance(installation.settings) as instance:
        waiting = [
            run for run in imports_under_way(instance, source) if run.status == dg.DagsterRunStatus.QUEUED
        ]
        for run in waiting:
            instance.report_run_canceled(run, f"Source {source}: it has been removed, nothing was imported.")
    return len(waiting)


def process() -> ProcessOutcome:
    """Takes all documents that wait for the ingestion pipeline to a queue or to review, in one run."""
    from citysort_dagster.automation import INGESTION_JOB, partition_range_tags

    with open_installation() as installation:
        with installation.database.read() as connection:
            waiting = documents.pending_partitions(connection, now() + timedelta(days=1))
        if not waiting:
            return ProcessOutcome(None, 0, None)
        keys = installation.calendar.holding(waiting)
        with open_instance(installation.settings) as instance:
            ended = _execute(instance, INGESTION_JOB, tags=partition_range_tags(keys))
        return ProcessOutcome(ended.run_id, sum(waiting.values()), ended.failure)


class ReconcileOutcome(NamedTuple):
    """What came of a reconciliation: how many documents are newly gone from the source or back at it, how many
    no import had met, and why nothing was marked."""

    run_id: str
    gone: int
    returned: int
    missed: int
    failure: str | None


def reconcile_source(name: str, max_lost_share: float | None = None) -> ReconcileOutcome:
    """Lists a source whole and marks the documents that are gone from it, in one run.

    `max_lost_share` is the share of its documents, from 0 to 1, that is believed gone at once.
    Raises UnknownSource, and ConfigurationError for a source that is disabled.
    """
    from citysort_dagster.reconciliation_asset import RECONCILIATION_JOB

    with open_installation() as installation:
        if not known_source(installation.database, name).enabled:
            raise ConfigurationError(
                f"the source {name} is disabled; `citysort sources enable {name}` enables it"
            )
        config: dict[str, Any] = {"sources": [name]}
        if max_lost_share is not None:
            config["max_lost_share"] = max_lost_share
        with open_instance(installation.settings) as instance:
            run_id, failure, _ = _execute(
                instance, RECONCILIATION_JOB, {}, {"ops": {"reconciliation": {"config": config}}}
            )
        with installation.database.read() as connection:
            events = sa.select(AuditEvent.event, sa.func.count()).where(AuditEvent.run_id == run_id)
            counts = dict(connection.execute(events.group_by(AuditEvent.event)).tuples().all())
            missed = connection.execute(
                sa.select(AuditEvent.details).where(AuditEvent.run_id == run_id, AuditEvent.event == "missed")
            ).scalar()
        return ReconcileOutcome(
            run_id,
            counts.get("gone from the source", 0),
            counts.get("back at the source", 0),
            missed["documents"] if missed else 0,
            failure,
        )


def imports_ahead(instance: dg.DagsterInstance, settings: Settings, source: str) -> list[dg.DagsterRun]:
    """The runs that an import of the source has to wait for, the latest first.

    Without `citysort up` nobody takes a run from the queue: nothing waits for those in it.
    """
    from citysort_dagster.automation import imports_under_way

    runs = imports_under_way(instance, source)
    if running_url(settings) is not None:
        return list(runs)
    return [run for run in runs if run.status not in NOT_TAKEN_UP or process_of(run) is not None]


def _wait_for_others(
    instance: dg.DagsterInstance, settings: Settings, source: str, on_wait: Callable[[str], None]
) -> None:
    told = False
    while runs := imports_ahead(instance, settings, source):
        if not told:
            on_wait(runs[0].run_id)
            told = True
        time.sleep(WAIT_SECONDS)


class _Ended(NamedTuple):
    """A finished run: its id, the sentence of its failure if it failed, and what it warned of."""

    run_id: str
    failure: str | None
    warnings: Sequence[str]


def _execute(
    instance: dg.DagsterInstance,
    job_name: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None = None,
    run_id: str | None = None,
) -> _Ended:
    from citysort_dagster.definitions import build_definitions

    job = build_definitions().resolve_job_def(job_name)
    run_id = run_id or str(uuid.uuid4())
    result = job.execute_in_process(
        instance=instance,
        # What a person should read is printed by the command; all of it is in the run's own log.
        run_config={**(run_config or {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={**tags, PROCESS_TAG: this_process(instance, run_id)},
        raise_on_error=False,
        run_id=run_id,
    )
    warned = {
        str(event.materialization.metadata["warnings"].value): None
        for event in result.all_events
        if event.is_step_materialization and "warnings" in event.materialization.metadata
    }
    failure = None
    if not result.success:
        failures = (event for event in result.all_events if event.is_step_failure)
        told = step_failure(failures, f"unexpected {{}}: run {result.run_id} has the details")
        failure = told or f"run {result.run_id} failed; its log has the details"
    return _Ended(result.run_id, failure, list(warned))


def _outcome(installation: Installation, name: str, ended: _Ended) -> ImportOutcome:
    run_id, failure, warnings = ended
    with installation.database.read() as connection:
        row = connection.execute(
            sa.select(Import).where(Import.run_id == run_id, Import.source == name)
        ).first()
        errors = connection.execute(
            sa.select(ImportFailure.external_id, ImportFailure.filename, ImportFailure.reason)
            .where(
                ImportFailure.run_id == run_id, ImportFailure.source == name, ImportFailure.refused.is_(False)
            )
            .order_by(ImportFailure.external_id)
        ).mappings()
        listed = [dict(error) for error in errors]
    if row is None:
        return ImportOutcome(name, run_id, 0, 0, 0, [], False, None, failure, warnings)
    incomplete = row.error if row.status == "incomplete" else None
    return ImportOutcome(
        name,
        run_id,
        row.imported,
        row.skipped,
        row.failed,
        listed,
        limited=row.status == "limited",
        incomplete=incomplete,
        failure=None if incomplete else failure,
        warnings=warnings,
    )


def _midnight(day: date | None) -> datetime | None:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc) if day else None
