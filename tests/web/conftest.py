"""Consoles of installations of their own, and a system with a secret to connect them to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citysort_dagster.installation import open_installation
from sandbox.servicenow import SimulatedServiceNow
from tests.secrecy.canaries import canary
from tests.web.console import Console, make_archive, running


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of an installation whose console may reach loopback and read in the folder `allowed`."""
    (tmp_path / "allowed").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "CITYSORT_DATA_DIR": str(tmp_path / "data"),
        "CITYSORT_PARTITIONS_START": "2026-01-01",
        "CITYSORT_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CITYSORT_ALLOWED_FOLDER": str(tmp_path / "allowed"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("CITYSORT_DATABASE_URL", "CITYSORT_FILES_URL", "CITYSORT_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def console(environment: Path) -> Iterator[Console]:
    """One on SQLite, for whoever is on this machine."""
    with open_installation() as installation, running(installation, environment / "allowed") as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def any_console(
    request: pytest.FixtureRequest, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Console]:
    """One on each kind of documents database."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_server").create_database()
        shown = url.render_as_string(hide_password=False).replace("postgresql+psycopg://", "postgresql://")
        monkeypatch.setenv("CITYSORT_DATABASE_URL", shown)
    with open_installation() as installation, running(installation, environment / "allowed") as made:
        yield made


@pytest.fixture
def servicenow() -> Iterator[SimulatedServiceNow]:
    """One whose password is like nothing else."""
    with SimulatedServiceNow() as system:
        system.password = canary()
        system.add("report.txt", b"A pothole on Elm Street.")
        yield system


@pytest.fixture
def help_desk(servicenow: SimulatedServiceNow) -> dict[str, Any]:
    """The configuration of a source of that system, with its password."""
    return {
        "instance_url": servicenow.url(),
        "table_name": "incident",
        "username": servicenow.username,
        "password": servicenow.password,
    }


@pytest.fixture
def archive(environment: Path) -> dict[str, Any]:
    """The configuration of a source of three documents, one of them without content."""
    documents = {"one.txt": b"Building permit application", "two.txt": b"Invoice no 2", "three.txt": None}
    return make_archive(environment / "allowed" / "archive.db", documents)
