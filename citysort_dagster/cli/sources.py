"""`citysort sources`: what documents are imported from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from citysort_dagster import secrets
from citysort_dagster.cli.terminal import (
    Json,
    print_json,
    print_json_array,
    print_pairs,
    print_table,
    result,
    say,
)
from citysort_dagster.document_list import plain
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.reload import reload_definitions
from citysort_dagster.source_configs import (
    SourceConfig,
    apply,
    check_secret,
    known_source,
    load_sources,
    remove_source,
    set_enabled,
    set_secret,
)

app = typer.Typer(help="The sources that documents are imported from.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the source.")]


@app.command("apply")
def apply_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file such as sources.yaml.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Disable sources that the file does not name.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the sources what a file says. Documents are never deleted."""
    with open_installation() as installation:
        applied = apply(file, installation.database, prune)
        if as_json:
            print_json(
                {
                    "created": applied.created,
                    "changed": applied.changed,
                    "unchanged": applied.unchanged,
                    "disabled": applied.disabled,
                }
            )
        else:
            for name in applied.created:
                result(f"created    {name}")
            for name, keys in applied.changed.items():
                result(f"changed    {name} ({', '.join(keys)})")
            for name in applied.unchanged:
                result(f"unchanged  {name}")
            for name in applied.disabled:
                result(f"disabled   {name} (no longer in the file)")
        if applied.created or applied.changed or applied.disabled:
            _reload(installation)


@app.command("list")
def list_sources(as_json: Json = False) -> None:
    """List the sources."""
    with open_installation() as installation:
        found = load_sources(installation.database)
    if as_json:
        print_json_array(_as_values(source) for source in found)
    elif found:
        print_table(
            ("NAME", "CONNECTOR", "ENABLED", "SCHEDULE (UTC)", "LAST IMPORT"),
            [
                (
                    source.name,
                    source.connector_type,
                    "yes" if source.enabled else "no",
                    source.schedule,
                    plain(source.last_sync_at),
                )
                for source in found
            ],
        )
    else:
        say("no source is configured yet; `citysort sources apply FILE` configures some")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show a source and its settings, without its secrets."""
    from connectors.registry import CONNECTOR_TYPES, connector_class

    with open_installation() as installation:
        source = known_source(installation.database, name)
    hidden = (
        secrets.secret_fields(connector_class(source.connector_type))
        if source.connector_type in CONNECTOR_TYPES
        else set(source.config)
    )
    values = _as_values(source, secrets.redact(source.config, hidden))
    if as_json:
        print_json(values)
        return
    config = values.pop("config")
    values["enabled"] = "yes" if source.enabled else "no"
    values["owners"] = ", ".join(source.owners)
    values["tags"] = ", ".join(f"{key}={value}" for key, value in source.tags.items())
    print_pairs([*values.items(), *((f"config.{key}", _setting(value)) for key, value in config.items())])


@app.command()
def test(name: Name, as_json: Json = False) -> None:
    """Connect to a source and say whether that works.

    Exit code 0 when it does, else 1.
    """
    from citysort_dagster.connection import try_connection

    with open_installation() as installation:
        status = try_connection(known_source(installation.database, name), installation.settings)
    if as_json:
        print_json(status._asdict())
    else:
        result(f"{'works' if status.ok else 'does not work'}: {status.message}")
    if not status.ok:
        raise typer.Exit(1)


@app.command()
def enable(name: Name) -> None:
    """Let a source be imported, and its schedule run."""
    _switch(name, True)


@app.command()
def disable(name: Name) -> None:
    """Keep a source from being imported. Its documents stay."""
    _switch(name, False)


@app.command()
def remove(name: Name) -> None:
    """Forget a source's configuration. Its documents and their history stay."""
    from citysort_dagster.launch import cancel_waiting_imports

    with open_installation() as installation:
        documents = remove_source(installation.database, name)
        result(f"removed    {name}")
        cancelled = cancel_waiting_imports(installation, name)
        if cancelled:
            say(f"{cancelled} imports of {name} that waited in the queue are cancelled")
        say(
            f"{documents} documents of {name} stay; applied again under this name it imports none of them twice"
        )
        _reload(installation)


@app.command("set-secret", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def store_secret(
    context: typer.Context,
    name: Name,
    setting: Annotated[str, typer.Argument(metavar="SETTING", help="A secret setting of its connector.")],
) -> None:
    """Store a secret of a source, encrypted. It is asked for, or read from standard input."""
    if context.args:
        raise typer.BadParameter(
            "the secret is not given as an argument, where others can see it: it is asked for,"
            " or read from standard input"
        )
    with open_installation() as installation:
        check_secret(known_source(installation.database, name), setting)
        try:
            if sys.stdin.isatty():
                value = str(typer.prompt(f"{setting} of {name}", hide_input=True, err=True))
            else:
                value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
            value.encode()
        except UnicodeError:
            raise typer.BadParameter("the secret is not text in UTF-8") from None
        if not value:
            raise typer.BadParameter("the secret is empty")
        set_secret(installation.database, installation.settings, name, setting, value)
        say(f"{setting} of {name} is stored, encrypted")
        _reload(installation)


def _switch(name: str, enabled: bool) -> None:
    with open_installation() as installation:
        changed = set_enabled(installation.database, name, enabled)
        word = "enabled" if enabled else "disabled"
        result(f"{word if changed else 'unchanged':<9}  {name}")
        if changed:
            say(
                f"to keep {name} {word} when sources.yaml is applied again, say `enabled: {str(enabled).lower()}` there"
            )
            _reload(installation)


def _reload(installation: Installation) -> None:
    problem = reload_definitions(installation.settings)
    if problem:
        say(problem)


def _as_values(source: SourceConfig, config: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": source.name,
        "connector": source.connector_type,
        "enabled": source.enabled,
        "schedule": source.schedule,
        "description": source.description,
        "group": source.group_name,
        "owners": source.owners,
        "tags": source.tags,
        "partitions_per_run": source.partitions_per_run,
        "last_sync_at": plain(source.last_sync_at),
        "watermark": plain(source.watermark),
        "created_at": plain(source.created_at),
        "updated_at": plain(source.updated_at),
        "config": secrets.redact(source.config) if config is None else config,
    }


def _setting(value: Any) -> object:
    name = secrets.variable(value)
    return f"{{env: {name}}}" if name is not None else value
