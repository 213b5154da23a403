"""`citysort up` and `citysort demo`: CitySort running until it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from citysort_dagster.settings import load_settings

Host = Annotated[str, typer.Option(help="The address to serve the UI on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to serve the UI on.")]


def up(host: Host = "127.0.0.1", port: Port = 3000) -> None:
    """Run schedules, sensors and the Dagster UI until Ctrl-C."""
    from citysort_dagster.up import run

    run(load_settings(), host, port)


def demo(
    host: Host = "127.0.0.1",
    port: Port = 3000,
    once: Annotated[bool, typer.Option("--once", help="End after the table, without the UI.")] = False,
) -> None:
    """Make a small demo city, import it, show what arrived where, and run until Ctrl-C."""
    try:
        from sandbox.demo import run
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"the demo needs packages that are not installed ({error.name}): pip install 'citysort[demo]'"
        ) from None
    run(host=host, port=port, once=once)
