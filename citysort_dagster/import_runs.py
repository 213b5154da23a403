"""Imports launched by the console and the API: real Dagster runs, and how they stand.

While `citysort up` runs, its daemon takes them from Dagster's queue, like all others. Else each runs
in a process of its own, as an import of the command line does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import requests
import sqlalchemy as sa

from citysort_dagster.automation import (
    SOURCE_TAG,
    import_job_name,
    imported_sources,
    partition_range_tags,
)
from citysort_dagster.installation import Installation
from citysort_dagster.instance import process_of, python_path, step_failure, unfinished_runs
from citysort_dagster.launch import imports_ahead, run_for_days
from citysort_dagster.reload import CODE_LOCATION, ask, running_url
from citysort_dagster.run_overrides import OVERRIDE_TAG, drop_override, keep_override
from citysort_dagster.source_assets import asset_key
from citysort_dagster.source_configs import SourceConfig
from citysort_dagster.store.models import Import, ImportFailure

MOST_PROCESSES = 4
"""As many runs at once as dagster.yaml allows."""
LAUNCH_SECONDS = 90.0
SHOWN_ERRORS = 100

_RUN_ID = re.compile(r"[A-Za-z0-9-]{1,60}")

_starting: dict[str, tuple[Path, str]] = {}
"""Runs that Dagster does not know yet, for their processes take seconds to begin: data folder and source."""
_choosing = threading.Lock()

_LAUNCH = """mutation Launch($execution: ExecutionParams!) {
  launchRun(executionParams: $execution) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
  }
}"""


class NotLaunched(Exception):
    """An import could not be launched; one sentence. `busy` when it can be a little later."""

    def __init__(self, sentence: str, busy: bool = False) -> None:
        super().__init__(sentence)
        self.busy = busy


@dataclass(frozen=True)
class ImportRun:
    """How an import stands. `status` is queued, running, succeeded, failed or canceled; `message` says
    why it failed or broke off; `errors` are the first documents that failed, each with external_id,
    filename and reason. Times are UTC."""

    run_id: str
    source: str
    status: str
    limited: bool
    listed: int
    imported: int
    skipped: int
    failed: int
    errors: Sequence[Mapping[str, str]]
    message: str | None
    started_at: datetime | None
    finished_at: datetime | None
    dagster_url: str | None

    @property
    def finished(self) -> bool:
        """Whether it is over."""
        return self.status in ("succeeded", "failed", "canceled")


def launch_import(
    installation: Installation,
    instance: dg.DagsterInstance,
    source: SourceConfig,
    *,
    override: Mapping[str, Any] | None = None,
    limit: int | None = None,
    date_from: date | None = None,
    date_to: date | None = None,
) -> str:
    """Launches a run that imports the source, and returns its id.

    `override` is a configuration for this run only, its secrets encrypted. Raises ConfigurationError
    for dates that cannot be, NotLaunched, SecretUnavailable, DatabaseError.
    """
    if not source.enabled:
        raise NotLaunched(f"The source {source.name} is disabled: enable it first.")
    # A server runs for months: its calendar must not be that of when it started.
    keys, config = run_for_days(replace(installation), date_from, date_to, limit)
    kept = None
    if override is not None:
        kept = keep_override(installation.database, installation.settings, source.name, override)
    try:
        url = running_url(installation.settings)
        if url is not None:
            return _launch_in_dagster(url, source.name, keys, config, kept)
        return _launch_process(installation, instance, source.name, config, kept)
    except NotLaunched:
        if kept is not None:
            drop_override(installation.database, kept)
        raise


def import_run(
    installation: Installation, instance: dg.DagsterInstance, run_id: str, source: str | None = None
) -> ImportRun | None:
    """How the import of that run stands; None when it is no run that imports a source, or not this one.

    Of a run that imports several, as the Dagster UI launches them, the source may be named; else it is
    the first of them.
    """
    if not _RUN_ID.fullmatch(run_id):
        return None  # before a database is asked that may not even be able to hold it
    run = instance.get_run_by_id(run_id)
    if run is not None and process_of(run) is not None and not run.is_finished:
        unfinished_runs(instance)  # notices where the process has died
        run = instance.get_run_by_id(run_id)
    with installation.database.read() as connection:
        rows = connection.execute(sa.select(Import).where(Import.run_id == run_id)).all()
        by_source = {row.source: row for row in rows}
        sources = sorted(by_source.keys() | (imported_sources(run) if run is not None else set()))
        name = source or next(iter(sources), None)
        if name not in sources:
            return None
        row = by_source.get(name)
        errors = connection.execute(
            sa.select(ImportFailure.external_id, ImportFailure.filename, ImportFailure.reason)
            .where(
                ImportFailure.run_id == run_id, ImportFailure.source == name, ImportFailure.refused.is_(False)
            )
            .order_by(ImportFailure.external_id)
            .limit(SHOWN_ERRORS)
        ).mappings()
        listed = [dict(error) for error in errors]
    # How a run of several ends says nothing about the one that is over.
    apart = len(sources) > 1 and row is not None and row.finished_at is not None
    status = _status(None if apart else run, row)
    message = row.error if row is not None else None
    if status == "failed" and run is not None and not apart:
        message = (
            failure_of(instance, run_id) or message or "The process of the run ended before the run did."
        )
    url = running_url(installation.settings)
    return ImportRun(
        run_id,
        name,
        status,
        limited=row is not None and row.status == "limited",
        listed=row.listed if row is not None else 0,
        imported=row.imported if row is not None else 0,
        skipped=row.skipped if row is not None else 0,
        failed=row.failed if row is not None else 0,
        errors=listed,
        message=message,
        started_at=row.started_at if row is not None else None,
        finished_at=row.finished_at if row is not None else _ended_at(instance, run_id),
        dagster_url=f"{url}/runs/{run_id}" if url and run is not None else None,
    )


def failure_of(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why a run failed, in one sentence, None when it did not say."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    events = filter(None, (record.event_log_entry.dagster_event for record in records))
    return step_failure(events, "Unexpected {}: the run's log in Dagster has the details.")


def _status(run: dg.DagsterRun | None, row: Any) -> str:
    if run is None:  # Dagster has forgotten it, the documents database never does
        return "succeeded" if row.status in ("complete", "limited") else "failed"
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return "succeeded"
    if run.status == dg.DagsterRunStatus.FAILURE:
        return "failed"
    if run.status == dg.DagsterRunStatus.CANCELED:
        return "canceled"
    return "running" if run.status == dg.DagsterRunStatus.STARTED else "queued"


def _ended_at(instance: dg.DagsterInstance, run_id: str) -> datetime | None:
    record = instance.get_run_record_by_id(run_id)
    if record is None or record.end_time is None:
        return None
    return datetime.fromtimestamp(record.end_time, timezone.utc)


def _launch_in_dagster(
    url: str, source: str, keys: Sequence[str], config: Mapping[str, Any], override: str | None
) -> str:
    tags = {**partition_range_tags(keys), SOURCE_TAG: source}
    if override is not None:
        tags[OVERRIDE_TAG] = override
    execution = {
        "selector": {
            "repositoryLocationName": CODE_LOCATION,
            "repositoryName": "__repository__",
            "jobName": import_job_name(source),
        },
        "mode": "default",
        "runConfigData": {"ops": {asset_key(source).to_python_identifier(): {"config": config}}},
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }
    try:
        answer = ask(url, _LAUNCH, {"execution": execution}, read_seconds=60)["launchRun"]
        outcome = str(answer["__typename"])
        if outcome == "LaunchRunSuccess":
            return str(answer["run"]["runId"])
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise NotLaunched(
            f"Dagster at {url} did not launch the import ({type(error).__name__}): see whether it runs.",
            busy=True,
        ) from None
    raise NotLaunched(
        f"Dagster at {url} did not launch the import ({outcome}): reload its code location there, or restart it."
    )


def _launch_process(
    installation: Installation,
    instance: dg.DagsterInstance,
    source: str,
    config: Mapping[str, Any],
    override: str | None,
) -> str:
    run_id = str(uuid.uuid4())
    folder = installation.settings.data_dir
    with _choosing:
        starting = {run: which for run, (where, which) in _starting.items() if where == folder}
        ahead = [run.run_id for run in imports_ahead(instance, installation.settings, source)]
        ahead += [run for run, which in starting.items() if which == source]
        if ahead:
            raise NotLaunched(
                f"An import of {source} is under way (run {ahead[0]}): wait until it is over.", busy=True
            )
        # Those with an origin were launched by Dagster, which counts them itself.
        own = {run.run_id for run in unfinished_runs(instance) if run.remote_job_origin is None}
        if len(own | starting.keys()) >= MOST_PROCESSES:
            raise NotLaunched("As many imports as may be at once are under way: try again later.", busy=True)
        _starting[run_id] = folder, source
    try:
        order = {
            "source": source,
            "run_id": run_id,
            "limit": config.get("limit"),
            "date_from": config.get("date_from"),
            "date_to": config.get("date_to"),
            "override": override,
        }
        process = _start(installation, json.dumps(order).encode())
        deadline = time.monotonic() + LAUNCH_SECONDS
        while instance.get_run_by_id(run_id) is None:
            if process.poll() is not None and instance.get_run_by_id(run_id) is None:
                raise NotLaunched(
                    f"The import ended before it began (exit code {process.returncode}):"
                    f" see {folder / 'imports.log'}."
                )
            if time.monotonic() > deadline:
                process.terminate()
                raise NotLaunched("The import did not begin in time: try again later.", busy=True)
            time.sleep(0.1)
    finally:
        with _choosing:
            del _starting[run_id]
    return run_id


def _start(installation: Installation, order: bytes) -> subprocess.Popen[bytes]:
    with (installation.settings.data_dir / "imports.log").open("ab") as log:
        # A session of its own: what has begun is brought to its end, also when the server is stopped.
        process = subprocess.Popen(
            [sys.executable, "-m", "citysort_dagster.import_process"],
            env={
                **os.environ,
                "CITYSORT_DATA_DIR": str(installation.settings.data_dir),
                "PYTHONPATH": python_path(),
            },
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write(order)
    process.stdin.close()
    threading.Thread(target=process.wait, name=f"import {process.pid}", daemon=True).start()
    return process
