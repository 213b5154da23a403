"""`citysort up`, `citysort serve` and `citysort demo`: CitySort running until it is stopped."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

import typer

from citysort_dagster.settings import load_settings


def bare_host(host: str) -> str:
    """The host if it is a bare name or address: messages name it, and anything more may hold a password."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(r"[\w.-]+", host):
            raise typer.BadParameter("it must be a bare name or address") from None
    return host


def _bare_hosts(hosts: list[str] | None) -> list[str]:
    return [bare_host(host) for host in hosts or []]


Host = Annotated[
    str, typer.Option(callback=bare_host, metavar="ADDRESS", help="The address to serve the UI on.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="The port to serve the UI on.")]
ConsolePort = Annotated[
    int | None,
    typer.Option(
        "--console-port",
        min=1,
        max=65535,
        metavar="PORT",
        help="The port of the console; the next one by default.",
    ),
]


def serve(
    host: Annotated[
        str, typer.Option(callback=bare_host, metavar="ADDRESS", help="The address to serve on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="The port to serve on.")] = 8000,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            callback=_bare_hosts,
            metavar="HOST",
            help="A host name that it is reached by, through a reverse proxy say.",
        ),
    ] = None,
) -> None:
    """Serve the console and the HTTP API until Ctrl-C."""
    from citysort_dagster.up import check_is_free
    from citysort_dagster.web.serving import serve as run

    check_is_free(host, port)
    run(host, port, names or [])


def up(host: Host = "127.0.0.1", port: Port = 3000, console_port: ConsolePort = None) -> None:
    """Run schedules, sensors, Dagster UI and console until Ctrl-C."""
    from citysort_dagster.up import run

    run(load_settings(), host, port, console_port)


def demo(
    host: Host = "127.0.0.1",
    port: Port = 3000,
    console_port: ConsolePort = None,
    once: Annotated[bool, typer.Option("--once", help="End after the table, without the UI.")] = False,
) -> None:
    """Make a small city, import it, show it, and run until Ctrl-C."""
    try:
        from sandbox.demo import run
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"the demo needs packages that are not installed ({error.name}): pip install 'citysort[demo]'"
        ) from None
    run(host=host, port=port, once=once, console_port=console_port)
