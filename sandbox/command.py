"""`sandbox`: changes the simulated systems of a running demo, so that one can watch CitySort notice."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from datetime import datetime, timezone
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any

import requests
import typer

from citysort_dagster.settings import SettingsError, load_settings

app = typer.Typer(
    help="Changes the simulated systems of a running demo.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

System = Annotated[
    str, typer.Argument(metavar="SYSTEM", help="The name of its source, such as public_works.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The document's id in that system.")]
File = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)]


class SandboxError(Exception):
    """What was asked cannot be done, in one sentence."""


@app.command("list")
def list_documents(system: System) -> None:
    """List the documents of a system."""
    for document in _ask(system, "GET", "documents"):
        typer.echo(f"{document['id']}  {document['modified_at'][:19]}  {document['name']!a}")


@app.command()
def add(
    system: System,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", exists=True, dir_okay=False, help="Without one, an invented document."
        ),
    ] = None,
) -> None:
    """Add a document to a system."""
    name, content = (file.name, file.read_bytes()) if file else _invented()
    added = _ask(system, "POST", "documents", {"name": name, **_content(name, content)})
    typer.echo(f"added {name} as {added['id']}")


@app.command()
def replace(system: System, id: Id, file: File) -> None:
    """Replace a document of a system by a new version."""
    _ask(system, "PUT", f"documents/{id}", {"content_base64": base64.b64encode(file.read_bytes()).decode()})
    typer.echo(f"replaced {id}")


@app.command()
def remove(system: System, id: Id) -> None:
    """Remove a document from a system."""
    _ask(system, "DELETE", f"documents/{id}")
    typer.echo(f"removed {id}")


@app.command()
def misbehave(
    system: System,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="throttle, fail, reset, truncate, corrupt, login_page, slow, expire_tokens, thin_page "
            "or repeat_token.",
        ),
    ],
    times: Annotated[int, typer.Option(min=1, metavar="COUNT", help="How many requests.")] = 1,
    retry_after: Annotated[
        str,
        typer.Option(metavar="FORM", help="With throttle: none, seconds, date, reset_epoch or reset_iso."),
    ] = "seconds",
) -> None:
    """Make a system misbehave for its next requests."""
    _ask(system, "POST", "misbehaviour", {"kind": kind, "times": times, "retry_after": retry_after})
    typer.echo(f"{system} misbehaves ({kind}) for its next {times} requests")


@app.command()
def behave(system: System) -> None:
    """End all misbehaviour of a system."""
    _ask(system, "DELETE", "misbehaviour")
    typer.echo(f"{system} behaves")


def main() -> int:
    """Runs one command and returns its exit code: 0, or 2 with one sentence on stderr."""
    try:
        app(sys.argv[1:] or ["--help"], prog_name="sandbox", standalone_mode=False)
    except typer.TyperException as error:
        typer.echo(f"sandbox: {error.format_message()}", err=True)
        return 2
    except (SandboxError, SettingsError) as error:
        typer.echo(f"sandbox: {error}", err=True)
        return 2
    return 0


def _ask(system: str, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
    control = _running()
    if system not in control:
        raise SandboxError(f"there is no simulated system {system}; there are: {', '.join(sorted(control))}")
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(
                method,
                f"{control[system]['url']}/_sandbox/{what}",
                json=body,
                headers={"X-Sandbox-Token": control[system]["token"]},
                timeout=30,
                verify=control[system]["ca_file"] or True,
            )
        except requests.RequestException as error:
            raise SandboxError(
                f"{system} does not answer ({type(error).__name__}): is the demo running?"
            ) from None
    if not answer.ok:
        raise SandboxError(f"{system}: {answer.json().get('error', answer.status_code)}")
    return answer.json() if answer.content else None


def _running() -> dict[str, dict[str, str]]:
    from sandbox.demo import CONTROL_FILE, use_demo_folder

    use_demo_folder()
    try:
        running: dict[str, dict[str, str]] = json.loads(
            (load_settings().data_dir / "city" / CONTROL_FILE).read_bytes()
        )
    except (OSError, ValueError):
        raise SandboxError("no demo is running in this folder: start one with `make demo`") from None
    return running


def _invented() -> tuple[str, bytes]:
    from sandbox.documents import generate

    document = next(
        one
        for one in generate(40, seed=secrets.randbelow(1_000_000))
        if one.kind == "building_permit" and not one.awkward
    )
    return document.name, document.content


def _content(name: str, content: bytes) -> dict[str, str]:
    return {
        "content_base64": base64.b64encode(content).decode(),
        "content_type": guess_type(name)[0] or "application/octet-stream",
        "modified_at": datetime.now(timezone.utc).isoformat(),
    }
