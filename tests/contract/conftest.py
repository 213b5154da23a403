"""Each system in turn, and a city that imports from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import citysort, data_dir
from tests.contract.systems import SYSTEMS, System, started
from tests.importer.conftest import City, make_city, new_database

__all__ = ["citysort", "data_dir"]

CASES = {
    "wrong": "wrong",
    "misbehaviour": "misbehaviours",
    "page_misbehaviour": "page_misbehaviours",
}
"""Parameters of tests, and where a system lists what they stand for."""


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "GCLOUD_", "GCE_", "CLOUDSDK_", "STORAGE_")):
            monkeypatch.delenv(name)
        if name.lower().endswith("_proxy") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test with a `system` runs for each, with one of `CASES` for each of its own."""
    if "system" not in metafunc.fixturenames:
        return
    case = next((name for name in CASES if name in metafunc.fixturenames), None)
    cases = [
        (kind, *of_kind)
        for kind, made in SYSTEMS.items()
        for of_kind in ([(one,) for one in getattr(made, CASES[case])] if case else [()])
    ]
    metafunc.parametrize(
        ("system", case) if case else ("system",),
        cases,
        ids=["-".join(one) for one in cases],
        indirect=["system"],
    )


@pytest.fixture
def system(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[System]:
    """Whatever a test did with it, no credentials went to a host that they are not for."""
    with started(request.param, request, monkeypatch, tmp_path) as made:
        yield made
        assert made.leaks() == 0


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    database = new_database(tmp_path)
    yield make_city(database, tmp_path / "source", tmp_path)
    database.close()
