"""Pages of the console: the sources, one source, and a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from citysort_dagster import source_editing
from citysort_dagster.api_tokens import Role
from citysort_dagster.connection import try_connection
from citysort_dagster.days import parse_day
from citysort_dagster.import_runs import ImportRun, import_run
from citysort_dagster.installation import Installation
from citysort_dagster.launch import cancel_waiting_imports
from citysort_dagster.reload import reload_definitions, running_url
from citysort_dagster.source_configs import (
    CONSOLE,
    SourceConfig,
    SourceUnchangeable,
    UnknownSource,
    known_source,
    remove_source,
)
from citysort_dagster.source_states import SourceState, source_state, source_states
from citysort_dagster.sources_file import Fault, SourceInvalid
from citysort_dagster.web.access import Admin, Caller, Operator, Viewer
from citysort_dagster.web.api.imports import launch
from citysort_dagster.web.api.models import DEFAULT_LIMIT, MOST, ImportOrder
from citysort_dagster.web.chart import chart_of
from citysort_dagster.web.dependencies import TheInstallation, TheInstance
from citysort_dagster.web.forms import config_from, fields_of, other_faults
from citysort_dagster.web.problems import Problem
from citysort_dagster.web.systems import FAMILIES, SYSTEMS, system_of
from citysort_dagster.web.templating import page
from connectors.base import ConnectionStatus
from connectors.registry import CONNECTOR_TYPES

router = APIRouter(include_in_schema=False)

SAID = {
    "saved": "Saved.",
    "created": "The source is there. Import it when you like.",
    "enabled": "The source is enabled.",
    "disabled": "The source is disabled: nothing imports it.",
    "removed": "The source is removed. Its documents and their history stay.",
}
NAMED_FIELDS = ("name", "schedule", "description")


@router.get("/sources")
def show_sources(
    request: Request, caller: Viewer, installation: TheInstallation, said: str = ""
) -> HTMLResponse:
    """Every source as a card, by the family of its system."""
    states = source_states(installation.database)
    families = [
        (title, [_card(state) for state in states if system_of(state.source.connector_type).family == family])
        for family, title in FAMILIES.items()
    ]
    return page(
        request,
        "sources.html",
        families=families,
        systems=_systems(),
        may_add=caller.role >= Role.admin,
        said=SAID.get(said),
        dagster_url=running_url(installation.settings),
    )


@router.get("/new-source")
def choose_system(request: Request, caller: Admin) -> HTMLResponse:
    """The kinds of systems that a source can be made of."""
    return page(request, "new_source.html", systems=_systems())


@router.get("/new-source/{connector_type}")
def show_new_source(request: Request, caller: Admin, connector_type: str) -> HTMLResponse:
    """The empty form of a new source."""
    _check_known(connector_type)
    return _form_page(request, connector_type, None, {"name": ""}, {}, ())


@router.post("/new-source/{connector_type}")
async def add_source(
    request: Request, caller: Admin, installation: TheInstallation, connector_type: str
) -> Response:
    """Makes the source that the form describes."""
    _check_known(connector_type)
    form = await request.form()
    return await run_in_threadpool(_add_source, request, caller, installation, connector_type, form)


def _add_source(
    request: Request, caller: Caller, installation: Installation, connector_type: str, form: FormData
) -> Response:
    values = {"connector": connector_type, **_values_from(form), "name": _text(form, "name")}
    config = config_from(connector_type, form)
    try:
        source_editing.create_source(installation, {**values, "config": config}, caller.actor)
    except SourceInvalid as invalid:
        return _form_page(request, connector_type, None, values, config, invalid.faults, 422)
    except SourceUnchangeable as taken:
        return _form_page(request, connector_type, None, values, config, [Fault("name", str(taken))], 409)
    reload_definitions(installation.settings)
    return RedirectResponse(f"/sources/{values['name']}?said=created", status_code=303)


@router.post("/new-source/{connector_type}/test")
async def test_new_source(
    request: Request, caller: Admin, installation: TheInstallation, connector_type: str
) -> HTMLResponse:
    """Connects with what the form holds, and saves nothing."""
    _check_known(connector_type)
    form = await request.form()
    config = config_from(connector_type, form)

    def connect() -> ConnectionStatus:
        try:
            source = source_editing.unsaved_source(installation, connector_type, config)
        except SourceInvalid as invalid:
            return ConnectionStatus(False, _sentences(invalid.faults))
        return try_connection(source, installation.settings)

    status = await run_in_threadpool(connect)
    if "HX-Request" in request.headers:
        return page(request, "connection.html", status=status)
    values = {**_values_from(form), "name": _text(form, "name")}
    return _form_page(request, connector_type, None, values, config, (), status=status)


@router.get("/sources/{name}")
def show_source(
    request: Request,
    caller: Viewer,
    installation: TheInstallation,
    instance: TheInstance,
    name: str,
    run: str = "",
    said: str = "",
) -> HTMLResponse:
    """A source: how it stands, its form, and its imports."""
    source = known_source(installation.database, name)
    return _source_page(request, installation, instance, source, run=run, said=SAID.get(said))


@router.post("/sources/{name}")
async def save_source(
    request: Request, caller: Admin, installation: TheInstallation, instance: TheInstance, name: str
) -> Response:
    """Configures the source as its form says. Secrets that are left empty stay."""
    form = await request.form()

    def save() -> Response:
        source = known_source(installation.database, name)
        values, config = _values_from(form), config_from(source.connector_type, form)
        # The form holds all settings: it would undo what somebody else has changed since it was opened.
        if _text(form, "seen") not in ("", source.updated_at.isoformat()):
            fault = Fault(
                "", f"{name} was changed meanwhile; saved again, this takes the place of that change."
            )
            return _source_page(request, installation, instance, source, values, config, [fault], code=409)
        try:
            source_editing.change_source(installation, name, {**values, "config": config}, caller.actor)
        except SourceInvalid as invalid:
            return _source_page(
                request, installation, instance, source, values, config, invalid.faults, code=422
            )
        reload_definitions(installation.settings)
        return RedirectResponse(f"/sources/{name}?said=saved", status_code=303)

    return await run_in_threadpool(save)


@router.post("/sources/{name}/test")
async def test_source(
    request: Request, caller: Operator, installation: TheInstallation, instance: TheInstance, name: str
) -> HTMLResponse:
    """Connects with what the form holds, or as saved where there is no form, and saves nothing."""
    form = await request.form()

    def test() -> HTMLResponse:
        source = known_source(installation.database, name)
        given = any(key.startswith("config.") for key in form)
        config = config_from(source.connector_type, form) if given and caller.role >= Role.admin else None
        try:
            wanted = source_editing.configured(installation, source, config)
            status = try_connection(wanted, installation.settings)
        except SourceInvalid as invalid:
            status = ConnectionStatus(False, _sentences(invalid.faults))
        if "HX-Request" in request.headers:
            return page(request, "connection.html", status=status)
        return _source_page(
            request,
            installation,
            instance,
            source,
            _values_from(form) if given else None,
            config,
            status=status,
        )

    return await run_in_threadpool(test)


@router.post("/sources/{name}/import")
async def import_source(
    request: Request, caller: Operator, installation: TheInstallation, instance: TheInstance, name: str
) -> Response:
    """Launches an import as ordered."""
    form = await request.form()

    def start() -> Response:
        source = known_source(installation.database, name)
        try:
            run_id = launch(installation, instance, source, _order_from(form), caller)
        except Problem as problem:
            if "HX-Request" not in request.headers:
                raise
            return page(request, "connection.html", status=ConnectionStatus(False, problem.detail or ""))
        if "HX-Request" in request.headers:
            return _progress(request, installation, instance, name, run_id)
        return RedirectResponse(f"/sources/{name}?run={run_id}", status_code=303)

    return await run_in_threadpool(start)


@router.get("/sources/{name}/imports/{run_id}")
def show_progress(
    request: Request,
    caller: Viewer,
    installation: TheInstallation,
    instance: TheInstance,
    name: str,
    run_id: str,
) -> HTMLResponse:
    """How an import stands: a part of the page, which asks for itself again until it is over."""
    return _progress(request, installation, instance, name, run_id)


@router.post("/sources/{name}/enabled")
def enable_source(
    request: Request, caller: Admin, installation: TheInstallation, name: str, on: bool
) -> RedirectResponse:
    """Enables or disables the source."""
    source_editing.change_source(installation, name, {"enabled": on}, caller.actor)
    reload_definitions(installation.settings)
    return RedirectResponse(f"/sources/{name}?said={'enabled' if on else 'disabled'}", status_code=303)


@router.post("/sources/{name}/remove")
def remove(request: Request, caller: Admin, installation: TheInstallation, name: str) -> RedirectResponse:
    """Forgets the source's configuration. Its documents stay."""
    if known_source(installation.database, name).origin != CONSOLE:
        raise SourceUnchangeable(f"the source {name} is described in sources.yaml: take it out there")
    remove_source(installation.database, name, caller.actor)
    cancel_waiting_imports(installation, name)
    reload_definitions(installation.settings)
    return RedirectResponse("/sources?said=removed", status_code=303)


def _source_page(
    request: Request,
    installation: Installation,
    instance: dg.DagsterInstance,
    source: SourceConfig,
    values: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    faults: Sequence[Fault] = (),
    *,
    run: str = "",
    said: str | None = None,
    status: ConnectionStatus | None = None,
    code: int = 200,
) -> HTMLResponse:
    state = source_state(installation.database, source.name)
    if state is None:  # it has been removed meanwhile
        raise UnknownSource(f"there is no source {source.name}")
    known = source.connector_type in CONNECTOR_TYPES
    main, limits = (
        fields_of(
            source.connector_type,
            source_editing.shown_config(source) if config is None else config,
            source_editing.secrets_set(source),
            faults,
        )
        if known
        else ([], [])
    )
    shown = import_run(installation, instance, run or state.last_run_id or "", source.name)
    response = page(
        request,
        "source.html",
        source=source,
        card=_card(state),
        values={**source_editing.as_values(source), **(values or {})},
        main=main,
        limits=limits,
        by_field={fault.field: fault.message for fault in faults},
        problems=other_faults(faults, [*main, *limits], NAMED_FIELDS),
        may_edit=request.state.caller.role >= Role.admin and source.origin == CONSOLE and known,
        may_import=request.state.caller.role >= Role.operator and known,
        may_switch=request.state.caller.role >= Role.admin,
        config=source_editing.shown_config(source),
        secrets=source_editing.secrets_set(source),
        run=shown,
        limit=DEFAULT_LIMIT,
        most=MOST,
        said=said,
        status=status,
        dagster_url=running_url(installation.settings),
    )
    response.status_code = code
    return response


def _form_page(
    request: Request,
    connector_type: str,
    source: SourceConfig | None,
    values: Mapping[str, Any],
    config: Mapping[str, Any],
    faults: Sequence[Fault],
    code: int = 200,
    status: ConnectionStatus | None = None,
) -> HTMLResponse:
    main, limits = fields_of(connector_type, config, {}, faults)
    response = page(
        request,
        "new_source_form.html",
        system=system_of(connector_type),
        values={"schedule": None, "description": None, **values},
        main=main,
        limits=limits,
        by_field={fault.field: fault.message for fault in faults},
        problems=other_faults(faults, [*main, *limits], NAMED_FIELDS),
        status=status,
    )
    response.status_code = code
    return response


def _progress(
    request: Request, installation: Installation, instance: dg.DagsterInstance, name: str, run_id: str
) -> HTMLResponse:
    run: ImportRun | None = import_run(installation, instance, run_id, name)
    if run is None:
        raise Problem(404, detail=f"There is no import of {name} by that id.")
    response = page(request, "progress.html", run=run)
    if run.finished:
        response.headers["HX-Trigger"] = "import-over"  # the figures beside it are loaded again
    return response


def _card(state: SourceState) -> dict[str, Any]:
    return {
        "name": state.source.name,
        "system": system_of(state.source.connector_type),
        "state": state.state,
        "badge": {"fresh": "ok", "late": "warn", "failing": "bad", "disabled": "off", "never synced": "info"}[
            state.state
        ],
        "reason": state.reason,
        "description": state.source.description,
        "schedule": state.source.schedule,
        "last_sync_at": state.source.last_sync_at,
        "documents": state.documents,
        "failures": state.failures,
        "refused": state.refused,
        "chart": chart_of(state.days),
    }


def _systems() -> list[tuple[str, list[Any]]]:
    return [
        (title, [system for system in SYSTEMS.values() if system.family == family])
        for family, title in FAMILIES.items()
    ]


def _check_known(connector_type: str) -> None:
    if connector_type not in CONNECTOR_TYPES:
        raise Problem(404, detail="There is no such kind of system.")


def _values_from(form: FormData) -> dict[str, Any]:
    return {key: _text(form, key) or None for key in ("schedule", "description")}


def _order_from(form: FormData) -> ImportOrder:
    """What the form orders. Raises Problem."""
    limit = _text(form, "limit")
    if limit and not (limit.isdecimal() and len(limit) < 12 and 1 <= int(limit) <= MOST):
        raise Problem(
            422, "Not understood", "The limit is a whole number from 1 on, or empty for everything."
        )
    return ImportOrder.model_validate(
        {"limit": int(limit) if limit else None, "from": _day(form, "from"), "to": _day(form, "to")}
    )


def _day(form: FormData, key: str) -> date | None:
    text = _text(form, key)
    try:
        return parse_day(text) if text else None
    except ValueError as error:
        raise Problem(422, "Not understood", f"{error}.") from None


def _text(form: FormData, key: str) -> str:
    value = form.get(key, "")
    return value.strip()[:2_000] if isinstance(value, str) else ""


def _sentences(faults: Sequence[Fault]) -> str:
    return "; ".join(fault.message for fault in faults)
