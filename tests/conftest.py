"""Servers that tests of several folders need: started when first asked for, once per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from sandbox import gcs, mariadb, postgresql, s3

# The same examples in every run, however slow the machine.
settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")


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
