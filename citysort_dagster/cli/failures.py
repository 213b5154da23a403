"""`citysort failures`: documents that could not be imported."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
import typer

from citysort_dagster.cli.imports import import_now, report_import
from citysort_dagster.cli.terminal import Json, print_json_array, print_table, say
from citysort_dagster.document_list import as_values
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.source_configs import known_source, load_sources
from citysort_dagster.store.models import ImportFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(help="Documents that could not be imported.")

_BATCH = 1_000


@app.command("list")
def list_failures(
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Of this source.")] = None,
    as_json: Json = False,
) -> None:
    """List what could not be imported, why, and when it is tried again."""
    statement = sa.select(ImportFailure).order_by(ImportFailure.source, ImportFailure.external_id)
    if source is not None:
        statement = statement.where(ImportFailure.source == source)
    with open_installation() as installation, installation.database.read() as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=_BATCH)
        found = (as_values(row) for row in streaming.execute(statement))
        if as_json:
            print_json_array(found)
            return
        rows = [
            (
                failure["source"],
                failure["filename"],
                failure["external_id"],
                failure["reason"],
                failure["attempts"],
                "refused" if failure["refused"] else f"{failure['next_try_at'] or ''}"[:16].replace("T", " "),
            )
            for failure in found
        ]
    if rows:
        print_table(("SOURCE", "NAME", "EXTERNAL ID", "REASON", "ATTEMPTS", "NEXT TRY (UTC)"), rows)
        return
    if source is not None:
        known_source(installation.database, source)  # else a misspelt name would seem to be in order
    say("nothing has failed")


@app.command()
def retry(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One source only.")] = None,
    as_json: Json = False,
) -> None:
    """Import again where documents failed or were refused.

    It does not wait for their next try. Exit codes as those of `import`; of several sources the worst.
    """
    with open_installation() as installation:
        if name is not None:
            known_source(installation.database, name)
        due = _due(installation, name)
    if not due:
        say("nothing has failed")
    code = 0
    for source, date_from in due:
        code = max(code, report_import(import_now(source, date_from=date_from), as_json))
    raise typer.Exit(code)


def _due(installation: Installation, name: str | None) -> Sequence[tuple[str, date | None]]:
    """The enabled sources with failures, each with the first day of the first partition concerned.

    There is no last day: a document without a date moves on with the present, and so may one that
    was modified since it failed.
    """
    enabled = {source.name for source in load_sources(installation.database) if source.enabled}
    with installation.database.read() as connection:
        firsts = connection.execute(
            sa.select(ImportFailure.source, sa.func.min(ImportFailure.partition))
            .group_by(ImportFailure.source)
            .order_by(ImportFailure.source)
        ).all()
    keys = installation.calendar.keys
    due = []
    for source, first in firsts:
        if source in enabled and name in (None, source):
            start = installation.calendar.window([first]).start if first in keys else None
            due.append((source, start.date() if start else None))
    return due
