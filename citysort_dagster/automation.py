"""What keeps the documents flowing by itself: schedules and sensors, all of them running by default."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import dagster as dg
import requests

from citysort_dagster.freshness import freshness
from citysort_dagster.ingestion_assets import INGESTION
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import end_interrupted_imports, step_failure, unfinished_runs
from citysort_dagster.news import find_news
from citysort_dagster.source_assets import (
    PARTITION_RANGE_TAGS,
    PARTITION_TAG,
    SourceConnector,
    asset_key,
)
from citysort_dagster.source_checks import FRESH
from citysort_dagster.source_configs import SourceConfig, UnknownSource, known_source, load_sources
from citysort_dagster.store import checkpoints, documents, sync_log
from connectors.base import ConnectorError

SOURCE_TAG = "citysort/source"
INGESTION_JOB = "ingestion"

LOOK_SECONDS = 40
"""A sensor may look this long; Dagster ends one after sixty seconds."""

ANSWER_SECONDS = 5
"""How much longer its last answer may take."""

SHARE_OF_TIME = 20
"""A look that took long is repeated only after twenty times as long."""

LONGEST_WAIT_SECONDS = 2 * LOOK_SECONDS * SHARE_OF_TIME

LEFT_BEHIND_AFTER = timedelta(minutes=3)
WAIT_AFTER_FAILED_IMPORT = timedelta(minutes=10)

WAITS_AFTER_FAILED_INGESTION = [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16, 32, 60)]
"""How long the next run waits after one that failed, two in a row, and so on."""

WEBHOOK_SECONDS = 10


def import_job_name(source: str) -> str:
    """The name of the job that imports a source."""
    return f"import_{source}"


def import_request(source: str, partitions: Sequence[str], refresh: bool = False) -> dg.RunRequest:
    """A run that imports these partitions (ascending, gaps are filled) of a source."""
    config = {"ops": {asset_key(source).to_python_identifier(): {"config": {"refresh": refresh}}}}
    return dg.RunRequest(
        job_name=import_job_name(source),
        run_config=config,
        tags={**partition_range_tags(partitions), SOURCE_TAG: source},
    )


def partition_range_tags(partitions: Sequence[str]) -> dict[str, str]:
    """The tags of one run for all partitions from the first to the last."""
    return dict(zip(PARTITION_RANGE_TAGS, (partitions[0], partitions[-1]), strict=True))


def imported_sources(run: dg.DagsterRun) -> set[str]:
    """The names of the sources that a run imports, from whatever page it was launched."""
    named = {run.tags[SOURCE_TAG]} if SOURCE_TAG in run.tags else set()
    selected = {key for key in run.asset_selection or () if key == asset_key(key.path[-1])}
    return named | {key.path[-1] for key in selected}


def imports_under_way(instance: dg.DagsterInstance, source: str) -> Sequence[dg.DagsterRun]:
    """The queued and running runs that import a source, the latest first."""
    return [run for run in unfinished_runs(instance) if source in imported_sources(run)]


def build_source_schedule(source: SourceConfig) -> dg.ScheduleDefinition:
    """Refreshes a source when its cron (UTC) says."""

    def refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if imports_under_way(context.instance, source.name):
            return dg.SkipReason(f"An import of {source.name} is under way or queued.")
        with open_installation() as installation:
            try:
                partitions = _refresh_partitions(installation, source.name)
            except UnknownSource:
                return dg.SkipReason(f"The source {source.name} has been removed.")
        return import_request(source.name, partitions, refresh=True)

    return dg.ScheduleDefinition(
        name=f"schedule_{source.name}",
        job_name=import_job_name(source.name),
        cron_schedule=source.schedule,
        execution_timezone="UTC",
        execution_fn=refresh,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Refreshes the source {source.name}.",
    )


def build_news_sensor(source: SourceConfig) -> dg.SensorDefinition:
    """Asks a source for news and imports the partitions concerned."""

    @dg.sensor(
        name=f"news_of_{source.name}",
        job_name=import_job_name(source.name),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Asks the source {source.name} for documents that are not imported yet.",
    )
    def news_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # A cursor far ahead comes from a clock that was wrong.
        if context.cursor and 0 < float(context.cursor) - time.time() < LONGEST_WAIT_SECONDS:
            return dg.SensorResult(
                skip_reason="The last look took long; the next one waits.", cursor=context.cursor
            )
        if imports_under_way(context.instance, source.name):
            return dg.SensorResult(skip_reason="An import is under way or queued.")
        began = time.time()
        request, reason = _look_in_time(source.name)
        took = time.time() - began
        return dg.SensorResult(
            run_requests=[request] if request else [],
            skip_reason=None if request else reason,
            cursor=str(began + took * SHARE_OF_TIME),
        )

    return news_sensor


def _look_in_time(name: str) -> tuple[dg.RunRequest | None, str]:
    """What to request, or why nothing.

    A source that does not answer is left to a thread that nobody waits for: those that serve Dagster
    are few, and without them no run is launched. It is imported then, where it may take its time.
    """
    found: list[tuple[dg.RunRequest | None, str]] = []
    failure: list[Exception] = []

    def look() -> None:
        try:
            with open_installation() as installation:
                found.append(_look(installation, name))
        except UnknownSource:
            found.append((None, "The source has been removed."))
        except Exception as error:  # noqa: BLE001 - raised below, where Dagster shows it
            failure.append(error)

    thread = threading.Thread(target=look, name=f"look at {name}", daemon=True)
    thread.start()
    thread.join(LOOK_SECONDS + ANSWER_SECONDS)
    if failure:
        raise failure[0]
    if found:
        return found[0]
    with open_installation() as installation:
        return import_request(name, _refresh_partitions(installation, name), refresh=True), ""


def _look(installation: Installation, name: str) -> tuple[dg.RunRequest | None, str]:
    source = known_source(installation.database, name)
    if not source.enabled:
        return None, "The source is disabled."
    with installation.database.read() as connection:
        failed_at = sync_log.last_import_failed_at(connection, name)
    if failed_at is not None and failed_at > sync_log.now() - WAIT_AFTER_FAILED_IMPORT:
        return None, f"The last import failed at {failed_at:%H:%M:%S} UTC; the next one waits."
    try:
        with SourceConnector(name).open(installation) as connector:
            if source.watermark is None:
                return import_request(name, installation.calendar.keys, connector.keeps_checkpoint), ""
            since = source.watermark - sync_log.OVERLAP if connector.windowed else None
            news = find_news(installation, name, connector, since, LOOK_SECONDS)
    except (ConnectorError, dg.Failure) as error:
        return None, f"The source cannot be asked: {error}"
    if news.partitions:
        return import_request(name, news.partitions, connector.keeps_checkpoint), ""
    reached = news.reached
    if not news.whole or (reached is not None and reached.started_over):
        return import_request(name, _refresh_partitions(installation, name), refresh=True), ""
    if reached is not None:  # all that was listed is known: the next look begins where this one ended
        installation.database.write(
            lambda connection: checkpoints.keep(connection, name, reached.checkpoint, source.updated_at)
        )
    return None, "Nothing new."


def _refresh_partitions(installation: Installation, name: str) -> Sequence[str]:
    """The present one; all when the source was never listed whole.

    The refresh lists from the watermark on, which may be years ago, and materializes further
    partitions only where it finds something: each partition of a run costs time.
    """
    keys = installation.calendar.keys
    return keys if known_source(installation.database, name).watermark is None else keys[-1:]


def build_retry_sensor(jobs: Mapping[str, Any]) -> dg.SensorDefinition:
    """Requests the partitions of failures that are due, from these import jobs by the name of the source."""

    @dg.sensor(
        name="retry_failed_documents",
        jobs=list(jobs.values()),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Imports the partitions of failed documents again, after a delay that grows with each attempt; "
        "records the end of imports whose process was killed.",
    )
    def retry_failed_documents(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        busy = {name for run in unfinished_runs(context.instance) for name in imported_sources(run)}
        with open_installation() as installation:
            end_interrupted_imports(context.instance, installation.database)
            enabled = {source.name for source in load_sources(installation.database) if source.enabled}
            idle = (enabled & set(jobs)) - busy
            due = installation.database.write(lambda connection: sync_log.take_due_failures(connection, idle))
            calendar = installation.calendar
        return dg.SensorResult(
            run_requests=[import_request(source, calendar.holding([key])) for source, key in due]
        )

    return retry_failed_documents


@dg.sensor(
    name="ingest_what_was_left_behind",
    job_name=INGESTION_JOB,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs the ingestion pipeline over documents that have waited for minutes, "
    "so that a missed tick of the automation loses nothing.",
)
def ingest_what_was_left_behind(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Requests the partitions with documents that no run has taken to a queue."""
    if any(
        run.job_name == INGESTION_JOB or set(run.asset_selection or ()) & set(INGESTION)
        for run in unfinished_runs(context.instance)
    ):
        return dg.SkipReason("The ingestion pipeline is at work.")
    with open_installation() as installation, installation.database.read() as connection:
        waiting = documents.pending_partitions(connection, sync_log.now() - LEFT_BEHIND_AFTER)
    if not waiting:
        return dg.SkipReason("No document has been left behind.")
    until = _ingestion_rests_until(context.instance, installation.settings.rules_file)
    if until is not None:
        return dg.SkipReason(f"The ingestion pipeline failed; the next run waits until {until:%H:%M:%S} UTC.")
    return dg.RunRequest(tags=partition_range_tags(installation.calendar.holding(waiting)))


def _ingestion_rests_until(instance: dg.DagsterInstance, rules_file: Path | None) -> datetime | None:
    """When the pipeline is tried again after runs that failed, None when at once: also after one that
    succeeded, and once somebody has changed the rules, which are the likeliest reason."""
    last = instance.get_run_records(
        dg.RunsFilter(job_name=INGESTION_JOB), limit=len(WAITS_AFTER_FAILED_INGESTION)
    )
    failed = list(takewhile(lambda record: record.dagster_run.status == dg.DagsterRunStatus.FAILURE, last))
    if not failed:
        return None
    failed_at = failed[0].update_timestamp
    with suppress(OSError):
        if rules_file is not None and rules_file.stat().st_mtime > failed_at.timestamp():
            return None
    wait = WAITS_AFTER_FAILED_INGESTION[len(failed) - 1]
    # One that failed in a time that is yet to come did so while the clock was wrong.
    return failed_at + wait if failed_at <= sync_log.now() < failed_at + wait else None


@dg.sensor(
    name="freshness_of_sources",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports when a source becomes late against its schedule, and when it is fresh again.",
)
def freshness_of_sources(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Evaluates the freshness checks without a run; reports what has changed since the last look."""
    former = json.loads(context.cursor or "{}")
    evaluations = []
    found = {}
    with open_installation() as installation:
        sources = load_sources(installation.database)
    for source in sources:
        if not (source.enabled and source.schedule):
            continue
        fresh, reason = freshness(source.schedule, source.last_sync_at, source.created_at)
        found[source.name] = fresh
        if former.get(source.name) != fresh:
            evaluations.append(
                dg.AssetCheckEvaluation(
                    asset_key=asset_key(source.name),
                    check_name=FRESH,
                    passed=fresh,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=reason,
                    metadata={},
                )
            )
    return dg.SensorResult(asset_events=evaluations, cursor=json.dumps(found))


@dg.run_failure_sensor(
    name="failed_runs",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes an audit event for every failed run and tells the webhook, if one is configured.",
)
def failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Raises nothing: a webhook that does not answer is an audit event of its own."""
    run = context.dagster_run
    sources = imported_sources(run)
    facts = {
        "run_id": run.run_id,
        "job": run.job_name,
        "source": ", ".join(sorted(sources)) or None,
        "partitions": run.tags.get(PARTITION_TAG)
        or " to ".join(run.tags[tag] for tag in PARTITION_RANGE_TAGS if tag in run.tags),
        "reason": _first_sentence(context),
    }
    with open_installation() as installation:
        removed = sources - {source.name for source in load_sources(installation.database)}
        if removed:
            facts["reason"] = f"Source {', '.join(sorted(removed))}: it has been removed."
        told = tell_webhook(installation.settings.webhook_url.get_secret_value(), facts)
        event = {
            "event": "run failed",
            "source": facts["source"],
            "run_id": run.run_id,
            "details": {**facts, "webhook": told},
        }
        installation.database.write(lambda connection: sync_log.audit(connection, [event]))


def _first_sentence(context: dg.RunFailureSensorContext) -> str:
    """What failed, without the stack trace."""
    events = context.get_step_failure_events()
    told = step_failure(events, "unexpected {}; the run's log in Dagster has it all")
    return told or "the run's process ended unexpectedly"


def tell_webhook(url: str, facts: Mapping[str, Any]) -> str:
    """POSTs the facts; returns what came of it, in words without the address, which may hold a token."""
    if not url:
        return "none configured"
    try:
        response = requests.post(url, json=facts, timeout=WEBHOOK_SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:  # ValueError: no address at all
        return f"not reached ({type(error).__name__})"
    return f"answered {response.status_code}"


COMMON_SENSORS = (ingest_what_was_left_behind, freshness_of_sources, failed_runs)
