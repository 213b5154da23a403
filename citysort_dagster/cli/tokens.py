"""`citysort token`: who may use the console and the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from citysort_dagster import api_tokens
from citysort_dagster.cli.terminal import Json, print_json, print_table, result, say
from citysort_dagster.document_list import plain
from citysort_dagster.installation import open_installation
from citysort_dagster.source_configs import COMMAND_LINE

app = typer.Typer(help="Tokens: who may use the console and the HTTP API, and as what.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is; audit events say so.")]


@app.command()
def create(
    name: Name,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE", help="viewer: look; operator: also test, import, review; admin: also configure."
        ),
    ] = "viewer",
) -> None:
    """Make a token and print it, once. From then on everybody needs one."""
    with open_installation() as installation:
        token = api_tokens.create(installation.database, name, role, COMMAND_LINE)
    result(token)
    say(f"keep it safe: it is shown only now; {name} is {role} with it")


@app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """List the tokens there are and were, without the tokens themselves."""
    with open_installation() as installation:
        found = api_tokens.tokens(installation.database)
    if as_json:
        print_json(
            [{key: plain(value) for key, value in token._asdict().items() if key != "id"} for token in found]
        )
    elif found:
        print_table(
            ("NAME", "ROLE", "CREATED", "LAST USED", "REVOKED"),
            [
                (
                    token.name,
                    token.role,
                    plain(token.created_at),
                    plain(token.last_used_at),
                    plain(token.revoked_at),
                )
                for token in found
            ],
        )
    else:
        say("there is no token: whoever is on this machine may use the console")


@app.command()
def revoke(name: Name) -> None:
    """Make a token, and the sessions it opened, good for nothing."""
    with open_installation() as installation:
        api_tokens.revoke(installation.database, name, COMMAND_LINE)
    result(f"revoked    {name}")
