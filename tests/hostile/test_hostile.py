"""Documents made to do harm, among good ones, from a source to the queues: the run goes on, each goes
to review with the reason, and the good ones arrive where they belong."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import sqlalchemy as sa

from citysort_dagster import ingestion_assets, launch, source_configs
from citysort_dagster.installation import open_installation
from citysort_dagster.pipeline.extract import READER, TextExtractor
from citysort_dagster.store.documents import pending
from citysort_dagster.store.models import AuditEvent, Document, DocumentText
from citysort_dagster.verify import verify
from tests.hostile.documents import GOOD, HOSTILE
from tests.pipeline import documents

WORKERS = 2
MEMORY_MB = 400
SECONDS = 15
RUN_MB = 250
"""What an import or a run of the pipeline may take itself."""

SOURCE = """sources:
  - name: letters
    connector: sqlite
    config:
      filepath: %s
      query: SELECT rowid AS id, * FROM letters
      id_column: id
      filename_column: name
      %s
"""


class Outcome(NamedTuple):
    """What became of a document."""

    status: str
    department: str
    reasons: list[str]
    problem: str | None
    text: str


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, with less time and memory for a document than usual."""
    for name in [name for name in os.environ if name.startswith("CITYSORT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-01-01")  # each partition of an import takes time
    bounded = partial(TextExtractor, workers=WORKERS, timeout_seconds=SECONDS, memory_mb=MEMORY_MB)
    monkeypatch.setattr(ingestion_assets, "TextExtractor", bounded)


def import_all(
    folder: Path,
    contents: Mapping[str, bytes | str],
    column: str = "content_column: content",
    date: str | None = None,
) -> None:
    """Imports these documents from a SQLite source, with this date if there is one."""
    if date is not None:
        column += "\n      modified_column: modified"
    with closing(sqlite3.connect(folder / "letters.db")) as connection, connection:
        connection.execute("CREATE TABLE letters (name, content, modified)")
        rows = [(name, content, date) for name, content in contents.items()]
        connection.executemany("INSERT INTO letters VALUES (?, ?, ?)", rows)
    (folder / "sources.yaml").write_text(SOURCE % (folder / "letters.db", column))
    with open_installation() as installation:
        source_configs.apply(folder / "sources.yaml", installation.database)
    outcome = launch.import_source("letters")
    assert (outcome.imported, outcome.failed, outcome.failure) == (len(contents), 0, None)


def process_all(count: int) -> dict[str, Outcome]:
    """Runs the ingestion pipeline; what became of each document, by its name."""
    outcome = launch.process()
    assert (outcome.waiting, outcome.failure) == (count, None)
    with open_installation() as installation, installation.database.read() as connection:
        rows = connection.execute(
            sa.select(Document, DocumentText).join(DocumentText, DocumentText.document_id == Document.id)
        ).all()
        decisions = connection.execute(
            sa.select(AuditEvent.document_id).where(AuditEvent.event.in_(("routed", "sent to review")))
        ).all()
        assert list(verify(installation.database, installation.files)) == []
    assert len(decisions) == count
    return {
        row.filename: Outcome(row.status, row.department, row.review_reasons, row.problem, row.text)
        for row in rows
    }


class Watch(threading.Thread):
    """Watches this process and those that it starts to read documents, and how much memory they take."""

    def __init__(self, look: Callable[[psutil.Process], None] = lambda reader: None) -> None:
        super().__init__()
        self._this = psutil.Process()
        self._before = self._this.memory_info().rss
        self._look = look
        self._stopped = threading.Event()
        self.most_of_a_reader = 0
        self.most_of_all = 0
        self.readers: set[int] = set()

    def run(self) -> None:
        while not self._stopped.wait(0.01):
            taken = self._this.memory_info().rss - self._before
            for process in self._this.children():
                try:
                    if READER in process.cmdline():
                        rss = process.memory_info().rss
                        self.readers.add(process.pid)
                        self.most_of_a_reader = max(self.most_of_a_reader, rss)
                        taken += rss
                        self._look(process)
                except psutil.Error:
                    continue
            self.most_of_all = max(self.most_of_all, taken)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        self.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self.join()

    def assert_bounded(self) -> None:
        """A reader may overstep until it is looked at; nobody is left, and nothing is without bounds."""
        assert self.readers
        assert self.most_of_a_reader < 1.5 * MEMORY_MB * 1_000_000
        assert self.most_of_all < (RUN_MB + WORKERS * 1.5 * MEMORY_MB) * 1_000_000
        assert {process.pid for process in self._this.children()} & self.readers == set()


def test_documents_made_to_do_harm(tmp_path: Path) -> None:
    contents = {name: make() for name, make in GOOD.items()}
    contents |= {name: make() for name, (make, _) in HOSTILE.items()}
    with Watch().watching() as watch:
        import_all(tmp_path, contents)
        found = process_all(len(contents))
    assert found.keys() == contents.keys()
    for name in GOOD:
        assert (found[name].status, found[name].problem) == ("routed", None), (name, found[name])
    for name, (_, reason) in HOSTILE.items():
        assert found[name].status == "needs_review", (name, found[name])
        assert re.search(reason, found[name].reasons[0]), (name, found[name].reasons)
        assert len(found[name].text) <= 1_000_000
        assert "root:" not in found[name].text
    assert f"took more than {SECONDS} seconds" in found["endless.pdf"].reasons[0]
    watch.assert_bounded()


def test_a_document_dated_at_the_end_of_days(tmp_path: Path) -> None:
    import_all(tmp_path, {"permit.pdf": documents.pdf()}, date="9999-12-31")
    assert process_all(1)["permit.pdf"].status == "routed"


def stored(name: str) -> Path:
    """The stored file of a document."""
    with open_installation() as installation, installation.database.read() as connection:
        path = connection.execute(sa.select(Document.path).where(Document.filename == name)).scalar_one()
        return installation.settings.data_dir / "files" / str(path)


def test_documents_wait_while_their_files_are_out_of_reach(tmp_path: Path) -> None:
    names = ("gone.txt", "locked.txt", "permit.pdf")
    import_all(tmp_path, dict.fromkeys(names, documents.pdf()))
    files = tmp_path / "data" / "files"
    unmounted = files.rename(tmp_path / "unmounted")
    for mount_point in (False, True):
        if mount_point:
            files.mkdir()
        outcome = launch.process()
        assert outcome.waiting == len(names)
        assert "Documents wait for files that cannot be read now" in str(outcome.failure)
        assert f"{files.as_uri()} holds no file at all" in str(outcome.failure)
    files.rmdir()
    unmounted.rename(files)

    stored("gone.txt").unlink()
    locked = stored("locked.txt")
    content = locked.read_bytes()
    locked.unlink()
    locked.mkdir()
    assert launch.process().failure is None
    assert by_name("stage") == {"gone.txt": "queued", "locked.txt": "imported", "permit.pdf": "queued"}
    outcome = launch.process()
    assert (outcome.waiting, "Is a directory" in str(outcome.failure)) == (1, True)
    locked.rmdir()
    locked.write_bytes(content)
    assert launch.process().failure is None
    assert set(by_name("stage").values()) == {"queued"}
    reasons = by_name("review_reasons")
    assert reasons.pop("gone.txt")[0].endswith("gone.txt is missing.")
    assert list(reasons.values()) == [[], []]


def test_a_file_out_of_reach_keeps_no_document_from_the_queues_that_has_been_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read by a run that got no further, here for want of rules."""
    import_all(tmp_path, dict.fromkeys(("locked.txt", "permit.pdf"), documents.pdf()))
    locked = stored("locked.txt")
    locked.unlink()
    locked.mkdir()
    rules = tmp_path / "rules.yaml"
    rules.write_text("document_types: no")
    monkeypatch.setenv("CITYSORT_RULES_FILE", str(rules))
    assert "The classification rules cannot be used" in str(launch.process().failure)
    assert by_name("stage") == {"locked.txt": "imported", "permit.pdf": "extracted"}

    monkeypatch.delenv("CITYSORT_RULES_FILE")
    assert launch.process().failure is None
    assert by_name("stage") == {"locked.txt": "imported", "permit.pdf": "queued"}
    assert "Is a directory" in str(launch.process().failure)


def by_name(column: str) -> dict[str, Any]:
    """What this column says of each document, by its name."""
    with open_installation() as installation, installation.database.read() as connection:
        return {row.filename: getattr(row, column) for row in connection.execute(sa.select(Document))}


def test_a_text_of_two_gigabytes(tmp_path: Path) -> None:
    """Its import is measured with a tenth of that, as all of it would have to be written."""
    with (tmp_path / "huge.txt").open("wb") as file:
        file.write(documents.text().encode() * 50_000)
        file.truncate(200_000_000)
    with Watch().watching() as imported:
        import_all(
            tmp_path, {"huge.txt": "huge.txt"}, f"file_path_column: content\n      files_root: {tmp_path}"
        )
    assert imported.most_of_all < RUN_MB / 2 * 1_000_000
    assert stored("huge.txt").stat().st_size == 200_000_000
    os.truncate(stored("huge.txt"), 2_000_000_000)
    with Watch().watching() as watch:
        outcome = launch.process()
    assert (outcome.waiting, outcome.failure) == (1, None)
    with open_installation() as installation, installation.database.read() as connection:
        (text,) = connection.execute(sa.select(DocumentText)).all()
    assert (len(text.text), text.truncated, text.problem) == (1_000_000, True, None)
    watch.assert_bounded()


def test_long_texts_are_held_a_few_at_a_time(tmp_path: Path) -> None:
    import_all(tmp_path, {f"{number}.txt": documents.text() * 10_000 for number in range(12)})
    found = process_all(12)
    assert {len(outcome.text) for outcome in found.values()} == {1_000_000}
    with open_installation() as installation, installation.database.read() as connection:
        stored_at = sa.select(AuditEvent.at).where(AuditEvent.event == "text extracted")
        assert len(set(connection.execute(stored_at).scalars())) == 3
        rows = pending(connection, "queued", (None, None), "", 100, characters=7)
        assert {row.text for row in rows} == {documents.text()[:7]}


def test_a_parser_that_crashes_and_one_that_stops(tmp_path: Path) -> None:
    """Whichever process reads them, now and when they are tried again."""
    signals = {"poison.xlsx": signal.SIGSEGV, "glue.xlsx": signal.SIGSTOP}
    good = {"permit.pdf": documents.pdf(), "permit.eml": documents.eml()}
    import_all(tmp_path, {**dict.fromkeys(signals, slow_to_read()), **good})
    paths = {str(stored(name)): number for name, number in signals.items()}

    def look(reader: psutil.Process) -> None:
        for file in reader.open_files():
            if file.path in paths:
                reader.send_signal(paths[file.path])

    with Watch(look).watching() as watch:
        found = process_all(len(signals) + len(good))
    reasons = {name: found[name].reasons[0] for name in signals}
    assert reasons == {
        "poison.xlsx": "Reading the document made the reading program crash (SIGSEGV).",
        "glue.xlsx": f"Reading the document took more than {SECONDS} seconds and was stopped.",
    }
    assert {found[name].status for name in good} == {"routed"}
    watch.assert_bounded()


def slow_to_read() -> bytes:
    """A sheet that a reader is busy with for a while."""
    head = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    unit = b'<row><c t="inlineStr"><is><t>cell</t></is></c></row>' * 1_000
    return documents.bomb(
        documents.xlsx(), "xl/worksheets/sheet1.xml", head, unit, 200, b"</sheetData></worksheet>"
    )


NAMES = [
    "../../../etc/passwd.txt", "/etc/passwd", "..", ".", "", " ", "\n", "a\nb\rc.txt", "tab\there.txt",
    "C:\\letters\\mine.txt", "\\\\server\\share\\x.txt", "con.txt", "NUL", "-rf", "--help", "~", "$(id).txt", "`id`",
    "a" * 300 + ".txt", "é" * 200 + ".txt", "\N{CITYSCAPE}" * 120, "x." + "y" * 300, "%2e%2e%2f", "a;b|c&d.txt",
    "'; DROP TABLE documents; --", "<script>alert(1)</script>.html.txt", "[red]x[/red].txt", "\x1b[2J\x1b]0;t\x07.txt",
    "gnp.\N{RIGHT-TO-LEFT OVERRIDE}txt.exe", "\N{ZERO WIDTH SPACE}", "\N{COMBINING ACUTE ACCENT}" * 90, ".hidden",
    "trailing. . .", "*?.txt", '"quoted".txt', "{env: X}", "a.txt/", "//", "incoming", "..\N{FULLWIDTH SOLIDUS}x",
]  # fmt: skip


def test_file_names_from_hell(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from citysort_dagster.cli import main

    import_all(tmp_path, dict.fromkeys(NAMES, documents.text().encode()))
    found = process_all(len(NAMES))
    assert {outcome.status for outcome in found.values()} == {"routed"}
    assert {outcome.problem for outcome in found.values()} == {None}
    files = list((tmp_path / "data" / "files").glob("??/*"))
    assert len(files) == len(NAMES)
    assert {path.read_bytes() for path in files} == {documents.text().encode()}
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {"data", "letters.db", "sources.yaml"}

    capfd.readouterr()
    assert main(["documents", "list", "--limit", "100"]) == 0
    out, err = capfd.readouterr()
    assert (len(out.splitlines()), err) == (len(NAMES) + 2, "")
    assert all(character.isprintable() or character == "\n" for character in out)
