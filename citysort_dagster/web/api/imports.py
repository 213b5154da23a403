"""Endpoints about imports: Dagster runs that are launched, watched and told about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

import dagster as dg
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from citysort_dagster.import_runs import ImportRun, NotLaunched, import_run, launch_import
from citysort_dagster.installation import Installation
from citysort_dagster.source_configs import SourceConfig, known_source
from citysort_dagster.store.sync_log import audit
from citysort_dagster.web.access import Caller, Operator, Viewer
from citysort_dagster.web.api.models import ImportOrder, ImportReport
from citysort_dagster.web.api.sources import configured_for
from citysort_dagster.web.dependencies import TheInstallation, TheInstance
from citysort_dagster.web.problems import Problem

LOOK_SECONDS = 0.5
ALIVE_SECONDS = 15
LONGEST_WAIT = 30 * 60
"""Seconds that `wait` waits; the run goes on."""
MOST_STREAMS = 50

router = APIRouter(prefix="/api", tags=["imports"])

RunId = Annotated[str, Path(max_length=60)]

_streams = asyncio.Semaphore(MOST_STREAMS)


@router.post(
    "/sources/{name}/import",
    status_code=202,
    response_model=ImportReport,
    responses={200: {"model": ImportReport, "description": "It is over (`wait`)."}},
)
async def import_source(
    name: str,
    caller: Operator,
    installation: TheInstallation,
    instance: TheInstance,
    order: ImportOrder | None = None,
) -> Response:
    """Import a source in a Dagster run: what is not there yet, up to the limit."""
    source = await run_in_threadpool(known_source, installation.database, name)
    return await order_import(installation, instance, source, order, caller)


@router.get("/imports/{run_id}")
def get_import(
    run_id: RunId, caller: Viewer, installation: TheInstallation, instance: TheInstance
) -> ImportReport:
    """How an import stands, or ended."""
    return report_of(_known_run(installation, instance, run_id))


@router.get(
    "/imports/{run_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "Events `progress`, and `done` at the end.",
        }
    },
)
async def follow_import(
    run_id: RunId, request: Request, caller: Viewer, installation: TheInstallation, instance: TheInstance
) -> StreamingResponse:
    """The progress of an import as server-sent events: each holds how it stands as JSON."""
    first = await run_in_threadpool(_known_run, installation, instance, run_id)
    if _streams.locked():
        raise Problem(
            503,
            detail="Too many are watching imports: ask /api/imports/RUN instead.",
            headers={"Retry-After": "10"},
        )

    async def events() -> AsyncIterator[str]:
        async with _streams:
            run, told, told_at = first, "", time.monotonic()
            while True:
                data = report_of(run).model_dump_json()
                if run.finished:
                    yield f"event: done\ndata: {data}\n\n"
                    return
                if data != told:
                    yield f"event: progress\ndata: {data}\n\n"
                    told, told_at = data, time.monotonic()
                elif time.monotonic() - told_at > ALIVE_SECONDS:
                    yield ": still there\n\n"
                    told_at = time.monotonic()
                await asyncio.sleep(LOOK_SECONDS)
                if await request.is_disconnected():
                    return
                run = await run_in_threadpool(_known_run, installation, instance, run_id)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def order_import(
    installation: Installation,
    instance: dg.DagsterInstance,
    source: SourceConfig,
    order: ImportOrder | None,
    caller: Caller,
) -> Response:
    """Launches what is ordered: 202 and where to look, or with `wait` 200 and what came of it."""
    order = order or ImportOrder()
    run_id = await run_in_threadpool(launch, installation, instance, source, order, caller)
    deadline = time.monotonic() + LONGEST_WAIT
    run = await run_in_threadpool(_known_run, installation, instance, run_id)
    # Those who wait hold no thread: there are only so many.
    while order.wait and not run.finished and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        run = await run_in_threadpool(_known_run, installation, instance, run_id)
    return JSONResponse(
        report_of(run).model_dump(mode="json"),
        status_code=200 if run.finished else 202,
        headers={"Location": f"/api/imports/{run_id}"},
    )


def launch(
    installation: Installation,
    instance: dg.DagsterInstance,
    source: SourceConfig,
    order: ImportOrder,
    caller: Caller,
) -> str:
    """The id of the run that imports the source as ordered. Raises Problem."""
    wanted = configured_for(installation, source, order.config, caller)
    if order.date_from and order.date_to and order.date_from > order.date_to:
        raise Problem(422, "Not understood", f"from {order.date_from} is after to {order.date_to}.")
    try:
        run_id = launch_import(
            installation,
            instance,
            source,
            override=None if order.config is None else wanted.config,
            limit=order.limit,
            date_from=order.date_from,
            date_to=order.date_to,
        )
    except NotLaunched as error:
        headers = {"Retry-After": "10"} if error.busy else {}
        raise Problem(409, "Not launched", str(error), headers=headers) from None
    event = {
        "event": "import launched",
        "source": source.name,
        "run_id": run_id,
        "details": {"limit": order.limit, "own_configuration": order.config is not None},
    }
    installation.database.write(lambda connection: audit(connection, [event], caller.actor))
    return run_id


def report_of(run: ImportRun) -> ImportReport:
    """An import as the API tells it."""
    links = {
        "self": f"/api/imports/{run.run_id}",
        "events": f"/api/imports/{run.run_id}/events",
        "source": f"/api/sources/{run.source}",
        "page": f"/sources/{run.source}?run={run.run_id}",
    }
    if run.dagster_url:
        links["dagster"] = run.dagster_url
    return ImportReport(
        run_id=run.run_id,
        source=run.source,
        status=run.status,
        finished=run.finished,
        limited=run.limited,
        listed_count=run.listed,
        imported_count=run.imported,
        skipped_count=run.skipped,
        failed_count=run.failed,
        errors=run.errors,
        message=run.message,
        started_at=run.started_at,
        finished_at=run.finished_at,
        links=links,
    )


def _known_run(installation: Installation, instance: dg.DagsterInstance, run_id: str) -> ImportRun:
    run = import_run(installation, instance, run_id)
    if run is None:
        raise Problem(404, detail="There is no run of that id that imports a source.")
    return run
