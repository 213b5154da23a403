"""What commands print: results to stdout, messages to stderr, nothing that a terminal would obey."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any

import typer

from citysort_dagster.days import parse_day

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

MOST = 1_000_000_000
"""What a limit may be at most; databases count no further than some billion billions."""

_UNLIMITED_WIDTH = 10_000


def parse_date(text: str) -> date:
    """A date given as an argument."""
    try:
        return parse_day(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def harmless(value: object) -> str:
    """The value as text of one line, with control characters and invisible ones written out: names
    of documents come from outside."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        else char
        for char in ("" if value is None else str(value))
    )


def say(sentence: str) -> None:
    """Prints a message to stderr."""
    typer.echo(harmless(sentence), err=True)


def result(line: str) -> None:
    """Prints a line of the result to stdout."""
    typer.echo(harmless(line))


def print_json(value: Any) -> None:
    """Prints a value to stdout as JSON on one line, in ASCII: no name can disturb a terminal."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_json_array(items: Iterable[Mapping[str, Any]]) -> int:
    """Prints an array, an item a line, as the items come; returns how many there were."""
    count = 0
    sys.stdout.write("[")
    for item in items:
        sys.stdout.write(("," if count else "") + "\n" + json.dumps(item))
        count += 1
    sys.stdout.write("\n]\n")
    return count


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table, to a terminal as wide as that is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[Text(harmless(value)) for value in row])
    Console(width=None if sys.stdout.isatty() else _UNLIMITED_WIDTH).print(table)


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Prints names and values, one pair a line; pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        result(f"{name:<{width}}  {value}")
