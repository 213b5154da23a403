"""Whatever is broken by hand is found, and nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from citysort_dagster import verify as verification
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import AuditEvent, Document, SyncLogEntry
from citysort_dagster.store.sync_log import lock_source
from citysort_dagster.verify import Disagreement, verify, verify_documents
from tests.importer.conftest import SOURCE, City

ANOTHER = "00000000-0000-5000-8000-000000000000"


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[City]:
    """Two documents, of b.txt a second version."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'citysort.db'}")
    else:
        server = request.getfixturevalue("postgresql_server")
        database = Database(server.create_database().render_as_string(hide_password=False))
    database.migrate()
    (tmp_path / "source").mkdir()
    city = City(tmp_path / "source", tmp_path, database)
    city.put("a.txt", b"content of a")
    city.put("b.txt", b"content of b")
    city.run(run_id="run-1")
    city.put("b.txt", b"new content of b", day=11)
    city.run(run_id="run-2")
    yield city
    database.close()


def document(town: City, external_id: str, superseded: bool = False) -> sa.Row[tuple[str, str]]:
    with town.database.read() as connection:
        return connection.execute(
            sa.select(Document.id, Document.path).where(
                Document.external_id == external_id, Document.superseded_by.is_not(None) == superseded
            )
        ).one()


def execute(town: City, *statements: sa.Executable) -> None:
    """Breaks the records, past the foreign keys that would not let us."""
    with town.database.engine.connect() as connection:
        if town.database.is_sqlite:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        if not town.database.is_sqlite:
            connection.exec_driver_sql("RESET session_replication_role")
            connection.commit()
    town.database.close()


def found(town: City, quick: bool = False) -> list[tuple[str, str]]:
    return sorted((one.kind, one.message) for one in verify(town.database, town.files, quick))


def test_nothing_disagrees_after_imports(town: City) -> None:
    counted: list[int] = []
    assert list(verify(town.database, town.files, on_checked=counted.append)) == []
    assert sum(counted) == 3


def set_entry(external_id: str, **values: str) -> sa.Executable:
    return sa.update(SyncLogEntry).where(SyncLogEntry.external_id == external_id).values(**values)


def set_document(document_id: str, **values: object) -> sa.Executable:
    return sa.update(Document).where(Document.id == document_id).values(**values)


def test_a_sync_log_entry_without_its_document(town: City) -> None:
    execute(town, set_entry("a.txt", document_id=ANOTHER))
    assert found(town) == [
        ("document", "nothing supersedes this document, yet the sync log names another"),
        ("sync_log", "the sync log names a document that is not there"),
    ]


def test_a_sync_log_entry_of_another_document(town: City) -> None:
    execute(town, set_entry("a.txt", document_id=document(town, "b.txt").id))
    assert ("sync_log", "the sync log names a document of another source or id") in found(town)


def test_a_sync_log_entry_of_another_version(town: City) -> None:
    execute(town, set_entry("a.txt", version="another"))
    assert found(town) == [("sync_log", "the sync log and its document have different versions")]


def test_a_sync_log_entry_of_a_superseded_document(town: City) -> None:
    former = document(town, "b.txt", superseded=True)
    with town.database.read() as connection:
        version = connection.execute(sa.select(Document.version).where(Document.id == former.id)).scalar_one()
    execute(town, set_entry("b.txt", document_id=former.id, version=version))
    assert found(town) == [
        ("document", "nothing supersedes this document, yet the sync log names another"),
        ("sync_log", "the sync log names a document that is superseded"),
    ]


def test_documents_that_the_sync_log_does_not_hold(town: City) -> None:
    execute(town, sa.delete(SyncLogEntry).where(SyncLogEntry.external_id == "b.txt"))
    assert found(town) == [("document", "the sync log does not hold this document's id")] * 2


def test_chains_of_versions_hold_both_ways(town: City) -> None:
    former, latter = document(town, "b.txt", superseded=True), document(town, "b.txt")
    execute(town, set_document(latter.id, supersedes=None))
    assert found(town) == [("supersedes", "the document that supersedes this one does not say so")]
    execute(town, set_document(latter.id, supersedes=ANOTHER))
    assert ("supersedes", "the document that this one supersedes is not there") in found(town)
    execute(town, set_document(latter.id, supersedes=former.id), set_document(former.id, superseded_by=None))
    assert ("supersedes", "the document that this one supersedes does not say so") in found(town)
    execute(town, set_document(former.id, superseded_by=ANOTHER))
    assert ("supersedes", "the document that supersedes this one is not there") in found(town)
    a = document(town, "a.txt")
    execute(town, set_document(former.id, superseded_by=a.id), set_document(a.id, supersedes=former.id))
    assert ("supersedes", "the document that supersedes this one has another source or id") in found(town)


def test_a_document_whose_import_is_not_recorded(town: City) -> None:
    execute(town, sa.delete(AuditEvent).where(AuditEvent.document_id == document(town, "a.txt").id))
    assert found(town) == [("audit", "the audit trail does not hold the import of this document")]


@pytest.mark.parametrize(
    ("damage", "quick", "message"),
    [
        (lambda file: file.unlink(), True, "the stored file is missing"),
        (lambda file: file.write_bytes(b"longer content of a"), True, "the stored file has 19 bytes, not 12"),
        (lambda file: file.write_bytes(b"CONTENT OF A"), False, "the stored file has another SHA-256"),
        (lambda file: file.write_bytes(b"CONTENT OF A"), True, None),
    ],
)
def test_damaged_files(
    town: City, damage: Callable[[Path], object], quick: bool, message: str | None
) -> None:
    row = document(town, "a.txt")
    damage(town.data / "files" / row.path)
    expected = [Disagreement("file", message, SOURCE, "a.txt", row.id, row.path)] if message else []
    assert list(verify(town.database, town.files, quick)) == expected


def test_a_document_whose_path_leads_out_of_the_store_does_not_stop_the_rest(town: City) -> None:
    execute(town, set_document(document(town, "a.txt").id, path="../../etc/passwd"))
    (town.data / "files" / document(town, "b.txt").path).unlink()
    kinds = found(town)
    assert [kind for kind, _ in kinds] == ["file", "file", "stray_file"]
    assert any("cannot be read" in message for _, message in kinds)
    assert ("file", "the stored file is missing") in kinds


def test_stray_files(town: City) -> None:
    for name in ("left over.pdf", "\udcff\udcfe.pdf"):
        (town.data / "files" / "aa").mkdir(exist_ok=True)
        (town.data / "files" / "aa" / name).write_bytes(b"x")
    strays = [one.path for one in verify(town.database, town.files)]
    assert sorted(map(str, strays)) == ["aa/left over.pdf", "aa/\udcff\udcfe.pdf"]


def test_a_file_whose_transaction_is_still_open_is_no_stray(
    town: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import has stored a file and commits only after verification has seen that file."""
    stored, seen = threading.Event(), threading.Event()
    path = "bb/late.pdf"

    def transaction(connection: sa.Connection) -> None:
        lock_source(connection, SOURCE)
        row = connection.execute(sa.select(Document).where(Document.external_id == "a.txt")).one()
        (town.data / "files" / "bb").mkdir()
        (town.data / "files" / path).write_bytes(b"content of a")
        stored.set()
        assert seen.wait(60)
        values = {**row._mapping, "id": ANOTHER, "path": path, "external_id": "late.pdf"}
        connection.execute(sa.insert(Document).values(**values))

    original = verification._wait_for_open_transactions

    def wait(database: Database) -> None:
        seen.set()
        original(database)

    monkeypatch.setattr(verification, "_wait_for_open_transactions", wait)
    importing = threading.Thread(target=town.database.write, args=[transaction])
    importing.start()
    assert stored.wait(60)
    kinds = [kind for kind, _ in found(town)]
    importing.join()
    assert "stray_file" not in kinds


def test_only_the_documents_of_a_run_or_source(town: City) -> None:
    row = document(town, "a.txt")
    (town.data / "files" / row.path).unlink()
    execute(town, sa.delete(AuditEvent).where(AuditEvent.document_id == row.id))

    def kinds(source: str | None, run_id: str | None) -> list[str]:
        return sorted(one.kind for one in verify_documents(town.database, town.files, source, run_id))

    assert kinds(SOURCE, "run-1") == kinds(SOURCE, None) == kinds(None, "run-1") == ["audit", "file"]
    assert kinds(SOURCE, "run-2") == kinds("other", None) == []
