"""`citysort reconcile`: which documents are gone from their source."""

from __future__ import annotations

from typing import Annotated

import typer

from citysort_dagster.cli.terminal import Json, print_json, result, say

NOT_RECONCILED = 3


def reconcile(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the source.")],
    max_lost: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="PERCENT", help="Mark nothing if more than this is missing at once."
        ),
    ] = 20,
    as_json: Json = False,
) -> None:
    """List a source whole and mark the documents gone from it.

    Nothing is ever removed.

    Documents that no import has met, for they came to be with an earlier date, say, are counted; the next refresh
    lists the source whole and imports them.

    Exit codes: 0 all well, 2 it could not be run, 3 nothing was marked: the listing broke off, or too
    much was missing at once.
    """
    from citysort_dagster import launch

    outcome = launch.reconcile_source(name, max_lost / 100)
    if as_json:
        print_json(outcome._asdict())
    elif outcome.failure is None:
        result(
            f"{name}: {outcome.gone} gone from the source, {outcome.returned} back at it, {outcome.missed} missed"
            f" by imports (run {outcome.run_id})"
        )
    if outcome.failure is not None:
        say(f"citysort: {outcome.failure}")
        raise typer.Exit(NOT_RECONCILED)
