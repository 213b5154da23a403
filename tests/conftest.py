"""Servers that tests of several folders need: started when first asked for, once per test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import gcs, mariadb, postgresql, s3

# What takes longest comes first, so that the last worker to finish does not finish alone.
_FIRST = ("dagster_ui", "robustness", "secrecy")
_TOGETHER = ("dagster_ui",)
"""Folders whose tests share something too heavy to have once per worker."""


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Gives each worker whole modules, or whole folders of those that stay together."""
    group = _folder(item) if _folder(item) in _TOGETHER else item.path.stem
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow folders first."""
    items.sort(key=lambda item: _FIRST.index(_folder(item)) if _folder(item) in _FIRST else len(_FIRST))


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
