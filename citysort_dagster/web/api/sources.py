"""Endpoints about sources: what there is, how it is configured, whether it can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from citysort_dagster import source_editing
from citysort_dagster.api_tokens import Role
from citysort_dagster.connection import try_connection
from citysort_dagster.installation import Installation
from citysort_dagster.launch import cancel_waiting_imports
from citysort_dagster.reload import reload_definitions
from citysort_dagster.source_configs import (
    FILE,
    SourceConfig,
    SourceUnchangeable,
    known_source,
    remove_source,
)
from citysort_dagster.source_states import source_state, source_states
from citysort_dagster.web.access import Admin, Caller, Operator, Viewer
from citysort_dagster.web.api.models import (
    NewSource,
    Source,
    SourceChange,
    SourceValues,
    TestRequest,
    TestResult,
    source_of,
)
from citysort_dagster.web.dependencies import TheInstallation
from citysort_dagster.web.problems import Problem

router = APIRouter(prefix="/api/sources", tags=["sources"])


@router.get("")
def list_sources(caller: Viewer, installation: TheInstallation) -> list[Source]:
    """Every source, by name."""
    return [source_of(state) for state in source_states(installation.database)]


@router.post("", status_code=201)
def create_source(new: NewSource, response: Response, caller: Admin, installation: TheInstallation) -> Source:
    """Make a source. Its secrets are stored encrypted."""
    source_editing.create_source(installation, new.model_dump(), caller.actor)
    response.headers["Location"] = f"/api/sources/{new.name}"
    return _told(installation, new.name, reload_definitions(installation.settings))


@router.get("/{name}")
def get_source(name: str, caller: Viewer, installation: TheInstallation) -> Source:
    """A source, how it is configured and how it stands."""
    return _told(installation, name)


@router.put("/{name}")
def put_source(name: str, values: SourceValues, caller: Admin, installation: TheInstallation) -> Source:
    """Configure a source anew. Secrets that are left out stay as they are."""
    return _change(installation, name, values.model_dump(), caller)


@router.patch("/{name}")
def patch_source(name: str, change: SourceChange, caller: Admin, installation: TheInstallation) -> Source:
    """Change a part of a source. Within `config`, null takes a setting back to its default."""
    values = change.model_dump(exclude_unset=True)
    for key in ("connector", "config", "enabled", "owners", "tags", "group"):
        if key in values and values[key] is None:
            raise Problem(422, "Not understood", f"{key} cannot be null: leave it out to keep it.")
    return _change(installation, name, values, caller, part_of_config=True)


@router.delete("/{name}", status_code=204)
def delete_source(name: str, caller: Admin, installation: TheInstallation) -> None:
    """Forget a source's configuration. Its documents and their history stay."""
    if known_source(installation.database, name).origin == FILE:
        raise SourceUnchangeable(
            f"the source {name} is described in sources.yaml: take it out there,"
            f" and say `citysort sources remove {name}`"
        )
    remove_source(installation.database, name, caller.actor)
    cancel_waiting_imports(installation, name)
    reload_definitions(installation.settings)


@router.post("/{name}/test")
def test_source(
    name: str, caller: Operator, installation: TheInstallation, asked: TestRequest | None = None
) -> TestResult:
    """Connect to the source, with its saved configuration or the one given, which is not saved."""
    source = known_source(installation.database, name)
    return test_result(
        installation, configured_for(installation, source, asked.config if asked else None, caller)
    )


def configured_for(
    installation: Installation, source: SourceConfig, config: Mapping[str, Any] | None, caller: Caller
) -> SourceConfig:
    """The source, with another configuration where one is given, which takes an admin."""
    if config is None:
        return source
    only_admins(caller)
    return source_editing.configured(installation, source, config)


def only_admins(caller: Caller) -> None:
    """Raises Problem for anybody who may not say how a source is configured."""
    if caller.role < Role.admin:
        raise Problem(
            403,
            "Not allowed",
            f"{caller.name} is {caller.role.name} here; a configuration of one's own takes admin.",
        )


def test_result(installation: Installation, source: SourceConfig) -> TestResult:
    """What came of connecting to the source."""
    return TestResult(**try_connection(source, installation.settings)._asdict())


def _change(
    installation: Installation,
    name: str,
    values: Mapping[str, Any],
    caller: Caller,
    part_of_config: bool = False,
) -> Source:
    source_editing.change_source(installation, name, values, caller.actor, part_of_config)
    return _told(installation, name, reload_definitions(installation.settings))


def _told(installation: Installation, name: str, notice: str | None = None) -> Source:
    state = source_state(installation.database, name)
    if state is None:
        known_source(installation.database, name)  # says that there is none, and which there are
        raise Problem(404)
    return source_of(state, notice)
