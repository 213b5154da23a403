"""Servers that tests of several folders need: started when first asked for, once per test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from sandbox import gcs, mariadb, postgresql, s3

# The same examples in every run, however slow the machine.
settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")

RUNNING = (
    "dagster_ui",
    "browser",
    "robustness/test_killed_workers.py",
    "web/test_api_imports.py",
    "secrecy/test_pages.py",
    "cli/test_reload.py",
    "test_up.py",
)
"""The tests of a running CitySort: half a dozen processes, two of which would be as much as two cores can do."""

LONGEST = (
    *RUNNING,
    "contract/test_contract.py",
    "sandbox/test_demo.py",
    "secrecy/test_installation.py",
    "robustness/test_s3.py",
    "robustness/test_killed.py",
    "robustness/test_at_once.py",
    "hostile/test_hostile.py",
    "robustness/test_any_sequence.py",
    "web/test_api_schema.py",
)
"""What takes longest below this folder, and therefore begins first."""


def place_of(nodeid: str) -> str:
    """The file of a test, or the folder if LONGEST has that."""
    file = nodeid.split("::")[0].removeprefix("tests/")
    folder = file.split("/")[0]
    return folder if folder in LONGEST else file


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole files to the processes of pytest-xdist, and all of RUNNING to one of them:
    https://pytest-xdist.readthedocs.io/en/stable/distribution.html."""

    def _split_scope(self, nodeid: str) -> str:
        place = place_of(nodeid)
        return "running" if place in RUNNING else place


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGroup:
    config.option.loadscopereorder = False
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {place: rank for rank, place in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(place_of(item.nodeid), len(ranks)))


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an installation of its own whose partitions begin in January 2025."""
    monkeypatch.chdir(tmp_path)
    for name in ("CITYSORT_DATABASE_URL", "CITYSORT_FILES_URL", "CITYSORT_PARTITIONS", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2025-01-01")
    return tmp_path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.PostgreSQLServer]:
    with postgresql.postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[mariadb.MariaDBServer]:
    with mariadb.mariadb_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.S3Server]:
    with s3.s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[gcs.GCSServer]:
    with gcs.gcs_server() as server:
        yield server
