"""`citysort import` and `citysort process`: real Dagster runs, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from citysort_dagster.cli.terminal import MOST, Json, parse_date, print_json, result, say
from citysort_dagster.installation import open_installation
from citysort_dagster.source_configs import known_source

if TYPE_CHECKING:
    from citysort_dagster.import_batch import Counts
    from citysort_dagster.launch import ImportOutcome

SOME_FAILED = 1
RUN_FAILED = 2
NOT_LISTED = 3
_SHOWN_ERRORS = 20


def import_documents(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the source.")],
    date_from: Annotated[
        date | None,
        typer.Option(
            "--from", parser=parse_date, metavar="DATE", help="Modified on this day (UTC) or later."
        ),
    ] = None,
    date_to: Annotated[
        date | None,
        typer.Option(
            "--to", parser=parse_date, metavar="DATE", help="Modified on this day (UTC) or earlier."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST, metavar="COUNT", help="Download at most so many documents.")
    ] = None,
    reimport: Annotated[
        bool, typer.Option("--reimport", help="Download known versions again and compare them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Import a source: everything, or what is of certain days.

    Exit codes: 0 all well, 1 some documents failed, 2 it could not be run, 3 the source could not be
    listed completely.
    """
    if date_from and date_to and date_from > date_to:
        raise typer.BadParameter(f"--from {date_from} is after --to {date_to}")
    with open_installation() as installation:
        known_source(installation.database, name)
    code = report_import(
        import_now(name, date_from=date_from, date_to=date_to, limit=limit, reimport=reimport), as_json
    )
    raise typer.Exit(code)


def process(as_json: Json = False) -> None:
    """Take waiting documents through the ingestion pipeline.

    That is text, classification, queue or review. While `citysort up` runs it happens by itself.
    """
    from citysort_dagster import launch

    outcome = launch.process()
    if as_json:
        print_json(outcome._asdict())
    elif outcome.run_id is None:
        result("no document is waiting")
    elif outcome.failure is None:
        result(f"{outcome.waiting} documents processed in run {outcome.run_id}")
    if outcome.failure is not None:
        say(f"citysort: {outcome.failure}")
        raise typer.Exit(SOME_FAILED)


def import_now(
    name: str,
    date_from: date | None = None,
    date_to: date | None = None,
    limit: int | None = None,
    reimport: bool = False,
) -> ImportOutcome:
    """Imports a source, showing on a terminal how far it is."""
    from citysort_dagster import launch

    with _progress(name) as on_progress:
        return launch.import_source(
            name,
            date_from=date_from,
            date_to=date_to,
            limit=limit,
            reimport=reimport,
            on_progress=on_progress,
            on_wait=lambda run_id: say(f"waiting for run {run_id}, which imports {name} already"),
        )


def report_import(outcome: ImportOutcome, as_json: bool) -> int:
    """Prints what came of an import and returns the exit code that says it."""
    if as_json:
        print_json(
            {
                "source": outcome.source,
                "imported": outcome.imported,
                "skipped": outcome.skipped,
                "failed": outcome.failed,
                "errors": [dict(error) for error in outcome.errors],
                "warnings": list(outcome.warnings),
                "run_id": outcome.run_id,
            }
        )
    else:
        result(
            f"{outcome.source}: {outcome.imported} imported, {outcome.skipped} skipped, {outcome.failed} failed"
            f" (run {outcome.run_id})"
        )
        for error in outcome.errors[:_SHOWN_ERRORS]:
            say(f"failed: {error['filename']} ({error['external_id']}): {error['reason']}")
        if len(outcome.errors) > _SHOWN_ERRORS:
            say(f"`citysort failures list --source {outcome.source}` shows all {len(outcome.errors)}")
        for warning in outcome.warnings:
            say(f"warning: {warning}")
    if outcome.limited:
        say("the import was cut short by its limit: there may be more documents")
    if outcome.incomplete is not None:
        say(f"citysort: the source {outcome.source} could not be listed completely: {outcome.incomplete}")
        return NOT_LISTED
    if outcome.failure is not None:
        say(f"citysort: {outcome.failure}")
        return RUN_FAILED
    return SOME_FAILED if outcome.failed else 0


@contextmanager
def _progress(name: str) -> Iterator[Callable[[Counts], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task(f"importing {escape(name)}")

        def show(counts: Counts) -> None:
            progress.update(
                task,
                description=f"importing {escape(name)}: {counts.listed} listed, {counts.imported} imported,"
                f" {counts.skipped} skipped, {counts.failed} failed, {counts.bytes / 1e6:.0f} MB",
            )

        yield show
