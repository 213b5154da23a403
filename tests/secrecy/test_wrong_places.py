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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sources", "set-secret", "pg", "{}"], "its secret settings are: password"),
        (["sources", "set-secret", "pg", "password={}"], "its secret settings are: password"),
        (["sources", "set-secret", "pg", "--password={}"], "its secret settings are: password"),
        (["sources", "set-secret", "pg", "password", "{}"], "the secret is not given as an argument"),
        (["sources", "show", "password={}"], "there is no source 'password…'"),
        (["sources", "test", "pg", "{}"], "more arguments than this command takes"),
        (["sources", "test", "pg", "a", "two\nlines of {}"], "more arguments than this command takes"),
        (["sources", "test", "pg", "--password={}"], "No such option: --password"),
        (["sources", "test", "pg", "--{}"], "No such option."),
        (["sources", "test", "pg", "--a-{}"], "No such option."),
        (["import", "pg", "--limit", "{}"], "Invalid value for '--limit'"),
        (["--{}"], "No such option."),
        (["{}"], "No such command."),
        (["sources", "x-{}"], "No such command."),
        (["token", "revoke", "citysort_{}"], "there is no token of that name"),
        (["token", "create", "me", "citysort_{}"], "more arguments than this command takes"),
        (["token", "create", "me", "--role", "{}"], "there is no such role"),
        (["serve", "--host", "https://u:{}@h"], "it must be a bare name or address"),
        (["serve", "--host", "u:{}"], "it must be a bare name or address"),
        (["serve", "--name", "https://u:{}@h"], "it must be a bare name or address"),
        (["up", "--host", "https://u:{}@h"], "it must be a bare name or address"),
    ],
)
def test_a_secret_for_an_argument(
    citysort: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    secret = canary()
    citysort.well("sources", "apply", file_of(tmp_path))
    ran = citysort(*(argument.format(secret) for argument in arguments))
    assert (ran.code, sentence in ran.err) == (2, True), ran
    assert Search([secret]).in_text(ran) == set()


def test_nobody_is_asked_for_what_is_no_secret(
    citysort: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt would repeat it."""
    monkeypatch.setattr("sys.stdin", None)
    citysort.well("sources", "apply", file_of(tmp_path))
    assert "that is not a secret setting of pg" in citysort("sources", "set-secret", "pg", "username").err
