"""Endpoints about connectors: the kinds of systems, and the default source of each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from starlette.concurrency import run_in_threadpool

from citysort_dagster import source_editing
from citysort_dagster.installation import Installation
from citysort_dagster.reload import reload_definitions
from citysort_dagster.source_configs import SourceConfig, SourceUnchangeable, get_source
from citysort_dagster.web.access import Admin, Operator, Viewer
from citysort_dagster.web.api.imports import order_import
from citysort_dagster.web.api.models import (
    Config,
    ConnectorConfig,
    ConnectorType,
    ImportOrder,
    ImportReport,
    TestRequest,
    TestResult,
)
from citysort_dagster.web.api.sources import configured_for, only_admins, test_result
from citysort_dagster.web.dependencies import TheInstallation, TheInstance
from citysort_dagster.web.problems import Problem
from citysort_dagster.web.systems import system_of
from connectors.registry import CONNECTOR_TYPES, connector_class

router = APIRouter(prefix="/api/connectors", tags=["connectors"])


def _known(connector_type: Annotated[str, Path(max_length=60)]) -> str:
    if connector_type not in CONNECTOR_TYPES:
        raise Problem(
            404, detail=f"There is no such connector; there are: {', '.join(sorted(CONNECTOR_TYPES))}."
        )
    return connector_type


KnownConnector = Annotated[str, Depends(_known)]


@router.get("")
def list_connectors(caller: Viewer) -> list[ConnectorType]:
    """The kinds of systems, each with the JSON schema of its settings."""
    return [
        ConnectorType(
            type=connector_type,
            title=system_of(connector_type).title,
            family=system_of(connector_type).family,
            config_schema=connector_class(connector_type).model_json_schema(),
        )
        for connector_type in sorted(CONNECTOR_TYPES)
    ]


@router.get("/{connector_type}/config")
def get_config(
    connector_type: KnownConnector, caller: Viewer, installation: TheInstallation
) -> ConnectorConfig:
    """The saved configuration of the connector's default source, without its secrets."""
    return _config(installation, connector_type)


@router.put("/{connector_type}/config")
def put_config(
    connector_type: KnownConnector, config: Config, caller: Admin, installation: TheInstallation
) -> ConnectorConfig:
    """Save the configuration of the connector's default source. Secrets left out stay as they are."""
    source = get_source(installation.database, connector_type)
    if source is None:
        values = {"name": connector_type, "connector": connector_type, "config": config}
        source_editing.create_source(installation, values, caller.actor)
    elif source.connector_type != connector_type:
        raise SourceUnchangeable(
            f"the source {connector_type} uses the connector {source.connector_type}: configure another source"
        )
    else:
        source_editing.change_source(installation, connector_type, {"config": config}, caller.actor)
    reload_definitions(installation.settings)
    return _config(installation, connector_type)


@router.post("/{connector_type}/test")
def test_connector(
    connector_type: KnownConnector,
    caller: Operator,
    installation: TheInstallation,
    asked: TestRequest | None = None,
) -> TestResult:
    """Connect to the default source, with its saved configuration or the one given, which is not saved."""
    config = asked.config if asked else None
    source = _default_source(installation, connector_type)
    if source is None:
        if config is None:
            raise _not_configured(connector_type)
        only_admins(caller)
        return test_result(installation, source_editing.unsaved_source(installation, connector_type, config))
    return test_result(installation, configured_for(installation, source, config, caller))


@router.post(
    "/{connector_type}/import",
    status_code=202,
    response_model=ImportReport,
    responses={200: {"model": ImportReport, "description": "It is over (`wait`)."}},
)
async def import_connector(
    connector_type: KnownConnector,
    caller: Operator,
    installation: TheInstallation,
    instance: TheInstance,
    order: ImportOrder | None = None,
) -> Response:
    """Import the default source in a Dagster run: what is not there yet, up to the limit."""
    source = await run_in_threadpool(_default_source, installation, connector_type)
    if source is None:
        raise _not_configured(connector_type)
    return await order_import(installation, instance, source, order, caller)


def _default_source(installation: Installation, connector_type: str) -> SourceConfig | None:
    """The source named like the connector, None where there is none of that name and connector."""
    source = get_source(installation.database, connector_type)
    return source if source is not None and source.connector_type == connector_type else None


def _config(installation: Installation, connector_type: str) -> ConnectorConfig:
    source = _default_source(installation, connector_type)
    if source is None:
        names = sorted(source_editing.secret_settings(connector_type))
        return ConnectorConfig(
            connector=connector_type,
            source=connector_type,
            saved=False,
            config={},
            secrets=dict.fromkeys(names, False),
        )
    return ConnectorConfig(
        connector=connector_type,
        source=connector_type,
        saved=True,
        config=source_editing.shown_config(source),
        secrets=source_editing.secrets_set(source),
    )


def _not_configured(connector_type: str) -> Problem:
    return Problem(
        404,
        detail=f"There is no default source of {connector_type} yet:"
        f" PUT /api/connectors/{connector_type}/config makes it.",
    )
