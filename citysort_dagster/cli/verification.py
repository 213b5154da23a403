"""`citysort verify`: whether records and stored files agree."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from citysort_dagster import verify as verification
from citysort_dagster.cli.terminal import Json, print_json_array, result, say
from citysort_dagster.installation import open_installation
from citysort_dagster.verify import Disagreement


def verify(
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare the sizes of stored files, not their SHA-256.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hold records and stored files against each other.

    The records are the sync log, the documents and the audit trail. Exit code 0 when nothing disagrees, else 1.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    checked = 0
    columns = (SpinnerColumn(), TextColumn("{task.completed} documents checked"))
    with (
        open_installation() as installation,
        Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as progress,
    ):
        task = progress.add_task("", total=None)

        def count(documents: int) -> None:
            nonlocal checked
            checked += documents
            progress.advance(task, documents)

        found = verification.verify(installation.database, installation.files, quick, count)
        disagreements = print_json_array(one._asdict() for one in found) if as_json else _print(found)
    say(f"{checked} documents checked, {disagreements or 'no'} disagreement{'s' * (disagreements != 1)}")
    if disagreements:
        raise typer.Exit(1)


def _print(found: Iterator[Disagreement]) -> int:
    count = 0
    for one in found:
        count += 1
        about = (one.source, one.external_id, one.document_id, one.path)
        result(f"{one.kind}: {one.message}: {', '.join(str(part) for part in about if part)}")
    return count
