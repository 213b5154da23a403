"""The Salesforce connector against a simulated organisation."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from connectors import get_connector, http, salesforce
from connectors.base import (
    ConfigurationError,
    ConnectorError,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
    refusal,
)
from connectors.salesforce import Salesforce
from sandbox.salesforce import JWT_BEARER, SimulatedSalesforce

NOON = datetime(2026, 11, 2, 12, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)


@pytest.fixture
def city() -> Iterator[SimulatedSalesforce]:
    with SimulatedSalesforce() as system:
        yield system


def connect(system: SimulatedSalesforce, **settings: Any) -> Salesforce:
    given = {
        "instance_url": system.url(),
        "client_id": system.client_id,
        "client_secret": system.client_secret,
    } | settings
    connector = get_connector(
        "salesforce", {name: value for name, value in given.items() if value is not None}
    )
    assert isinstance(connector, Salesforce)
    return connector


def fill(system: SimulatedSalesforce, count: int, **how: Any) -> dict[str, bytes]:
    """Files and attachments in turn, a minute apart; returns their contents by id."""
    contents = {}
    for number in range(count):
        content = f"document {number}".encode()
        fields = {"modified_at": NOON - timedelta(minutes=number)} | how
        kind = "attachment" if number % 2 else "file"
        contents[system.add(f"{number}.txt", content, kind=kind, **fields).id] = content
    return contents


def listed(connector: Salesforce, window: Window | None = None) -> list[ExternalDocument]:
    return list(connector.list_documents(window))


def ids(connector: Salesforce, window: Window | None = None) -> list[str]:
    return [document.external_id for document in listed(connector, window)]


def fetched(connector: Salesforce, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def all_fetched(connector: Salesforce) -> tuple[dict[str, bytes], dict[str, str]]:
    """What arrived, and why the rest did not."""
    arrived, failed = {}, {}
    for document in listed(connector):
        try:
            arrived[document.external_id] = fetched(connector, document)
        except DownloadFailed as error:
            failed[document.external_id] = str(error)
    return arrived, failed


def queries(system: SimulatedSalesforce) -> list[str]:
    return [logged.request.query["q"] for logged in system.log if logged.route == "query"]


def key_in_pem(key: Any, passphrase: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return pem.decode()


# Listing.


def test_files_and_attachments_are_listed_newest_first_over_several_pages(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 3
    contents = fill(city, 20)
    connector = connect(city)
    documents = listed(connector)
    assert [document.external_id for document in documents] == list(contents)
    assert [document.modified_at for document in documents] == [
        NOON - timedelta(minutes=number) for number in range(20)
    ]
    assert [fetched(connector, document) for document in documents] == list(contents.values())
    assert all(len(document.external_id) == 18 for document in documents)


def test_a_file_as_it_is_listed(city: SimulatedSalesforce) -> None:
    case = city.add_record("Case", "Case 00001026")
    account = city.add_record("Account", "Muster & Söhne")
    added = city.add("Permit.PDF", b"permit", modified_at=NOON, records=[case, account])
    (document,) = listed(connect(city))
    version_id = document.metadata["version_id"]
    md5 = hashlib.md5(b"permit", usedforsecurity=False).hexdigest()
    assert document == ExternalDocument(
        external_id=added.id,
        version=f"{version_id} {md5}",
        filename="Permit.PDF",
        modified_at=NOON,
        size=6,
        source_url=f"{city.url()}/lightning/r/ContentDocument/{added.id}/view",
        checksums={"md5": md5},
        metadata={
            "object": "ContentVersion",
            "version_id": version_id,
            "version_number": "1",
            "file_type": "PDF",
            "created_at": "2026-11-02T12:00:00.000+0000",
            "content_modified_at": "2026-11-02T12:00:00.000+0000",
            "records": [
                {"id": case, "type": "Case", "name": "Case 00001026"},
                {"id": account, "type": "Account", "name": "Muster & Söhne"},
            ],
        },
    )
    assert version_id.startswith("068")
    assert json.loads(json.dumps(document.metadata)) == document.metadata


def test_an_attachment_as_it_is_listed(city: SimulatedSalesforce) -> None:
    case = city.add_record("Case", "Case 00001026")
    added = city.add("plan.dwg", b"drawing", kind="attachment", modified_at=NOON, records=[case])
    added.content_type = "image/vnd.dwg"
    (document,) = listed(connect(city))
    assert document == ExternalDocument(
        external_id=added.id,
        version="2026-11-02T12:00:00.000+0000 7",
        filename="plan.dwg",
        modified_at=NOON,
        size=7,
        content_type="image/vnd.dwg",
        source_url=f"{city.url()}/lightning/r/Case/{case}/view",
        metadata={
            "object": "Attachment",
            "created_at": "2026-11-02T12:00:00.000+0000",
            "records": [{"id": case, "type": "Case", "name": "Case 00001026"}],
        },
    )


def test_many_documents_of_the_same_second_are_all_listed_once(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 4
    contents = fill(city, 30, modified_at=NOON)
    assert sorted(ids(connect(city))) == sorted(contents)
    assert sorted(ids(connect(city), Window(NOON, NOON + timedelta(seconds=1)))) == sorted(contents)


def test_a_second_listing_is_the_same(city: SimulatedSalesforce) -> None:
    fill(city, 6)
    assert listed(connect(city)) == listed(connect(city))


def test_only_the_objects_asked_for_are_listed(city: SimulatedSalesforce) -> None:
    contents = fill(city, 4)
    assert ids(connect(city, objects=["files"])) == list(contents)[::2]
    assert ids(connect(city, objects=["attachments"])) == list(contents)[1::2]


def test_only_documents_on_records_of_these_types_are_listed(city: SimulatedSalesforce) -> None:
    case, permit = city.add_record("Case", "1"), city.add_record("Permit__c", "P-1")
    account = city.add_record("Account", "A")
    on_both = city.add("a.pdf", b"a", records=[account, case])
    attached = city.add("b.pdf", b"b", kind="attachment", records=[permit])
    city.add("c.pdf", b"c", records=[account])
    city.add("d.pdf", b"d", kind="attachment", records=[account])
    # However they are spelt.
    found = ids(connect(city, record_types=["case", "PERMIT__C"]))
    assert sorted(found) == sorted([on_both.id, attached.id])


def test_the_records_of_files_are_looked_up_many_at_a_time(
    city: SimulatedSalesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salesforce, "IDS_PER_LOOKUP", 4)
    city.rows_per_batch = 10
    records = [city.add_record("Case", f"Case {number}") for number in range(150)]
    for number in range(10):
        city.add(f"{number}.pdf", b"x", records=records[number : number + 3], modified_at=NOON)
    shared = city.add("shared.pdf", b"x", records=records, modified_at=NOON - timedelta(days=1))
    documents = listed(connect(city, objects=["files"]))
    names = {
        document.filename: [record["name"] for record in document.metadata["records"]]
        for document in documents
    }
    assert names["7.pdf"] == ["Case 7", "Case 8", "Case 9"]
    # Many records are cut; with whom a file is shared is no record.
    assert documents[-1].external_id == shared.id
    assert names["shared.pdf"] == [f"Case {number}" for number in range(100)]
    assert len([query for query in queries(city) if "ContentDocumentLink" in query]) == 4


def test_the_longest_lookup_is_short_enough_for_salesforce(city: SimulatedSalesforce) -> None:
    for number in range(salesforce.IDS_PER_LOOKUP):
        city.add(f"{number}.pdf", b"x")
    assert len(listed(connect(city))) == salesforce.IDS_PER_LOOKUP
    assert len(queries(city)) == 4


def test_a_record_that_the_user_may_not_see_leaves_the_document(city: SimulatedSalesforce) -> None:
    record = city.add_record("Case", "secret case")
    city.records[record] = (None, None)  # type: ignore[assignment]
    file = city.add("a.pdf", b"a", records=[record])
    attachment = city.add("b.pdf", b"b", kind="attachment", records=[record])
    documents = {document.external_id: document for document in listed(connect(city))}
    assert documents[file.id].metadata["records"] == [{"id": record, "type": None, "name": None}]
    assert documents[attachment.id].source_url == f"{city.url()}/{attachment.id}"


# Windows.


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 3, 30, tzinfo=BERLIN)),
        (datetime(2026, 10, 25, tzinfo=BERLIN), datetime(2026, 10, 26, tzinfo=BERLIN)),
        (datetime(2026, 6, 1, tzinfo=timezone.utc), datetime(2026, 6, 2, tzinfo=timezone.utc)),
        (
            datetime(2026, 6, 1, 10, 0, 0, 250_000, timezone.utc),
            datetime(2026, 6, 1, 10, 0, 5, 1, timezone.utc),
        ),
    ],
    ids=["spring forward", "fall back", "a day in UTC", "parts of seconds"],
)
def test_a_window_includes_its_start_and_not_its_end(
    city: SimulatedSalesforce, start: datetime, end: datetime
) -> None:
    second = timedelta(seconds=1)
    moments = [start - second, start, start + second, end - second, end, end + second]
    truth = set()
    for kind in ("file", "attachment"):
        for moment in moments:
            moment = moment.astimezone(timezone.utc).replace(microsecond=0)
            document = city.add(f"{moment}.txt", b"x", kind=kind, modified_at=moment)
            if start <= moment < end:
                truth.add(document.id)
    assert len(truth) in (4, 6)
    assert set(ids(connect(city), Window(start, end))) == truth
    assert set(ids(connect(city), Window(start))) | set(ids(connect(city), Window(None, start))) == set(
        city.documents
    )


@pytest.mark.parametrize("settings", [{}, {"record_types": ["Case"]}])
def test_what_is_archived_is_listed_and_what_is_in_the_recycle_bin_is_not(
    city: SimulatedSalesforce, settings: dict[str, Any]
) -> None:
    city.rows_per_batch = 2
    on_case = {"records": [city.add_record("Case", "1")]}
    archived = fill(city, 6, archived=True, **on_case)
    fill(city, 6, deleted=True, **on_case)
    found = listed(connect(city, **settings))
    assert {document.external_id for document in found} == set(archived)
    assert {document.metadata["records"][0]["type"] for document in found} == {"Case"}


def test_an_empty_day_is_empty(city: SimulatedSalesforce) -> None:
    fill(city, 4)
    day = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert listed(connect(city), Window(day, day + timedelta(days=1))) == []


def test_the_server_narrows_the_listing(city: SimulatedSalesforce) -> None:
    fill(city, 10)
    listed(connect(city), Window(NOON, NOON + timedelta(hours=1)))
    files, attachments = (query for query in queries(city) if "ContentDocumentLink" not in query)
    for query in (files, attachments):
        assert "SystemModstamp >= 2026-11-02T12:00:00Z AND SystemModstamp < 2026-11-02T13:00:00Z" in query
    assert "IsLatest = true" in files


def test_a_row_that_appears_late_is_caught_by_the_overlap(city: SimulatedSalesforce) -> None:
    fill(city, 4, modified_at=NOON)
    newest = max(document.modified_at or NOON for document in listed(connect(city)))
    # Stamped when its transaction wrote it, seen when the transaction ended.
    late = city.add("late.pdf", b"late", modified_at=NOON - timedelta(minutes=9))
    assert late.id in ids(connect(city), Window(newest - timedelta(minutes=10)))


def test_a_document_that_changes_during_the_listing_is_listed_once(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 2
    contents = fill(city, 12)
    last = list(contents)[-1]
    city.misbehave("change", route="query_more", then=lambda: city.replace(last, b"new"))
    found = ids(connect(city))
    assert sorted(found) == sorted(contents)


# Versions and content.


def test_a_new_version_of_a_file_has_the_same_id(city: SimulatedSalesforce) -> None:
    added = city.add("permit.pdf", b"first", modified_at=NOON)
    connector = connect(city)
    (before,) = listed(connector)
    city.replace(added.id, b"second", modified_at=NOON + timedelta(hours=1))
    (after,) = listed(connector)
    assert before.external_id == after.external_id
    assert before.version != after.version
    assert after.modified_at == NOON + timedelta(hours=1)
    assert after.metadata["version_number"] == "2"
    # The listed version is what arrives, even if it is no longer the latest.
    assert fetched(connector, before) == b"first"
    assert fetched(connector, after) == b"second"


def test_a_touched_file_has_the_same_version(city: SimulatedSalesforce) -> None:
    added = city.add("permit.pdf", b"first", modified_at=NOON)
    (before,) = listed(connect(city))
    added.modified_at = NOON + timedelta(hours=1)
    (after,) = listed(connect(city))
    assert before.version == after.version


def test_an_attachment_that_changes_has_another_version(city: SimulatedSalesforce) -> None:
    added = city.add("a.txt", b"first", kind="attachment", modified_at=NOON)
    connector = connect(city)
    (before,) = listed(connector)
    city.replace(added.id, b"second one", modified_at=NOON + timedelta(seconds=1))
    (after,) = listed(connector)
    assert (before.external_id, before.version) != (after.external_id, after.version)
    assert before.external_id == after.external_id
    with pytest.raises(DownloadFailed, match="10 bytes arrived of the 5"):
        fetched(connector, before)


@pytest.mark.parametrize(
    ("title", "extension", "filename"),
    [
        ("../../etc/passwd", "pdf", "../../etc/passwd.pdf"),
        ("a\\b:c*?\"<>|'%#&+;", "docx", "a\\b:c*?\"<>|'%#&+;.docx"),
        ("zeile\nzwei\t\x00\x1b[31m", "pdf", "zeile\nzwei\t\x00\x1b[31m.pdf"),
        ("Ämter Büro 東京 🏛", "pdf", "Ämter Büro 東京 🏛.pdf"),
        ("A\u0308", "pdf", "A\u0308.pdf"),
        ("report v1.2", "docx", "report v1.2.docx"),
        ("named.PDF", "pdf", "named.PDF"),
        ("no ending", None, "no ending"),
        ("x" * 255, "pdf", "x" * 255 + ".pdf"),
        ("", None, None),
    ],
)
def test_names_from_hell(
    city: SimulatedSalesforce, title: str, extension: str | None, filename: str | None
) -> None:
    added = city.add("x", b"content", title=title, extension=extension)
    connector = connect(city)
    (document,) = listed(connector)
    assert document.filename == (filename or added.id)
    assert fetched(connector, document) == b"content"


def test_a_name_with_quotes_stays_out_of_the_query(city: SimulatedSalesforce) -> None:
    assert salesforce._quoted(["O'Brien\\"]) == "'O\\'Brien\\\\'"


def test_nothing_and_much(city: SimulatedSalesforce) -> None:
    big = bytes(range(256)) * 50_000
    contents = {
        city.add("empty.txt", b"").id: b"",
        city.add("empty.txt", b"", kind="attachment").id: b"",
        city.add("big.bin", big).id: big,
        city.add("big.bin", big, kind="attachment").id: big,
    }
    assert all_fetched(connect(city)) == (contents, {})


def test_a_file_above_two_gigabytes_has_its_size_in_the_long_field(city: SimulatedSalesforce) -> None:
    city.add("small.pdf", b"12345")
    for version, field, other in (
        ("66.0", "ContentSizeLong", "ContentSize,"),
        ("v65", "ContentSize", "Long"),
    ):
        city.forget_requests()
        (document,) = listed(connect(city, api_version=version, objects=["files"]))
        assert document.size == 5
        (query,) = (query for query in queries(city) if "FROM ContentVersion" in query)
        assert field in query
        assert other not in query


def test_notes_and_web_pages_are_documents(city: SimulatedSalesforce) -> None:
    note = city.add("Minutes", b"<p>We met.</p>", kind="note")
    page = city.add("page.html", b"<!doctype html><p>A page")
    attached = city.add("page.htm", b"<html>", kind="attachment", content_type="text/html")
    connector = connect(city)
    documents = {document.external_id: document for document in listed(connector)}
    assert documents[note.id].filename == "Minutes.html"
    assert documents[note.id].content_type == "text/html"
    assert {id_: fetched(connector, document) for id_, document in documents.items()} == {
        note.id: b"<p>We met.</p>",
        page.id: b"<!doctype html><p>A page",
        attached.id: b"<html>",
    }
    city.misbehave("login_page", route="version_data")
    with pytest.raises(DownloadFailed, match="web page instead of the note"):
        fetched(connector, documents[note.id])


def test_a_file_that_is_kept_elsewhere_is_refused_and_not_asked_for(city: SimulatedSalesforce) -> None:
    city.add("link.pdf", b"", kind="link")
    connector = connect(city)
    (document,) = listed(connector)
    assert document.not_imported is not None
    assert document.not_imported.refused
    assert "outside Salesforce" in document.not_imported.reason


def test_a_document_that_goes_after_it_was_listed(city: SimulatedSalesforce) -> None:
    contents = fill(city, 2)
    connector = connect(city)
    documents = listed(connector)
    for id_ in contents:
        city.remove(id_)
    for document in documents:
        with pytest.raises(DownloadFailed, match="gone since it was listed"):
            fetched(connector, document)


def test_limits_of_the_source_count(city: SimulatedSalesforce) -> None:
    city.add("a.exe", b"x")
    city.add("b.pdf", b"x" * 1_000_001)
    connector = connect(city, allowed_types=["pdf"], max_size_mb=1)
    reasons = [refusal(connector, document) for document in listed(connector)]
    assert len([reason for reason in reasons if reason]) == 2


# Signing in.


def test_each_flow_gets_a_token(city: SimulatedSalesforce) -> None:
    city.flows = {"client_credentials", "password", JWT_BEARER}
    contents = fill(city, 2)
    for settings in (
        {},
        {"auth_flow": "jwt", "client_secret": None, "private_key": city.private_key},
        {"auth_flow": "jwt", "client_secret": None, "private_key": city.private_key.replace("\n", "\\n")},
        {"auth_flow": "jwt", "private_key": city.private_key, "login_url": city.url()},
        {"auth_flow": "password", "password": city.password},
    ):
        assert ids(connect(city, username=city.username, **settings)) == list(contents)


def test_the_signed_request_names_the_right_audience() -> None:
    key = key_in_pem(rsa.generate_private_key(65537, 2048))
    for host, audience in (
        ("city.my.salesforce.com", "https://login.salesforce.com"),
        ("city--test.sandbox.my.salesforce.com", "https://test.salesforce.com"),
    ):
        connector = get_connector(
            "salesforce",
            {
                "instance_url": f"https://{host}",
                "auth_flow": "jwt",
                "client_id": "client",
                "username": "me",
                "private_key": key,
            },
        )
        assert isinstance(connector, Salesforce)
        claims = connector._assertion().split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(claims + "=="))["aud"] == audience


KEYS: dict[str, Callable[[SimulatedSalesforce], str]] = {
    "own": lambda city: city.private_key,
    "other": lambda city: key_in_pem(rsa.generate_private_key(65537, 2048)),
    "elliptic": lambda city: key_in_pem(ec.generate_private_key(ec.SECP256R1())),
    "locked": lambda city: key_in_pem(rsa.generate_private_key(65537, 2048), b"passphrase"),
}


def break_run_as(city: SimulatedSalesforce) -> None:
    city.run_as_user = False


def break_approval(city: SimulatedSalesforce) -> None:
    city.approved = False


def break_flow(city: SimulatedSalesforce) -> None:
    city.flows.clear()


def break_api(city: SimulatedSalesforce) -> None:
    city.api_enabled = False


def break_files(city: SimulatedSalesforce) -> None:
    city.hidden_objects.add("ContentVersion")


def break_attachments(city: SimulatedSalesforce) -> None:
    city.hidden_objects.add("Attachment")


@pytest.mark.parametrize(
    ("settings", "spoil", "said"),
    [
        ({"client_secret": "canary-wrong"}, None, "client_secret"),
        ({"client_id": "canary-wrong"}, None, "client_id"),
        ({}, break_run_as, "Run As user"),
        ({}, break_approval, "not approved this client"),
        ({}, break_flow, "does not allow the flow client_credentials"),
        ({"auth_flow": "password", "password": "canary-wrong"}, None, "refuses a token: check"),
        ({"auth_flow": "jwt", "private_key": "canary-wrong"}, None, "RSA private key in PEM"),
        ({"auth_flow": "jwt", "private_key": "other"}, None, "belongs to the certificate"),
        ({"auth_flow": "jwt", "private_key": "elliptic"}, None, "RSA private key in PEM"),
        ({"auth_flow": "jwt", "private_key": "locked"}, None, "without a passphrase"),
        ({"auth_flow": "jwt", "private_key": "own", "username": "nobody"}, None, "for the user nobody"),
        ({"auth_flow": "jwt", "private_key": "own", "login_url": "https://x.example"}, None, "login_url"),
        ({}, break_api, "API Enabled"),
        ({}, break_files, "does not show ContentVersion"),
        ({}, break_attachments, "does not show Attachment"),
        ({"record_types": ["Nowhere__c"]}, None, "no object Nowhere__c"),
        ({"api_version": "29.0"}, None, "no longer serves version 29.0"),
        ({"api_version": "99.0"}, None, "api_version (99.0)"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_document(
    city: SimulatedSalesforce, settings: dict[str, Any], spoil: Any, said: str
) -> None:
    fill(city, 2)
    settings = {"username": city.username} | settings
    if settings.get("private_key") in KEYS:
        settings["private_key"] = KEYS[settings["private_key"]](city)
    if spoil:
        spoil(city)
    connector = connect(city, **settings)
    status = connector.test_connection()
    assert not status.ok
    with pytest.raises(ConfigurationError) as caught:
        listed(connector)
    for sentence in (status.message, str(caught.value)):
        assert said in sentence
        assert_clean(sentence, city, *(str(settings.get(name)) for name in ("password", "private_key")))


def assert_clean(sentence: str, city: SimulatedSalesforce, *more: str) -> None:
    assert "\n" not in sentence
    for secret in (city.client_secret, city.password, "canary", "BEGIN", *city._tokens, *more):
        assert secret == "None" or secret not in sentence


def test_a_connection_that_works_says_so(city: SimulatedSalesforce) -> None:
    assert connect(city).test_connection() == (
        True,
        "Salesforce (127.0.0.1) answers and shows no files and no attachments;"
        " 3 of 100000 requests are used in 24 hours",
    )
    fill(city, 1)
    status = connect(city, record_types=["Account"]).test_connection()
    assert status.ok
    assert "shows files and no attachments" in status.message


def test_a_user_without_query_all_files_is_warned(city: SimulatedSalesforce) -> None:
    hidden = city.add("in a library.pdf", b"x", library=True)
    assert ids(connect(city)) == [hidden.id]
    city.query_all_files = False
    assert ids(connect(city)) == []
    status = connect(city).test_connection()
    assert status.ok
    assert "WARNING: the user lacks the permission Query All Files" in status.message


def test_a_listing_of_everything_warns_as_well(city: SimulatedSalesforce) -> None:
    fill(city, 3)
    city.query_all_files = False
    connector = connect(city)
    told = []
    for window in (Window(NOON), None, None):
        listed(connector, window)
        told.append(list(connector.warnings))
    assert told[0] == []
    assert told[1] == told[2]
    (warning,) = told[1]
    assert "lacks the permission Query All Files" in warning
    city.query_all_files = True
    other = connect(city)
    listed(other)
    assert list(other.warnings) == []


def test_a_host_that_is_not_there(city: SimulatedSalesforce) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        connector = connect(city, instance_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        status = connector.test_connection()
        assert not status.ok
        assert "cannot be reached: check instance_url" in status.message
        with pytest.raises(ListingIncomplete, match="cannot be reached"):
            listed(connector)


def test_a_host_that_is_not_salesforce(city: SimulatedSalesforce) -> None:
    status = connect(city, instance_url=city.url("elsewhere")).test_connection()
    assert not status.ok
    assert "check instance_url" in status.message
    city.misbehave("login_page", route="token")
    status = connect(city).test_connection()
    assert not status.ok
    assert "web page" in status.message


# Credentials stay at home.


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("https://other.my.salesforce.com", "https://other.my.salesforce.com"),
        ("https://salesforce.com.evil.example", None),
        ("http://127.0.0.1:1", None),
        ("not an address", None),
    ],
)
def test_a_token_for_another_address_is_not_used(
    city: SimulatedSalesforce, other: str, named: str | None
) -> None:
    city.other_instance = other
    status = connect(city).test_connection()
    assert not status.ok
    assert "set instance_url to its My Domain address" in status.message
    assert (other in status.message) == (named is not None)
    assert set(city.requests) == {"token"}


def test_links_to_another_host_are_followed_at_home(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 2
    contents = fill(city, 10)
    city.links_to = city.url("elsewhere")
    assert ids(connect(city)) == list(contents)
    assert all(logged.request.host == "api" for logged in city.log)


def test_no_secret_is_shown(city: SimulatedSalesforce) -> None:
    connector = connect(
        city, auth_flow="jwt", username=city.username, private_key=city.private_key, password=city.password
    )
    for shown in (repr(connector), str(connector), connector.model_dump_json()):
        assert_clean(shown, city, "PRIVATE KEY")
    schema = Salesforce.model_json_schema()["properties"]
    assert {name for name, field in schema.items() if field.get("writeOnly")} == {
        "client_secret",
        "password",
        "private_key",
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"instance_url": "http://city.my.salesforce.com"},
        {"instance_url": "https://city.lightning.force.com"},
        {"instance_url": "https://login.salesforce.com"},
        {"instance_url": "https://city.my.salesforce.com/services"},
        {"client_secret": None},
        {"auth_flow": "jwt"},
        {"auth_flow": "password"},
        {"auth_flow": "implicit"},
        {"api_version": "latest"},
        {"objects": []},
        {"objects": ["notes"]},
        {"record_types": ["Case') OR (Name = '"]},
        {"login_url": "http://login.example"},
    ],
)
def test_settings_that_cannot_work(city: SimulatedSalesforce, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(city, **settings)
    assert_clean(str(caught.value), city)


# Misbehaviour.


@pytest.mark.parametrize("route", ["token", "query", "query_more"])
@pytest.mark.parametrize(
    "how",
    [
        {"kind": "throttle", "seconds": 0.05},
        {"kind": "throttle", "status": 503, "retry_after": "none"},
        {"kind": "throttle", "retry_after": "date", "seconds": 0},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "slow", "seconds": 0.05},
        {"kind": "expire_tokens"},
    ],
    ids=lambda how: "-".join(str(part) for part in how.values()),
)
def test_a_listing_recovers(city: SimulatedSalesforce, route: str, how: dict[str, Any]) -> None:
    city.rows_per_batch = 4
    contents = fill(city, 20)
    city.misbehave(route=route, **how)
    assert ids(connect(city)) == list(contents)
    assert city.too_early == 0


@pytest.mark.parametrize("route", ["query", "query_more"])
def test_a_listing_recovers_from_a_server_error(city: SimulatedSalesforce, route: str) -> None:
    city.rows_per_batch = 4
    contents = fill(city, 20)
    city.misbehave("fail", route=route, times=2)
    city.busy_for = 2
    assert ids(connect(city)) == list(contents)


def test_pages_without_rows_are_passed_over(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 4
    contents = fill(city, 20)
    city.misbehave("thin_page", route="query")
    city.misbehave("thin_page", route="query_more")
    assert ids(connect(city)) == list(contents)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"kind": "repeat_token", "times": 9}, "repeats a page"),
        ({"kind": "fail", "times": 9}, "out of order"),
        ({"kind": "fail", "status": 403, "times": 9}, "refuses access"),
        ({"kind": "login_page"}, "web page"),
        ({"kind": "truncate", "times": 99}, "broke off"),
    ],
    ids=["repeat_token", "fail", "forbidden", "login_page", "truncate"],
)
def test_an_interrupted_listing_says_so(city: SimulatedSalesforce, how: dict[str, Any], said: str) -> None:
    city.rows_per_batch = 4
    contents = fill(city, 20)
    # The first batch of files, with the records of all of them, and of attachments is good.
    city.misbehave(route="query_more", spare=1, **how)
    connector = connect(city)
    found = []
    with pytest.raises(ListingIncomplete, match=said) as caught:
        for document in connector.list_documents():
            found.append(document.external_id)
    assert_clean(str(caught.value), city)
    assert 0 < len(found) < 20
    city.behave()
    assert ids(connect(city)) == list(contents)


def test_a_rest_that_the_server_has_forgotten_is_an_interruption(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 4
    fill(city, 20)
    city.misbehave("change", route="query_more", then=city._cursors.clear)
    with pytest.raises(ListingIncomplete, match="no longer knows the rest of the listing"):
        listed(connect(city))


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"totalSize": 0, "done": True},
        {"totalSize": 9, "done": False, "records": []},
        {"totalSize": 9, "done": False, "records": [], "nextRecordsUrl": "https://x.example/"},
        {"totalSize": 1, "done": True, "records": [{"Id": "1"}]},
        {"totalSize": 1, "done": True, "records": [{"SystemModstamp": "2026-11-02T12:00:00.000+0000"}]},
    ],
    ids=["object", "list", "no rows", "no link", "no locator", "no date", "no id"],
)
def test_an_answer_of_another_shape_is_not_an_empty_listing(
    city: SimulatedSalesforce, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    connector = connect(city)
    assert listed(connector) == []
    monkeypatch.setattr(city, "_answered", lambda _: city.throttled(200).json(body))
    with pytest.raises(ConnectorError, match="not a listing"):
        listed(connector)


@pytest.mark.parametrize("kind", ["file", "attachment"])
@pytest.mark.parametrize(
    "how",
    [
        {"kind": "throttle", "seconds": 0.05, "times": 2},
        {"kind": "throttle", "status": 503, "retry_after": "date", "seconds": 0},
        {"kind": "fail", "times": 3},
        {"kind": "reset"},
        {"kind": "reset", "at_byte": 100},
        {"kind": "truncate"},
        {"kind": "slow", "seconds": 0.05},
        {"kind": "expire_tokens"},
    ],
    ids=lambda how: "-".join(str(part) for part in how.values()) if isinstance(how, dict) else how,
)
def test_a_download_recovers(city: SimulatedSalesforce, kind: str, how: dict[str, Any]) -> None:
    content = bytes(range(256)) * 1_000
    added = city.add("a.bin", content, kind=kind)
    connector = connect(city)
    listed(connector)
    city.misbehave(route="attachment_body" if kind == "attachment" else "version_data", **how)
    assert all_fetched(connector) == ({added.id: content}, {})
    assert city.too_early == 0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"kind": "corrupt"}, "md5 checksum"),
        ({"kind": "truncate", "times": 5}, "broke off"),
        ({"kind": "fail", "times": 5}, "out of order"),
        ({"kind": "login_page"}, "web page"),
        ({"kind": "fail", "status": 404}, "gone since it was listed"),
    ],
    ids=["corrupt", "truncate", "fail", "login_page", "gone"],
)
def test_only_the_document_concerned_fails(city: SimulatedSalesforce, how: dict[str, Any], said: str) -> None:
    contents = {
        city.add(f"{number}.bin", b"abc" * 99, modified_at=NOON).id: b"abc" * 99 for number in range(4)
    }
    city.misbehave(route="version_data", spare=1, **how)
    arrived, failed = all_fetched(connect(city))
    assert len(arrived) == 3
    (sentence,) = failed.values()
    assert said in sentence
    assert_clean(sentence, city)
    assert all_fetched(connect(city)) == (contents, {})


def test_a_token_that_expires_is_renewed_once(city: SimulatedSalesforce) -> None:
    fill(city, 4)
    connector = connect(city)
    listed(connector)
    city.expire_tokens()
    listed(connector)
    assert city.requests["token"] == 2
    city.misbehave("fail", route="query", status=401, times=9)
    with pytest.raises(ConfigurationError, match="does not accept its own token"):
        listed(connector)
    assert city.requests["token"] == 3


def test_a_used_up_quota_ends_a_listing(city: SimulatedSalesforce) -> None:
    city.rows_per_batch = 4
    contents = fill(city, 20)
    city.requests_allowed = 5
    connector = connect(city)
    with pytest.raises(ListingIncomplete, match="has used up those of 24 hours") as caught:
        listed(connector)
    assert "403" not in str(caught.value)
    sent = len(city.log)
    status = connector.test_connection()
    assert not status.ok
    assert "has used up those of 24 hours" in status.message
    assert len(city.log) == sent + 1
    city.requests_allowed = 1_000
    assert ids(connector) == list(contents)


def test_a_used_up_quota_is_not_hammered_at_by_downloads(city: SimulatedSalesforce) -> None:
    fill(city, 20)
    connector = connect(city)
    documents = listed(connector)
    city.requests_allowed = city.requests_used + 2
    sent = len(city.log)
    failures = []
    for document in documents:
        try:
            fetched(connector, document)
        except DownloadFailed as error:
            failures.append(str(error))
    assert len(failures) == 18
    assert all("has used up those of 24 hours" in failure for failure in failures)
    assert len(city.log) == sent + 3


# The budget.


def test_a_refresh_of_ten_thousand_unchanged_documents_takes_three_requests(
    city: SimulatedSalesforce,
) -> None:
    account = city.add_record("Account", "A")
    moment = NOON
    for number in range(10_000):
        kind = "attachment" if number % 2 else "file"
        moment = NOON - timedelta(minutes=number)
        city.add(f"{number}.txt", b"x", kind=kind, modified_at=moment, records=[account])
    connector = connect(city)
    # The refresh of a source whose newest document is of noon.
    assert len(listed(connector, Window(NOON - timedelta(minutes=10)))) == 11
    assert dict(city.requests) == {"token": 1, "query": 3}
    city.forget_requests()
    assert listed(connector, Window(NOON + timedelta(minutes=10))) == []
    assert dict(city.requests) == {"query": 2}
    city.forget_requests()
    # All of it: what the user may see, three pages of each, and the records of 5,000 files, 400 at a time.
    assert len(listed(connector)) == 10_000
    assert dict(city.requests) == {"query": 1 + 2 + 13, "query_more": 4}


def test_downloads_stay_within_the_number_in_flight(city: SimulatedSalesforce) -> None:
    fill(city, 24)
    connector = connect(city, concurrency=3)
    documents = listed(connector)
    city.misbehave("slow", seconds=0.02, times=24)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda document: fetched(connector, document), documents))
    assert city.most_in_flight == 3


# The simulated organisation is as strict as the real one.


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELECT Id FROM Attachment", 200, None),
        ("SELECT COUNT() FROM Attachment", 200, None),
        (
            "select Id from Attachment where BodyLength > 3 and Name != 'a' order by Name asc limit 1",
            200,
            None,
        ),
        ("SELECT Id FROM Nothing", 400, "INVALID_TYPE"),
        ("SELECT Id, Nothing FROM Attachment", 400, "INVALID_FIELD"),
        ("SELECT Id FROM Attachment WHERE", 400, "MALFORMED_QUERY"),
        ("SELECT Id FROM Attachment WHERE SystemModstamp > 2026-11-01T00:00:00", 400, "MALFORMED_QUERY"),
        ("SELECT Id FROM Attachment WHERE SystemModstamp > '2026-11-01T00:00:00Z'", 400, "INVALID_FIELD"),
        (
            "SELECT Id FROM Attachment WHERE SystemModstamp > 2026-11-01T00:00:00 01:00",
            400,
            "MALFORMED_QUERY",
        ),
        ("SELECT Id FROM Attachment WHERE SystemModstamp > 2026-11-01T00:00:00+01:00", 200, None),
        ("SELECT Id FROM Attachment WHERE Id IN ()", 400, "MALFORMED_QUERY"),
        ("SELECT Id FROM Attachment WHERE Id = 'a' nonsense", 400, "MALFORMED_QUERY"),
        ("SELECT LinkedEntityId FROM ContentDocumentLink", 400, "MALFORMED_QUERY"),
        ("", 400, "MALFORMED_QUERY"),
    ],
)
def test_queries_are_really_read(
    city: SimulatedSalesforce, query: str, status: int, code: str | None
) -> None:
    fill(city, 4)
    listed(connect(city))
    (token,) = city._tokens
    answer = requests.get(
        f"{city.url()}/services/data/v66.0/query",
        params={"q": query},
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert answer.status_code == status
    if code:
        assert answer.json()[0]["errorCode"] == code
    else:
        assert answer.headers["Sforce-Limit-Info"].startswith("api-usage=")
