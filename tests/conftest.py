"""Servers that tests of several folders need: started when first asked for, once per test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sandbox import gcs, mariadb, postgresql, s3

# The same examples in every run, however slow the machine.
settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")


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
