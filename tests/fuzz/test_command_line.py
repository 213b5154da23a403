"""Any arguments: a result, or one sentence and an exit code that is promised."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import given, settings
from hypothesis import strategies as st

from citysort_dagster.cli import app
from tests.fuzz.conftest import Installation

STAYING = {"serve", "up", "demo"}
"""Commands that run until they are stopped."""

RUNNING = {"import", "process", "failures retry"}
"""Commands that take their time."""

# As the system hands over what is no UTF-8; NUL is never among them.
TEXT = st.text(st.characters(exclude_characters="\0/", exclude_categories=()), max_size=30)
TELLING = st.sampled_from([
    "", "-", "--", "--json", "--help", "-1", "0", "1", "9" * 30, "-" + "9" * 30, "1e9", "0x10", "½", "٣", "nan",
    "0001-01-01", "9999-12-31", "1900-01-01", "2999-12-31", "2026-02-30", "20260101", "2026-W01-1", "now",
    "letters", "LETTERS", "lettres", "%", "_", "'", '"', "`x`", "$(x)", "\ud800", "\udcff", "\x1b[2J", "\u202e",
    "deadbeef", "a" * 36, "é" * 300, "{}", "[]", "null", "*", ".", "..", "~", "~nobody", "@file", "password",
])  # fmt: skip
ARGUMENT = st.one_of(TELLING, TEXT)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its whole name, from the program itself."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            for part, found in inner.items():
                yield from below(f"{name} {part}".strip(), found)

    yield from below("", typer.main.get_command(app))


COMMANDS = dict(commands())


@st.composite
def arguments_of(draw: st.DrawFn, name: str) -> list[str]:
    """Arguments for a command: its own options and as many arguments as it takes, mostly."""
    given = []
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            if draw(st.integers(0, 9)):
                given.append(draw(ARGUMENT))
        elif parameter.name != "help" and draw(st.booleans()):
            given.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
            if not parameter.is_flag:
                given.append(draw(ARGUMENT))
    given = draw(st.permutations(given)) if not draw(st.integers(0, 4)) else given
    return [
        *name.split(),
        *given,
        *draw(st.lists(ARGUMENT, max_size=2) if not draw(st.integers(0, 4)) else st.just([])),
    ]


@pytest.fixture(scope="module")
def letters(installation: Installation) -> Installation:
    """An installation with a source and documents of it."""
    with closing(sqlite3.connect(installation.folder / "letters.db")) as connection, connection:
        connection.execute("CREATE TABLE letters (id, modified, content)")
        connection.execute("INSERT INTO letters VALUES (1, '2026-01-15', 'A letter')")
    (installation.folder / "sources.yaml").write_text(
        "sources: [{name: letters, connector: sqlite, config: {filepath: letters.db, query: SELECT * FROM letters,"
        " id_column: id, content_column: content, modified_column: modified}}]"
    )
    assert installation.run(["sources", "apply", "sources.yaml"]).code == 0
    assert installation.run(["import", "letters"]).code == 0
    return installation


def test_every_command_is_tried() -> None:
    assert len(COMMANDS) >= 16
    assert set(COMMANDS) >= STAYING | RUNNING


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - STAYING - RUNNING))
def test_any_arguments(name: str, letters: Installation) -> None:
    @settings(max_examples=40)
    @given(arguments_of(name))
    def try_it(arguments: Sequence[str]) -> None:
        letters.run(arguments)

    try_it()


@settings(max_examples=150)
@given(
    st.lists(
        st.one_of(
            ARGUMENT,
            st.sampled_from(
                sorted(
                    {part for name in COMMANDS for part in name.split()}
                    - STAYING
                    - {"import", "process", "retry"}
                )
            ),
        ),
        max_size=5,
    )
)
def test_any_words(installation: Installation, words: list[str]) -> None:
    installation.run(words)


@pytest.mark.parametrize("name", sorted(STAYING | RUNNING))
@pytest.mark.parametrize("words", [
    ["--no-such-option"], ["--port", "-1"], ["--port", "65536"], ["--port", "x"], ["--limit", "0"], ["--from"],
    ["a", "b", "c"], ["--from", "2026-02-30"], ["--to", "x"], ["--limit", "9" * 30], ["--once", "x"], ["nobody", "x"],
])  # fmt: skip
def test_commands_that_would_stay_or_run_refuse_what_they_do_not_know(
    name: str, words: list[str], installation: Installation
) -> None:
    assert installation.run([*name.split(), *words]).code == 2


@pytest.mark.parametrize("host", ["a" * 70, "é" * 70, "a..b", "x" * 300, "192.0.2.1", "::ffff:192.0.2.1"])
def test_hosts_that_are_not_here(host: str, installation: Installation) -> None:
    assert installation.run(["up", "--host", host]).code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--from", "0001-01-01"], 2),
        (["--to", "9999-12-31"], 2),
        (["--from", "1900-01-01", "--to", "2999-12-31"], 0),
        (["--from", "2999-12-31", "--to", "2999-12-31"], 0),
        (["--to", "1900-01-01"], 0),
        (["--from", "2026-01-02", "--to", "2026-01-01"], 2),
        (["--limit", "1000000000", "--reimport"], 0),
    ],
)
def test_imports_at_the_ends_of_time(letters: Installation, words: list[str], code: int) -> None:
    assert letters.run(["import", "letters", "--json", *words]).code == code


@pytest.mark.parametrize("day", ["0001-01-01", "1900-01-01", "2999-12-31", "9999-12-31"])
@pytest.mark.parametrize("length", ["daily", "weekly", "monthly"])
def test_any_first_day(tmp_path: Path, day: str, length: str) -> None:
    installation = Installation(tmp_path)
    environment = {"CITYSORT_PARTITIONS": length, "CITYSORT_PARTITIONS_START": day}
    (tmp_path / "letters.db").touch()
    (tmp_path / "sources.yaml").write_text(
        "sources: [{name: letters, connector: sqlite, config: {filepath: letters.db, query: SELECT 1 AS id,"
        " id_column: id, content_column: id}}]"
    )
    possible = "1900-01-01" <= day <= "2999-12-31"
    assert installation.run(["sources", "apply", "sources.yaml"], environment).code == (0 if possible else 2)
    if day == "2999-12-31":
        assert installation.run(["import", "letters"], environment).code == 0
