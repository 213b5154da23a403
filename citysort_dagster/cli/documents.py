"""`citysort documents`: what has been imported."""

from __future__ import annotations

import hashlib
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from citysort_dagster.cli.terminal import (
    MOST,
    Json,
    parse_date,
    print_json,
    print_json_array,
    print_pairs,
    print_table,
    result,
    say,
)
from citysort_dagster.document_list import DocumentFilter, find_document, list_documents
from citysort_dagster.document_list import Status as DocumentStatus
from citysort_dagster.export import MANIFEST, Exported
from citysort_dagster.export import export as export_documents
from citysort_dagster.files import read_piece
from citysort_dagster.installation import open_installation
from citysort_dagster.lineage import lineage
from citysort_dagster.reload import running_url

app = typer.Typer(help="The documents that have been imported.")

TABLE_ROWS = 100
_SHORT_ID = 12

DocumentId = Annotated[str, typer.Argument(metavar="ID", help="The document's id, or its beginning.")]
Source = Annotated[str | None, typer.Option("--source", metavar="NAME", help="Of this source.")]
Department = Annotated[str | None, typer.Option("--department", metavar="NAME", help="Of this department.")]
DocType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Of this type, as foi_request.")]


def _known_status(status: str | None) -> str | None:
    if status is not None and status not in get_args(DocumentStatus):
        raise typer.BadParameter("it is ingested, routed, needs_review or failed")
    return status


Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        callback=_known_status,
        metavar="STATUS",
        help="ingested, routed, needs_review or failed.",
    ),
]
Partition = Annotated[str | None, typer.Option("--partition", metavar="KEY", help="Of this partition.")]
Run = Annotated[str | None, typer.Option("--run", metavar="ID", help="Imported by this run.")]
From = Annotated[
    date | None,
    typer.Option("--from", parser=parse_date, metavar="DATE", help="Imported on this day (UTC) or later."),
]
To = Annotated[
    date | None,
    typer.Option("--to", parser=parse_date, metavar="DATE", help="Imported on this day (UTC) or earlier."),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        metavar="WORDS",
        help="With all these words, or words that begin so, in the name, the id at the source or the text.",
    ),
]
Current = Annotated[
    bool,
    typer.Option("--all/--current", help="All versions, or without those that later ones supersede."),
]


@app.command("list")
def list_(
    source: Source = None,
    department: Department = None,
    doc_type: DocType = None,
    status: Status = None,
    partition: Partition = None,
    run: Run = None,
    date_from: From = None,
    date_to: To = None,
    every_version: Current = True,
    search: Search = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            metavar="COUNT",
            help=f"At most so many; without it all in JSON, {TABLE_ROWS} in a table.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List documents, those imported last first."""
    chosen = DocumentFilter(
        source, department, doc_type, status, partition, run, date_from, date_to, not every_version, search
    )
    with open_installation() as installation:
        if as_json:
            print_json_array(list_documents(installation.database, chosen, limit))
            return
        found = list(list_documents(installation.database, chosen, (limit or TABLE_ROWS) + 1))
    if not found:
        say("there is no such document")
        return
    more = len(found) > (limit or TABLE_ROWS)
    print_table(
        ("ID", "SOURCE", "NAME", "STATUS", "TYPE", "DEPARTMENT", "PARTITION", "BYTES", "IMPORTED (UTC)"),
        [
            (
                document["id"][:_SHORT_ID],
                document["source"],
                document["filename"],
                document["status"] + (", superseded" if document["superseded_by"] else ""),
                document["doc_type"],
                document["department"],
                document["partition"],
                document["size"],
                document["imported_at"][:16].replace("T", " "),
            )
            for document in found[: limit or TABLE_ROWS]
        ],
    )
    if more:
        say("there are more: --limit says how many to show, the filters which")


@app.command()
def show(document_id: DocumentId, as_json: Json = False) -> None:
    """Show where a document came from and everything that became of it."""
    with open_installation() as installation:
        document = find_document(installation.database, document_id)
        known = lineage(installation.database, document, running_url(installation.settings))
    if as_json:
        print_json(known)
        return
    removed = "" if known["source_is_configured"] else " (no longer configured)"
    text = known["text"] or {}
    print_pairs(
        [
            ("document", known["id"]),
            ("name", known["filename"]),
            ("bytes", f"{known['size']} {known['content_type'] or ''}".rstrip()),
            ("sha256", known["sha256"]),
            ("stored as", known["path"]),
            ("source", f"{known['source']} ({known['connector_type']}){removed}"),
            ("external id", known["external_id"]),
            ("version", known["version"]),
            ("modified", known["source_modified_at"]),
            ("source's URL", known["source_url"]),
            *((f"source's {key}", value) for key, value in known["source_metadata"].items()),
            ("asset", f"{known['asset_key']}, partition {known['partition']}"),
            ("asset in the UI", known["links"].get("asset")),
            ("imported", known["imported_at"]),
            ("run", known["run_id"]),
            ("run in the UI", known["links"].get("run")),
            ("supersedes", known["supersedes"]),
            ("superseded by", known["superseded_by"]),
            ("text", f"{text['characters']} characters" if text else None),
            ("text problem", text.get("problem")),
            ("status", f"{known['status']} (stage {known['stage']})"),
            ("type", known["doc_type"]),
            ("confidence", known["confidence"]),
            ("urgency", known["urgency"]),
            ("department", known["department"]),
            ("due", known["due_date"]),
            ("review because", "; ".join(known["review_reasons"])),
            *((f"field {key}", value) for key, value in known["fields"].items()),
        ]
    )
    if len(known["versions"]) > 1:
        result("")
        result("versions, oldest first")
        for version in known["versions"]:
            mark = "*" if version["id"] == known["id"] else " "
            result(f"{mark} {version['imported_at'][:19]}  {version['id']}  {version['version']}")
    result("")
    result("history")
    for event in known["events"]:
        result(f"  {event['at'][:19]}  {event['event']}, by {event['actor']}{_details(event)}")


@app.command()
def cat(
    document_id: DocumentId,
    force: Annotated[bool, typer.Option("--force", help="Write to a terminal whatever it is.")] = False,
) -> None:
    """Write a document's bytes to standard output.

    Exit code 1 when they are not those imported.
    """
    with open_installation() as installation:
        document = find_document(installation.database, document_id)
        digest = hashlib.sha256()
        out = sys.stdout.buffer
        with installation.files.open(document["path"]) as stored:
            while piece := read_piece(stored):
                if sys.stdout.isatty() and not force and not _is_printable(piece):
                    raise typer.BadParameter(
                        "this document is not plain text: redirect the output to a file, or use --force"
                    )
                digest.update(piece)
                out.write(piece)
        out.flush()
    if digest.hexdigest() != document["sha256"]:
        say(
            f"citysort: the stored file of {document['id']} is not the one that was imported"
            f" (SHA-256 {digest.hexdigest()}, not {document['sha256']})"
        )
        raise typer.Exit(1)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to.")],
    source: Source = None,
    department: Department = None,
    doc_type: DocType = None,
    status: Status = None,
    partition: Partition = None,
    run: Run = None,
    date_from: From = None,
    date_to: To = None,
    every_version: Current = True,
    search: Search = None,
    as_json: Json = False,
) -> None:
    """Copy documents into a folder, with a manifest of their lineage. Repeat it to resume it."""
    chosen = DocumentFilter(
        source, department, doc_type, status, partition, run, date_from, date_to, not every_version, search
    )
    counts = {"exported": 0, "present": 0, "failed": 0}

    def count(exported: Exported) -> None:
        if exported.problem is not None:
            counts["failed"] += 1
            say(f"citysort: {exported.file}: {exported.problem}")
        else:
            counts["present" if exported.present else "exported"] += 1

    with open_installation() as installation:
        export_documents(installation.database, installation.files, folder, chosen, count)
    if as_json:
        print_json({**counts, "manifest": str(folder / MANIFEST)})
    else:
        result(
            f"{counts['exported']} exported, {counts['present']} were there already, {counts['failed']} failed:"
            f" {folder / MANIFEST}"
        )
    if counts["failed"]:
        raise typer.Exit(1)


def _is_printable(piece: bytes) -> bool:
    """Whether a terminal shows these bytes as they are, rather than obeying them."""
    # A character of several bytes may be cut in two at the end of a piece.
    text = piece.decode(errors="ignore")
    return len(piece) - len(text.encode()) <= 3 and all(
        char in "\n\t\r\f" or char.isprintable() for char in text
    )


def _details(event: dict[str, Any]) -> str:
    details = ", ".join(
        f"{key}={value}" for key, value in event["details"].items() if value not in (None, "", [])
    )
    run = f" in run {event['run_id']}" if event["run_id"] else ""
    return f"{run}: {details}" if details else run
