"""`citysort documents`, on each kind of documents database."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from citysort_dagster.store.models import Document
from tests.cli.conftest import Command
from tests.importer.conftest import SOURCE, City

CONTENT = b"\x00\xff\x1b[2Jsome bytes\r\n" * 1000
FIELDS = {
    "id",
    "source",
    "external_id",
    "version",
    "filename",
    "content_type",
    "size",
    "sha256",
    "source_url",
    "source_modified_at",
    "partition",
    "status",
    "doc_type",
    "department",
    "superseded_by",
    "run_id",
}


@pytest.fixture
def filled(town: City) -> City:
    """Three documents of two months, of one of them a second version."""
    town.put("april.bin", CONTENT, month=4)
    town.put("may.txt", b"plain text", month=5)
    town.put("[red]evil[bold]\x1b[31m\u202e.txt", b"x", month=5)
    town.run(run_id="run-1")
    town.put("may.txt", b"plain text, corrected", month=5, day=12)
    town.run(run_id="run-2")
    return town


def test_listing_tells_everything_about_each_document(citysort: Command, filled: City) -> None:
    ran = citysort.well("documents", "list", "--json")
    listed = ran.json
    assert ran.stdout.isascii()
    assert len(listed) == 4
    assert all(set(document) >= FIELDS for document in listed)
    newest = listed[0]
    former = next(document for document in listed if document["superseded_by"])
    assert (newest["filename"], former["filename"]) == ("may.txt", "may.txt")
    assert (former["superseded_by"], newest["supersedes"]) == (newest["id"], former["id"])
    assert newest["sha256"] == hashlib.sha256(b"plain text, corrected").hexdigest()
    assert newest["source_modified_at"] == "2026-05-12T00:00:00+00:00"
    assert (newest["partition"], newest["run_id"], newest["status"]) == ("2026-05-01", "run-2", "ingested")
    assert {document["filename"] for document in listed} >= {"[red]evil[bold]\x1b[31m\u202e.txt"}


FILTERS: list[tuple[list[str], int]] = [
    (["--current"], 3),
    (["--all"], 4),
    (["--source", SOURCE], 4),
    (["--source", "other"], 0),
    (["--partition", "2026-04-01"], 1),
    (["--run", "run-1"], 3),
    (["--status", "ingested", "--run", "run-2"], 1),
    (["--status", "routed"], 0),
    (["--department", "City Clerk"], 1),
    (["--type", "foi_request"], 1),
    (["--from", "2026-01-01"], 4),
    (["--to", "2026-01-01"], 0),
    (["--limit", "2"], 2),
    (["--search", "may"], 2),
    (["--search", "april bin", "--status", "ingested"], 1),
    (["--search", "nowhere"], 0),
]


def test_filters(citysort: Command, filled: City) -> None:
    decided = sa.update(Document).where(Document.partition == "2026-04-01")
    values = {"department": "City Clerk", "doc_type": "foi_request"}
    filled.database.write(lambda connection: connection.execute(decided.values(**values)))
    for options, count in FILTERS:
        assert len(citysort.well("documents", "list", "--json", *options).json) == count, options


def test_both_dates_of_the_import_are_inclusive(citysort: Command, filled: City) -> None:
    day = citysort.well("documents", "list", "--json").json[0]["imported_at"][:10]
    assert len(citysort.well("documents", "list", "--json", "--from", day, "--to", day).json) == 4


def test_the_table_is_harmless_and_says_when_there_is_more(citysort: Command, filled: City) -> None:
    ran = citysort.well("documents", "list")
    assert "[red]evil[bold]\\x1b[31m\\u202e.txt" in ran.out
    assert "\x1b" not in ran.out
    assert "ingested, superseded" in ran.out
    assert ran.err == ""
    assert "there are more" in citysort.well("documents", "list", "--limit", "3").err
    none = citysort.well("documents", "list", "--source", "other")
    assert (none.out, none.err) == ("", "there is no such document\n")


def test_showing_walks_the_whole_way(citysort: Command, filled: City) -> None:
    listed = citysort.well("documents", "list", "--json").json
    former = next(document for document in listed if document["superseded_by"])
    shown = citysort.well("documents", "show", former["id"][:16], "--json").json
    assert shown == {**shown, **former}
    assert shown["asset_key"] == f"sources/{SOURCE}"
    assert [version["id"] for version in shown["versions"]] == [former["id"], former["superseded_by"]]
    assert [event["event"] for event in shown["events"]] == ["imported", "superseded"]
    assert [event["run_id"] for event in shown["events"]] == ["run-1", "run-2"]

    text = citysort.well("documents", "show", former["id"].upper()).out
    for expected in (
        former["sha256"],
        f"asset          sources/{SOURCE}, partition 2026-05-01",
        f"superseded by  {former['superseded_by']}",
        "run            run-1",
        "(no longer configured)",
        "superseded, by CitySort in run run-2",
    ):
        assert expected in text


def test_showing_a_hostile_name_is_harmless(citysort: Command, filled: City) -> None:
    listed = citysort.well("documents", "list", "--json").json
    evil = next(document for document in listed if "evil" in document["filename"])
    shown = citysort.well("documents", "show", evil["id"]).out
    assert "\x1b" not in shown
    assert "  [red]evil[bold]\\x1b[31m\\u202e.txt\n" in shown


def test_an_id_that_is_not_clear_is_refused(citysort: Command, filled: City) -> None:
    def change(connection: sa.Connection) -> None:
        row = connection.execute(sa.select(Document).where(Document.partition == "2026-04-01")).one()
        twin = {**row._mapping, "id": row.id[:-1] + ("0" if row.id[-1] != "0" else "1"), "path": "twin"}
        connection.execute(sa.insert(Document).values(**twin))

    filled.database.write(change)
    listed = citysort.well("documents", "list", "--json", "--partition", "2026-04-01").json
    prefix = listed[0]["id"][:-1]
    ran = citysort("documents", "show", prefix)
    assert (ran.code, "more than one document" in ran.err) == (2, True)


def test_cat_gives_the_exact_bytes(citysort: Command, filled: City) -> None:
    document = citysort.well("documents", "list", "--json", "--partition", "2026-04-01").json[0]
    ran = citysort.well("documents", "cat", document["id"])
    assert (ran.stdout, ran.err) == (CONTENT, "")


def test_cat_tells_when_the_bytes_are_not_those_imported(citysort: Command, filled: City) -> None:
    document = citysort.well("documents", "list", "--json", "--partition", "2026-04-01").json[0]
    stored = filled.data / "files" / document["path"]
    stored.write_bytes(b"something else")
    ran = citysort("documents", "cat", document["id"])
    assert (ran.code, ran.stdout) == (1, b"something else")
    assert "is not the one that was imported" in ran.err
    stored.unlink()
    missing = citysort("documents", "cat", document["id"])
    assert (missing.code, missing.stdout) == (2, b"")
    assert missing.err.startswith("citysort: ")


def test_cat_does_not_let_a_document_command_a_terminal(citysort: Command, filled: City) -> None:
    listed = citysort.well("documents", "list", "--json", "--current").json
    ids = {document["filename"]: document["id"] for document in listed}
    program = "import sys; from citysort_dagster.cli import main; sys.exit(main())"

    def on_terminal(*arguments: str) -> tuple[int, bytes, bytes]:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", program, "documents", "cat", *arguments]
        root = str(Path(__file__).parents[2])
        ran = subprocess.run(
            command, stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
        )
        os.write(theirs, b"|")  # so that there is something to read, and an end to it
        shown = os.read(ours, 10_000).split(b"|")[0]
        os.close(theirs)
        os.close(ours)
        return ran.returncode, shown, ran.stderr

    assert on_terminal(ids["may.txt"]) == (0, b"plain text, corrected", b"")
    code, shown, err = on_terminal(ids["april.bin"])
    assert (code, shown) == (2, b"")
    assert b"this document is not plain text" in err


def test_exporting_and_exporting_again(citysort: Command, filled: City, tmp_path: Path) -> None:
    target = tmp_path / "out" / "export"
    first = citysort.well("documents", "export", target, "--partition", "2026-05-01")
    assert first.out == f"3 exported, 0 were there already, 0 failed: {target}/manifest.jsonl\n"
    again = citysort.well("documents", "export", target, "--json").json
    assert (again["exported"], again["present"], again["failed"]) == (1, 3, 0)
    entries = [json.loads(line) for line in (target / "manifest.jsonl").read_text().splitlines()]
    assert len(entries) == 4
    for entry in entries:
        assert set(entry) >= FIELDS
        assert hashlib.sha256((target / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    files = {file for file in target.rglob("*") if file.is_file() and not file.name.startswith(".")}
    assert files == {target / "manifest.jsonl", *(target / entry["file"] for entry in entries)}

    narrow = citysort.well("documents", "export", target, "--partition", "2026-04-01", "--json").json
    assert (narrow["exported"], narrow["present"]) == (0, 1)
    assert len((target / "manifest.jsonl").read_text().splitlines()) == 4


def test_an_export_leaves_other_files_alone_and_goes_on(
    citysort: Command, filled: City, tmp_path: Path
) -> None:
    citysort.well("documents", "export", tmp_path / "export")
    (file,) = (tmp_path / "export" / SOURCE).rglob("*april.bin")
    file.write_bytes(b"mine")
    document = citysort.well("documents", "list", "--json", "--run", "run-2").json[0]
    (filled.data / "files" / document["path"]).write_bytes(b"damaged")
    exported = next((tmp_path / "export").rglob(f"{document['id']}*"))
    exported.unlink()
    ran = citysort("documents", "export", tmp_path / "export")
    assert ran.code == 1
    assert ran.out.startswith("0 exported, 2 were there already, 2 failed")
    assert "another file of that name is there and was left alone" in ran.err
    assert "is not the one that was imported" in ran.err
    assert file.read_bytes() == b"mine"
    assert not exported.exists()
    assert not list((tmp_path / "export" / SOURCE).rglob("*.part"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that opens and cannot be read")
def test_what_a_disk_cannot_read_is_told_and_an_export_goes_on(
    citysort: Command, filled: City, tmp_path: Path
) -> None:
    document = citysort.well("documents", "list", "--json", "--run", "run-2").json[0]
    stored = filled.data / "files" / document["path"]
    stored.unlink()
    stored.symlink_to("/proc/self/mem")  # its first page is never there: an input/output error
    ran = citysort("documents", "export", tmp_path / "export")
    assert ran.out.startswith("3 exported, 0 were there already, 1 failed")
    assert f"{document['id']}_may.txt: the stored file cannot be read: Input/output error" in ran.err
    assert not list((tmp_path / "export").rglob("*.part"))
    ran = citysort("documents", "cat", document["id"])
    assert (ran.code, ran.err) == (2, "citysort: the stored file cannot be read: Input/output error\n")


def test_an_export_resumes_after_a_torn_one(citysort: Command, filled: City, tmp_path: Path) -> None:
    document = citysort.well("documents", "list", "--json", "--partition", "2026-04-01").json[0]
    folder = tmp_path / "export" / SOURCE / "2026-04-01"
    folder.mkdir(parents=True)
    (folder / f".{document['id']}.part").write_bytes(b"to")
    (tmp_path / "export" / ".manifest.jsonl.part").write_text("{")
    citysort.well("documents", "export", tmp_path / "export")
    assert [file.read_bytes() for file in folder.iterdir()] == [CONTENT]
    assert len((tmp_path / "export" / "manifest.jsonl").read_text().splitlines()) == 4


def test_two_exports_into_one_folder_do_not_mix(citysort: Command, filled: City, tmp_path: Path) -> None:
    with (tmp_path / ".export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = citysort("documents", "export", tmp_path)
    assert (ran.code, "another export into" in ran.err) == (2, True)


def test_a_foreign_manifest_is_not_replaced(citysort: Command, filled: City, tmp_path: Path) -> None:
    for content in ("{", "[]", '{"id": 7}', "7", "\xff"):
        (tmp_path / "manifest.jsonl").write_text(content, encoding="latin-1")
        ran = citysort("documents", "export", tmp_path)
        assert (ran.code, "is not of an export" in ran.err) == (2, True), content
        assert (tmp_path / "manifest.jsonl").read_text(encoding="latin-1") == content


def test_an_export_to_an_impossible_place_is_one_sentence(citysort: Command, filled: City) -> None:
    ran = citysort("documents", "export", "/dev/null/export")
    assert ran.code == 2
    assert ran.err.startswith("citysort: cannot write to /dev/null")
