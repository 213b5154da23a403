"""Endpoints for those who watch over CitySort: alive, ready, and figures for Prometheus."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from citysort_dagster.installation import Installation
from citysort_dagster.source_states import source_states
from citysort_dagster.store.database import DatabaseError
from citysort_dagster.store.models import Document, Import
from citysort_dagster.web.access import Viewer
from citysort_dagster.web.dependencies import TheInstallation
from citysort_dagster.web.problems import Problem

router = APIRouter(tags=["health"])
figures = APIRouter(tags=["health"])
"""What not everybody may see."""


class Health(BaseModel):
    """Always the same: whoever reads it has been answered."""

    status: str


@router.get("/api/health")
async def health() -> Health:
    """The server answers, however busy it is."""
    return Health(status="ok")


@router.get("/api/ready")
def ready(installation: TheInstallation) -> Health:
    """The server can do its work: the documents database answers, and the data folder can be written."""
    try:
        with installation.database.read() as connection:
            connection.execute(sa.text("SELECT 1"))
    except DatabaseError:
        raise Problem(503, "Not ready", "The documents database is out of reach.") from None
    if not installation.settings.data_dir.is_dir():
        raise Problem(503, "Not ready", "The data folder is gone.")
    return Health(status="ready")


@figures.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(caller: Viewer, installation: TheInstallation) -> Response:
    """Figures for Prometheus, https://prometheus.io/docs/instrumenting/exposition_formats/."""
    return Response(generate_latest(_figures(installation)), media_type=CONTENT_TYPE_LATEST)


def _figures(installation: Installation) -> CollectorRegistry:
    """What the documents database says now. All of it survives restarts, so nothing is counted here."""
    registry = CollectorRegistry()

    def gauge(name: str, description: str, *labels: str) -> Gauge:
        return Gauge(f"citysort_{name}", description, labels, registry=registry)

    enabled = gauge("source_enabled", "1 for a source that is enabled.", "source", "connector")
    state = gauge("source_state", "1 for the state that a source is in.", "source", "state")
    last_sync = gauge(
        "source_last_sync_timestamp_seconds", "When a source was last imported whole (Unix time).", "source"
    )
    failures = gauge("source_failed_documents", "Documents that could not be imported.", "source")
    for each in source_states(installation.database):
        enabled.labels(each.source.name, each.source.connector_type).set(each.source.enabled)
        state.labels(each.source.name, each.state.replace(" ", "_")).set(1)
        failures.labels(each.source.name).set(each.failures)
        if each.source.last_sync_at is not None:
            last_sync.labels(each.source.name).set(each.source.last_sync_at.timestamp())
    documents = gauge("documents", "Current documents.", "source", "status")
    queues = gauge("queue_documents", "Current documents in a department's queue.", "department", "status")
    imports = gauge("imports", "Imports so far, by how they ended.", "source", "status")
    count = sa.func.count()
    with installation.database.read() as connection:
        # Both figures from one look at all documents, of which there may be a million.
        found = connection.execute(
            sa.select(Document.source, Document.department, Document.status, count)
            .where(Document.superseded_by.is_(None))
            .group_by(Document.source, Document.department, Document.status)
        ).tuples()
        for source, department, status, number in found:
            documents.labels(source, status).inc(number)
            if status in ("routed", "needs_review"):
                queues.labels(department or "none", status).inc(number)
        for source, status, number in connection.execute(
            sa.select(Import.source, Import.status, count).group_by(Import.source, Import.status)
        ).tuples():
            imports.labels(source, status).set(number)
    return registry
