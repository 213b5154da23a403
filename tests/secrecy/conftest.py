"""What the tests of secrecy share: an environment of its own, everything that is logged, and the
command line."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from citysort_dagster.privacy import keep_private
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "CITYSORT_")) and not name.startswith("CITYSORT_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-01-01")  # each partition of an import takes time


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that any library logs, at the level DEBUG, with what CitySort does about it."""
    keep_private()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@pytest.fixture
def citysort(capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return Command(capfdbinary)
