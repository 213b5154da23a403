"""What holds for every connector, on a real connection to each of their systems."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
import yaml

from citysort_dagster.importer import ImportSummary
from citysort_dagster.reconcile import reconcile
from citysort_dagster.store.models import Document, ImportFailure, SyncLogEntry
from connectors.base import (
    ConfigurationError,
    Connector,
    DownloadFailed,
    ExternalDocument,
    Window,
    download_verified,
)
from connectors.registry import CONNECTOR_TYPES, connector_class
from tests.cli.conftest import Command
from tests.contract.systems import PAGE, SYSTEMS, System
from tests.importer.conftest import SOURCE, City

NOON = datetime(2026, 3, 8, 12, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
HELL = [
    "Straße zum Rathaus №1.pdf",
    "許可証 🏗️.pdf",
    "مخطط‎.pdf",
    "e\u0301te\u0301.pdf",
    "../../etc/passwd.txt",
    "a\\b.txt",
    'it\'s "quoted" & <b>.txt',
    "100% #1? a=b&c;d.txt",
    " two  spaces .txt",
    "'; DROP TABLE documents; --.txt",
    "CON.txt",
    "${HOME} $(id) `id`.txt",
    ".hidden.txt",
    "no ending",
    "x" * 240 + ".txt",
]
MEMORY = 24_000_000
"""Bytes that a download may take, however large the document is."""


def listed(connector: Connector, window: Window | None = None) -> dict[str, ExternalDocument]:
    """Every document of a listing by its external id, which must not repeat."""
    documents = list(connector.list_documents(window))
    found = {document.external_id: document for document in documents}
    assert len(found) == len(documents)
    return found


def filled(system: System, count: int = 20) -> dict[str, bytes]:
    """Documents of different days, by their ids."""
    contents = [b"content of %d " % number * 1_000 for number in range(count)]
    return {
        system.add(f"permit {number}.txt", content, NOON - timedelta(days=number)): content
        for number, content in enumerate(contents)
    }


def assert_clean(system: System, *sentences: str | None) -> None:
    """Sentences for people, with no secret in them."""
    for sentence in sentences:
        assert sentence
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        assert not [secret for secret in system.secrets() if secret in sentence]


def assert_clean_summary(system: System, summary: ImportSummary) -> None:
    assert_clean(system, *(problem.reason for problem in summary.problems))
    if summary.incomplete is not None:
        assert_clean(system, summary.incomplete)


def assert_holds(city: City, documents: Mapping[str, bytes]) -> None:
    """The newest versions in the documents database are these, each once, with these bytes."""
    newest = city.rows(Document, Document.superseded_by.is_(None))
    assert {row.external_id: row.sha256 for row in newest} == {
        id: hashlib.sha256(content).hexdigest() for id, content in documents.items()
    }
    assert len(newest) == len(documents)
    assert {row.external_id for row in city.rows(SyncLogEntry)} == set(documents)
    assert city.disagreements() == []


def test_every_connector_is_here() -> None:
    assert {made.connector_type for made in SYSTEMS.values()} == CONNECTOR_TYPES.keys()


# The connection.


def test_a_good_connection_says_so_in_one_sentence(system: System) -> None:
    for _ in range(2):
        status = system.connector().test_connection()
        assert status.ok, status.message
        assert_clean(system, status.message)
        system.add("permit.txt", b"content")


def test_a_bad_connection_says_what_is_wrong(system: System, wrong: str, city: City) -> None:
    system.add("permit.txt", b"content")
    settings, word = system.wrong[wrong]
    status = system.connector(**settings).test_connection()
    assert not status.ok
    assert word.lower() in status.message.lower()
    assert_clean(system, status.message)
    # An import with the same settings ends, and imports nothing.
    try:
        _, summary = city.run(system.connector(**settings))
    except ConfigurationError as error:
        assert_clean(system, str(error))
    else:
        assert summary.incomplete is not None
        assert_clean_summary(system, summary)
    assert city.rows(Document) == []


def test_nothing_that_is_shown_of_a_connector_holds_a_secret(system: System) -> None:
    connector = system.connector()
    assert_clean(system, repr(connector), str(connector), str(connector.model_dump()), repr(type(connector)))
    id = system.add("permit.txt", b"content")
    assert_clean(system, *(repr(document) for document in listed(connector).values()))
    assert id in listed(connector)


# Listing.


def test_a_full_listing_is_the_truth(system: System) -> None:
    contents = filled(system)
    connector = system.connector()
    found = listed(connector)
    assert found.keys() == contents.keys()
    for id, document in found.items():
        assert document.modified_at == system.modified_at(id)
        assert document.modified_at is not None
        assert document.modified_at.utcoffset() == timedelta(0)
        assert document.size in (None, len(contents[id]))
        assert document.not_imported is None
        into = io.BytesIO()
        download_verified(connector, document, into)
        assert into.getvalue() == contents[id]
    if connector.newest_first:
        dates = [document.modified_at for document in found.values()]
        assert dates == sorted(dates, key=str, reverse=True)
    assert listed(connector, Window()).keys() == contents.keys()


def test_an_empty_source_has_no_documents(system: System, city: City) -> None:
    assert listed(system.connector()) == {}
    _, summary = city.run(system.connector())
    assert (summary.counts.listed, summary.incomplete) == (0, None)


def test_a_window_holds_what_is_dated_in_it(system: System) -> None:
    """At each second around midnight, several documents of one second among them. Systems that stamp
    by themselves are asked for windows around their own dates."""
    midnight = NOON - timedelta(hours=12)
    moments = [midnight - SECOND, midnight, midnight, midnight, midnight + SECOND]
    moments += [midnight + timedelta(days=1) - SECOND, midnight + timedelta(days=1)]
    ids = [system.add(f"{number}.txt", b"content", at) for number, at in enumerate(moments)]
    dates = {id: system.modified_at(id) for id in ids}
    if system.dates_can_be_set:
        assert list(dates.values()) == moments
    connector = system.connector()
    edges = sorted({*dates.values(), *(date + SECOND for date in dates.values())})
    windows = [Window(), *(Window(edge, None) for edge in edges), *(Window(None, edge) for edge in edges)]
    windows += [Window(start, end) for start in edges[:4] for end in edges[-3:] if start < end]
    windows += [Window(edges[0] + MOMENT, None), Window(None, edges[0] + MOMENT)]
    windows += [Window(edges[-1] + SECOND, edges[-1] + 2 * SECOND)]
    for window in windows:
        expected = {id for id, date in dates.items() if window.includes(date)}
        assert listed(connector, window).keys() == expected, window


@pytest.mark.parametrize("day", [datetime(2026, 3, 8), datetime(2025, 11, 2)], ids=["spring", "autumn"])  # noqa: DTZ001
def test_days_on_which_clocks_change_have_23_and_25_hours(system: System, day: datetime) -> None:
    zone = ZoneInfo("America/Chicago")
    start = day.replace(tzinfo=zone).astimezone(timezone.utc)
    end = (day + timedelta(days=1)).replace(tzinfo=zone).astimezone(timezone.utc)
    hours = range(-2, 28)
    ids = [system.add(f"{hour}.txt", b"content", start + timedelta(hours=hour)) for hour in hours]
    dates = {id: system.modified_at(id) for id in ids}
    found = listed(system.connector(), Window(start, end)).keys()
    assert found == {id for id, date in dates.items() if start <= date < end}
    if system.dates_can_be_set:
        assert len(found) in (23, 25)
    # A day on which nothing happened.
    empty = Window(start - timedelta(days=3), start - timedelta(days=2))
    assert listed(system.connector(), empty) == {}


# Importing.


def test_a_second_import_does_nothing(system: System, city: City) -> None:
    contents = filled(system)
    _, first = city.run(system.connector())
    assert (first.counts.imported, first.problems, first.incomplete) == (20, [], None)
    downloads = system.downloads()
    assert downloads > 0
    _, second = city.run(system.connector())
    assert (second.counts.imported, second.counts.skipped, second.problems) == (0, 20, [])
    assert system.downloads() == downloads
    assert_holds(city, contents)


def test_a_replaced_document_is_a_new_version(system: System, city: City) -> None:
    contents = filled(system, 6)
    city.run(system.connector())
    id = list(contents)[2]
    replaced = system.replace(id, b"a new version")
    _, summary = city.run(system.connector())
    assert (summary.counts.imported, summary.problems) == (1, [])
    (new,) = city.rows(Document, Document.sha256 == hashlib.sha256(b"a new version").hexdigest())
    (old,) = city.rows(Document, Document.external_id == id, Document.id != new.id)
    assert new.external_id == replaced
    if system.immutable:
        assert (replaced != id, new.supersedes, old.superseded_by) == (True, None, None)
    else:
        assert (replaced, new.supersedes, old.superseded_by) == (id, old.id, new.id)
        assert_holds(city, contents | {id: b"a new version"})
    assert city.files.size(old.path) == len(contents[id])


def test_a_document_that_is_gone_gets_a_tombstone(system: System, city: City) -> None:
    contents = filled(system, 10)
    city.run(system.connector())
    gone = list(contents)[4]
    system.remove(gone)
    found = reconcile(city.database, SOURCE, system.connector(), "run-2")
    assert (found.listed, found.known, found.gone, found.refusal) == (9, 10, 1, None)
    (entry,) = city.rows(SyncLogEntry, SyncLogEntry.gone_at.is_not(None))
    assert entry.external_id == gone
    assert_holds(city, contents)


def test_names_from_hell(system: System, city: City) -> None:
    names = [name for name in HELL if system.holds(name)]
    assert len(names) >= 12
    ids = {system.add(name, name.encode(), NOON): name for name in names}
    _, summary = city.run(system.connector())
    assert (summary.problems, summary.incomplete) == ([], None)
    assert {row.external_id: row.filename for row in city.rows(Document)} == {
        id: system.filename(name) for id, name in ids.items()
    }
    assert_holds(city, {id: name.encode() for id, name in ids.items()})


def test_a_document_of_zero_bytes(system: System, city: City) -> None:
    id = system.add("empty.txt", b"")
    _, summary = city.run(system.connector())
    assert (summary.counts.imported, summary.problems) == (1, [])
    assert_holds(city, {id: b""})


@pytest.fixture(scope="module")
def payload() -> bytes:
    """100 MB that do not compress."""
    return Random(1).randbytes(100_000_000)  # noqa: S311 - not secret


def test_a_large_document_arrives_in_bounded_memory(system: System, payload: bytes, city: City) -> None:
    id = system.add("plan.bin", payload)
    connector = system.connector(**system.direct())
    (document,) = listed(connector).values()
    assert document.external_id == id
    received = hashlib.sha256()

    class Digesting(io.RawIOBase):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            received.update(data)
            return len(data)

    tracemalloc.start()
    download_verified(connector, document, Digesting())  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received.digest() == hashlib.sha256(payload).digest()
    assert peak < MEMORY


def test_no_more_requests_are_under_way_than_configured(system: System, city: City) -> None:
    contents = filled(system)
    _, summary = city.run(system.connector(concurrency=3))
    assert (summary.problems, summary.incomplete) == ([], None)
    assert system.most_in_flight() <= 3
    assert_holds(city, contents)


# Misbehaviour.


def test_a_listing_that_breaks_off_loses_nothing(system: System, city: City) -> None:
    contents = filled(system)
    system.break_listing()
    keys, summary = city.run(system.connector())
    assert summary.incomplete is not None
    assert len(keys) < len(city.calendar.keys)  # what is not known to be whole is not told as such
    assert_clean_summary(system, summary)
    assert city.watermark() is None
    found = reconcile(city.database, SOURCE, system.connector(), "run-2")
    assert found.refusal is not None
    assert found.refusal.startswith("it could not be listed completely")
    assert_clean(system, found.refusal)
    system.behave()
    _, summary = city.run(system.connector())
    assert (summary.incomplete, summary.counts.listed) == (None, 20)
    assert_holds(city, contents)


def test_a_download_that_goes_wrong_is_repeated_or_reported(
    system: System, misbehaviour: str, city: City
) -> None:
    contents = filled(system, 8)
    if misbehaviour == "corrupt" and not system.has_checksums:
        misbehaviour = "truncate"
    system.misbehave(misbehaviour, "download")
    _, summary = city.run(system.connector())
    assert system.misbehaved()
    assert summary.incomplete is None
    failed = {problem.document.external_id for problem in summary.problems}
    assert failed == {row.external_id for row in city.rows(ImportFailure)}
    assert len(failed) <= 1
    assert_clean_summary(system, summary)
    assert_holds(city, {id: content for id, content in contents.items() if id not in failed})
    system.behave()
    _, summary = city.run(system.connector())
    assert (summary.problems, summary.incomplete) == ([], None)
    assert_holds(city, contents)
    assert city.rows(ImportFailure) == []


def test_a_listing_that_goes_wrong_is_repeated_or_told(system: System, misbehaviour: str, city: City) -> None:
    contents = filled(system, 8)
    system.misbehave(misbehaviour, "listing")
    try:
        _, summary = city.run(system.connector())
    except ConfigurationError as error:
        assert_clean(system, str(error))
    else:
        if summary.incomplete is None:
            assert_holds(city, contents)
        assert_clean_summary(system, summary)
    assert system.misbehaved()
    system.behave()
    _, summary = city.run(system.connector())
    assert (summary.problems, summary.incomplete) == ([], None)
    assert_holds(city, contents)


def test_pages_that_go_wrong_are_gone_past_or_told(
    system: System, page_misbehaviour: str, city: City
) -> None:
    """A page without rows is not the end of a listing, and one that leads to itself is no endless one."""
    system.small_pages()
    contents = filled(system)
    system.misbehave(page_misbehaviour, "listing")
    _, summary = city.run(system.connector())
    assert_clean_summary(system, summary)
    if page_misbehaviour == "repeated page":
        assert summary.incomplete is not None
        assert city.watermark() is None
    else:
        assert (summary.problems, summary.incomplete) == ([], None)
        assert system.misbehaved()
        found = {row.external_id for row in city.rows(Document)}
        assert found <= contents.keys()
        assert len(found) == len(contents) - (PAGE if system.thin_pages_hide else 0)
    system.behave()
    _, summary = city.run(system.connector())
    assert (summary.problems, summary.incomplete) == ([], None)
    assert_holds(city, contents)


def test_what_changes_during_a_listing_harms_nothing_else(system: System, city: City) -> None:
    system.small_pages()
    contents = filled(system)
    ids = list(contents)

    def change() -> None:
        system.add("new.txt", b"new")
        system.replace(ids[4], b"replaced")
        system.remove(ids[15])

    listing = iter(system.connector().list_documents())
    found = [next(listing)]
    if system.changes_while_listed:
        change()
    found += listing
    if not system.changes_while_listed:
        change()
    told = [document.external_id for document in found]
    untouched = set(contents) - {ids[4], ids[15]}
    assert untouched <= set(told)
    assert all(told.count(id) == 1 for id in untouched)
    _, summary = city.run(system.connector())
    assert (summary.problems, summary.incomplete) == ([], None)
    newest = {row.sha256 for row in city.rows(Document, Document.superseded_by.is_(None))}
    present = [contents[id] for id in untouched] + [b"new", b"replaced"]
    assert newest == {hashlib.sha256(content).hexdigest() for content in present}


def test_what_changes_after_the_listing_never_passes_for_what_was_listed(system: System) -> None:
    contents = filled(system, 3)
    connector = system.connector()
    documents = listed(connector)
    replaced, removed, kept = contents
    system.replace(replaced, b"replaced")
    system.remove(removed)
    for id in (replaced, removed):
        into = io.BytesIO()
        try:
            download_verified(connector, documents[id], into)
        except DownloadFailed as error:
            assert_clean(system, str(error))
        else:  # some systems keep former versions
            assert into.getvalue() == contents[id]
    into = io.BytesIO()
    download_verified(connector, documents[kept], into)
    assert into.getvalue() == contents[kept]


def test_an_interrupted_listing_is_exit_code_3(
    system: System, citysort: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-01-01")
    filled(system)
    fields = connector_class(system.connector_type).model_fields
    config: dict[str, object] = {}
    for name, value in system.settings().items():
        config[name] = value
        if fields[name].exclude:
            config[name] = {"env": f"CONTRACT_{name.upper()}"}
            monkeypatch.setenv(f"CONTRACT_{name.upper()}", str(value))
    source = {"name": SOURCE, "connector": system.connector_type, "config": config}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    citysort.well("sources", "apply", "sources.yaml")

    system.break_listing()
    ran = citysort("import", SOURCE, "--json")
    assert ran.code == 3, ran
    told = [line for line in ran.err.splitlines() if line.startswith("citysort: ")]
    assert len(told) == 1
    assert "could not be listed completely" in told[0]
    assert_clean(system, *filter(None, [*ran.err.splitlines(), *ran.out.splitlines()]))
    before = json.loads(ran.out.splitlines()[-1])["imported"]

    system.behave()
    ran = citysort.well("import", SOURCE, "--json")
    assert before + json.loads(ran.out.splitlines()[-1])["imported"] == 20
