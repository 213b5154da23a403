"""The command line `citysort`.

Exit codes: 0 all well; 1 some documents failed or something disagrees; 2 usage or configuration;
3 a source could not be listed completely; 130 interrupted. Results go to stdout, all else to stderr.
Commands import what they need when they run, so that the quick ones stay quick.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Sequence

import typer

from citysort_dagster.api_tokens import TokenError
from citysort_dagster.cli import (
    documents,
    failures,
    imports,
    reconciliation,
    running,
    sources,
    tokens,
    verification,
)
from citysort_dagster.cli.terminal import say
from citysort_dagster.document_list import UnknownDocument
from citysort_dagster.export import ExportError
from citysort_dagster.files import FileStoreError
from citysort_dagster.secrets import SecretUnavailable
from citysort_dagster.settings import SettingsError
from citysort_dagster.source_configs import SourceUnchangeable, UnknownSource
from citysort_dagster.sources_file import SourcesInvalid
from citysort_dagster.store.database import DatabaseError
from citysort_dagster.yaml_lines import YamlError

USAGE = 2
INTERRUPTED = 130
NOBODY_READS = 141
"""As the shell reports a program that a closed pipe has ended."""
_CANNOT_WRITE = (errno.ENOSPC, errno.EIO, errno.EFBIG)

app = typer.Typer(
    help="CitySort brings a city's documents from the systems they lie in to the departments they belong to.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(sources.app, name="sources")
app.command("import")(imports.import_documents)
app.command("process")(imports.process)
app.command("reconcile")(reconciliation.reconcile)
app.add_typer(documents.app, name="documents")
app.add_typer(failures.app, name="failures")
app.command("verify")(verification.verify)
app.command("serve")(running.serve)
app.add_typer(tokens.app, name="token")
app.command("up")(running.up)
app.command("demo")(running.demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command (that of the process by default) and returns its exit code."""
    _make_streams_usable()
    given = list(sys.argv[1:] if arguments is None else arguments)
    for number, argument in enumerate(given, 1):
        if any("\ud800" <= char <= "\udfff" for char in argument):  # how Python shows other bytes
            say(f"citysort: argument {number} is not text in UTF-8")
            return USAGE
    try:
        code = app(given or ["--help"], prog_name="citysort", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        say(f"citysort: {_wrong_use(error)}")
        return USAGE
    except _expected_errors() as error:
        for sentence in str(error).splitlines():
            say(f"citysort: {sentence}")
        return USAGE
    except _interruptions():
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # typer and rich exit when nobody reads on; the interpreter would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except Exception as error:  # noqa: BLE001 - its text may hold anything, a secret too
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.filename is None:
            say(f"citysort: the result cannot be written: {error.strerror}")
            return USAGE
        from connectors.base import unexpected

        say(f"citysort: {unexpected(error)}; this is a defect of CitySort, please report it")
        return USAGE
    return code if isinstance(code, int) else 0


def _make_streams_usable() -> None:
    """Where a shell has closed one, nothing is read or written; what its encoding lacks is written as an escape."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - stays open until the end
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _wrong_use(error: typer.TyperException) -> str:
    """What is wrong with the arguments, without quoting what may be a secret given as one."""
    told = error.format_message()
    if "unexpected extra argument" in told:
        return "Got more arguments than this command takes."
    unknown = re.match(r"No such (option|command)\W*(.*)", told)
    if unknown and not re.match(r"[a-z]{1,20}(-[a-z]{1,20})?\b(?![-\w])", unknown[2]):
        return f"No such {unknown[1]}."
    return told


def _expected_errors() -> tuple[type[Exception], ...]:
    known: list[type[Exception]] = [
        DatabaseError,
        ExportError,
        FileStoreError,
        SecretUnavailable,
        SettingsError,
        SourceUnchangeable,
        SourcesInvalid,
        TokenError,
        UnknownDocument,
        UnknownSource,
        YamlError,
    ]
    # A module that was never imported has raised nothing.
    if "connectors.base" in sys.modules:
        from connectors.base import ConfigurationError

        known.append(ConfigurationError)
    if "citysort_dagster.up" in sys.modules:
        from citysort_dagster.up import UpError

        known.append(UpError)
    if "citysort_dagster.web.serving" in sys.modules:
        from citysort_dagster.web.serving import CannotServe

        known.append(CannotServe)
    if "citysort_dagster.server_process" in sys.modules:
        from citysort_dagster.server_process import ServerError

        known.append(ServerError)
    return tuple(known)


def _interruptions() -> tuple[type[BaseException], ...]:
    if "dagster" in sys.modules:
        from dagster import DagsterExecutionInterruptedError

        return (KeyboardInterrupt, typer.Abort, DagsterExecutionInterruptedError)
    return (KeyboardInterrupt, typer.Abort)
