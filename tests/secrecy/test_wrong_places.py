"""Secrets where none belongs: whoever types one into the wrong place must not find it shown there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.secrecy.canaries import Search, canary

PG = {
    "host": "h",
    "database": "d",
    "username": "u",
    "query": "SELECT 1",
    "id_column": "a",
    "content_column": "b",
}


def file_of(folder: Path, **source: object) -> Path:
    """A file with one source, of PostgreSQL unless it says otherwise."""
    path = folder / "sources.yaml"
    path.write_text(
        json.dumps({"sources": [{"name": "pg", "connector": "postgresql", "config": PG} | source]})
    )
    return path


def test_a_secret_for_the_name_of_its_variable(citysort: Command, tmp_path: Path) -> None:
    secret = canary()
    ran = citysort("sources", "apply", file_of(tmp_path, config={**PG, "password": {"env": secret}}))
    assert (ran.code, "never the secret itself" in ran.err) == (2, True)
    said = [ran, citysort("sources", "list", "--json")]
    assert Search([secret]).in_text(*said) == set()
    assert Search([secret]).in_folder(tmp_path / "data") == {}


def test_the_name_of_a_variable_is_not_kept_with_errors(
    citysort: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may be a secret in capital letters."""
    secret = canary().upper()
    citysort.well("sources", "apply", file_of(tmp_path, config={**PG, "password": {"env": secret}}))
    said = [citysort("sources", "test", "pg"), citysort("import", "pg", "--json")]
    assert all("the environment variable that it names is not set" in str(ran) for ran in said)
    assert Search([secret]).in_text(*said) == set()
