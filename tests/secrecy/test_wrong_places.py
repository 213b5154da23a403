"""Secrets where none belongs: whoever types one into the wrong place must not find it shown there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.pipeline.rules import RulesError, load_rules
from citysort_dagster.source_editing import create_source
from citysort_dagster.sources_file import SourceInvalid
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


@pytest.fixture
def installation() -> Iterator[Installation]:
    with open_installation() as opened:
        yield opened


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


def yaml_of(folder: Path, settings: str, **source: object) -> Path:
    """The same file with these settings besides, as a person writes them."""
    lines: dict[str, object] = {"name": "pg", "connector": "postgresql", **source, "config": ""}
    path = folder / "sources.yaml"
    path.write_text(
        "sources:\n  -"
        + "\n   ".join(f" {key}: {value}" for key, value in lines.items())
        + "".join(f"\n      {key}: {value}" for key, value in PG.items())
        + f"\n      {settings}\n"
    )
    return path


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("password:{}: 1", "no setting 'password…'; did you mean 'password'?"),
        ("password={}: 1", "no setting 'password…'; did you mean 'password'?"),
        ("pass word {}: 1", "no setting (…)"),
        ("{}==: 1", "no setting (…)"),
        ("{0}/{0}: 1", "no setting (…)"),
        ("pssword: {}", "no setting 'pssword'; did you mean 'password'?"),
        ("password: *{}", "found undefined alias (…)"),
        ("password: !{}", "could not determine a constructor for the tag (…)"),
        ("password: !it's{}", "could not determine a constructor for the tag (…)"),
        ("password: !it's\"{}", "expected ' ', but found"),
        ("port: !!int {}", "this value is not possible: invalid literal for int() with base 10: (…)"),
        ("port: !!bool {}", "this value is not possible"),
        ("port: !!timestamp {}", "this value is not possible"),
        ('? "x\'{0}"\n      : 1\n      ? "x\'{0}"\n      : 2', "the key (…) stands here a second time"),
    ],
)
def test_a_secret_among_the_settings_of_a_file(
    citysort: Command, tmp_path: Path, settings: str, sentence: str
) -> None:
    secret = canary()
    ran = citysort("sources", "apply", yaml_of(tmp_path, settings.format(secret)))
    assert (ran.code, sentence in ran.err) == (2, True), ran
    assert re.search(r"sources\.yaml, line \d", ran.err)
    assert Search([secret]).in_text(ran) == set()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("connector", "postgresql://u:{}@h/d", "no connector 'postgresql…'; did you mean 'postgresql'?"),
        ("name", "https://u:{}@h/", "the name 'https…' must consist of"),
        ("name", "{}!", "the name (…) must consist of"),
        ("schedule", "{}", "schedule must be a cron schedule"),
        ("pass:{}", "1", "unknown key 'pass…'"),
        ("description", "from postgresql://u:{}@h/d", "description holds an address with a password"),
        ("owners", ["team:permits", "team:https://{}@h/d"], "an owner holds an address with a password"),
    ],
)
def test_a_secret_beside_the_settings(
    citysort: Command, installation: Installation, tmp_path: Path, key: str, value: object, sentence: str
) -> None:
    secret = canary()
    key, value = json.loads(json.dumps([key, value]).replace("{}", secret))
    ran = citysort("sources", "apply", yaml_of(tmp_path, "concurrency: 1", **{key: value}))
    assert (ran.code, sentence in ran.err) == (2, True), ran
    assert Search([secret]).in_text(ran) == set()
    with pytest.raises(SourceInvalid, match=re.escape(sentence)) as raised:
        create_source(installation, {"name": "pg", "connector": "postgresql", "config": PG, key: value}, "a")
    assert Search([secret]).in_text(raised.value, raised.value.faults) == set()


@pytest.mark.parametrize(
    "text", ["a: *{}", "a: !it's{} x", "'{0}!': 1\n'{0}!': 2", "weights: {{strong: 1, weak: 1, 'p:{}': 1}}"]
)
def test_a_secret_in_the_rules(tmp_path: Path, text: str) -> None:
    secret = canary()
    path = tmp_path / "rules.yaml"
    path.write_text(text.format(secret))
    with pytest.raises(RulesError, match=r"rules\.yaml, line \d: ") as raised:
        load_rules(path)
    assert Search([secret]).in_text(raised.value) == set()
