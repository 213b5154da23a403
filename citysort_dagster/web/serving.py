"""The server of the console and the HTTP API."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import uvicorn

from citysort_dagster import api_tokens
from citysort_dagster.installation import open_installation
from citysort_dagster.store.database import Database
from citysort_dagster.up import address
from citysort_dagster.web.app import create_app
from citysort_dagster.web.loopback import is_loopback

STOP_SECONDS = 5
"""How long an answer under way may take once the server is to stop: some are watched without end."""


class CannotServe(Exception):
    """The server must not, or cannot, start; one sentence."""


def serve(host: str, port: int, names: Sequence[str] = ()) -> None:
    """Serves the installation until SIGINT or SIGTERM.

    `names` are host names that it is reached by from elsewhere, through a reverse proxy for instance.
    Raises CannotServe where others could reach it and no token says who they are.
    """
    loopback = is_loopback(host)
    with open_installation() as installation:
        if not loopback or names:
            refuse_without_tokens(installation.database, names[0] if names else host)
        print(f"the console is at {address(host, port)}  (Ctrl-C stops it)", file=sys.stderr)  # noqa: T201 - to a person
        uvicorn.run(
            create_app(installation, loopback=loopback, hosts=names),
            host=host,
            port=port,
            log_level="warning",
            server_header=False,
            # What a proxy says of its clients is believed where there is one, on this machine.
            proxy_headers=bool(names),
            forwarded_allow_ips="127.0.0.1,::1",
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=64_000,
        )


def refuse_without_tokens(database: Database, host: str) -> None:
    """Raises CannotServe while there is no token that is good."""
    if all(token.revoked_at is not None for token in api_tokens.tokens(database)):
        raise CannotServe(
            f"others could reach CitySort at {host}, and there is no token to know them by:"
            " `citysort token create NAME --role admin` makes one"
        )
