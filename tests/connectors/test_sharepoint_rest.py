"""The SharePoint connector with the site's own API, against a simulated site over real connections."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
import requests

from citysort_dagster.web.forms import fields_of
from connectors import http, sharepoint_rest
from connectors.base import (
    ConfigurationError,
    ConnectorError,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
)
from connectors.sharepoint import SharePoint
from sandbox.sharepoint_rest import SimulatedSharePointApi
from sandbox.simulated import Answer, Request, route
from tests.connectors import test_sharepoint
from tests.connectors.test_sharepoint import HELL, SECOND, content, fill, names, requests_of, secrets_of

NOON = datetime(2025, 6, 15, 12, tzinfo=timezone.utc)
WRONG = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def site() -> Iterator[SimulatedSharePointApi]:
    with SimulatedSharePointApi() as system:
        yield system


@pytest.fixture(autouse=True)
def short_pauses_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sharepoint_rest, "ITEMS_PER_PAGE", 5)


def connect(site: SimulatedSharePointApi, **settings: Any) -> SharePoint:
    own = {
        "api": "sharepoint",
        "site_url": site.own_url,
        "client_secret": None,
        "certificate": site.private_key + site.certificate,
        "graph_url": None,
    }
    return test_sharepoint.connect(site, **own | settings)


# Settings.


def test_a_secret_is_not_taken(site: SimulatedSharePointApi) -> None:
    with pytest.raises(ConfigurationError, match="SharePoint's own API takes no client_secret") as caught:
        connect(site, certificate=None, client_secret=site.client_secret)
    assert site.client_secret not in str(caught.value)
    with pytest.raises(ConfigurationError, match="either client_secret or certificate"):
        connect(site, certificate=None)
    with pytest.raises(ConfigurationError, match="'graph' or 'sharepoint'"):
        connect(site, api="soap")


def test_the_form_of_a_source_offers_the_choice() -> None:
    main, _ = fields_of("sharepoint", {}, {})
    (field,) = (field for field in main if field.name == "config.api")
    assert (field.label, field.kind, field.choices) == ("API", "choice", ["graph", "sharepoint"])
    assert (field.value, field.required, "certificate" in field.hint) == ("graph", False, True)


def test_only_graph_knows_what_has_changed(site: SimulatedSharePointApi) -> None:
    assert (connect(site).keeps_checkpoint, connect(site, api="graph").keeps_checkpoint) == (False, True)
    assert connect(site).windowed


# The connection.


def test_a_connection(site: SimulatedSharePointApi) -> None:
    (document,) = fill(site, 1)
    for settings in ({}, {"certificate": site.private_key, "thumbprint": site.thumbprint}):
        connector = connect(site, **settings)
        ok, message = connector.test_connection()
        assert (ok, f"lists Documents of {site.own_url}" in message) == (True, True)
        (listed,) = connector.list_documents()
        assert content(connector, listed) == document.content
        connector.close()
    assert (site.requests["token"], site.leaks) == (2, [])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"client_id": WRONG}, "check client_id and tenant_id"),
        ({"tenant_id": WRONG}, "check tenant_id"),
        ({"site_url": "{site}/sites/permit"}, "has no site .*: check site_url"),
        ({"site_url": "{site}"}, "has no site"),
        ({"site_url": "{site}/sites/permits/Shared%20Documents"}, "not of a library"),
        ({"site_url": "https://127.0.0.1:1"}, "does not know https://127.0.0.1:1 .* check site_url"),
        ({"library_name": "Dokuments"}, "no document library Dokuments; there are: Documents"),
        ({"library_name": "Tasks"}, "no document library Tasks; there are: Documents"),
        ({"folder": "2025/March"}, "no folder 2025/March in Documents"),
        ({"authority_url": "https://127.0.0.1:1"}, "cannot be reached: check authority_url"),
        ({"ca_file": None}, "no certificate that this machine trusts"),
    ],
)
def test_connections_that_do_not_work(
    site: SimulatedSharePointApi, settings: dict[str, Any], what: str
) -> None:
    fill(site, 1)
    filled = {
        name: value and value.format(site=site.url("site")) if name == "site_url" else value
        for name, value in settings.items()
    }
    connector = connect(site, **filled)
    with pytest.raises((ConfigurationError, ListingIncomplete), match=what) as caught:
        list(connector.list_documents())
    ok, message = connector.test_connection()
    assert (ok, message) == (False, str(caught.value).removeprefix("the listing broke off: "))
    assert not any(secret in message for secret in secrets_of(site))


def test_what_an_administrator_has_not_done(site: SimulatedSharePointApi) -> None:
    fill(site, 1)
    connector = connect(site)
    site.granted = False
    for told in (connector.test_connection().message, refusal(connector)):
        assert "grant the application this site (Sites.Selected of SharePoint" in told
    site.granted, site.locked = True, True
    assert "is locked" in connector.test_connection().message
    site.locked = False
    assert connector.test_connection().ok


def refusal(connector: SharePoint) -> str:
    with pytest.raises(ConfigurationError) as caught:
        list(connector.list_documents())
    return str(caught.value)


def test_a_token_that_the_site_does_not_take() -> None:
    """One that was got with a secret, or for an application with no permission of SharePoint."""

    class Refusing(SimulatedSharePointApi):
        def authenticate(self, request: Request) -> Answer | None:
            self._by_certificate.clear()
            return super().authenticate(request)

    with Refusing() as refusing:
        ok, message = connect(refusing).test_connection()
        assert (ok, "Sites.Selected of SharePoint itself" in message) == (False, True)
        assert (refusing.requests["lists"], refusing.requests["token"]) == (2, 2)


@pytest.mark.parametrize(
    ("kind", "what"),
    [("login_page", "login page"), ("fail", "out of order"), ("throttle", "no more requests")],
)
def test_a_site_in_trouble(site: SimulatedSharePointApi, kind: Any, what: str) -> None:
    site.misbehave(kind, route="lists", times=9, seconds=100)
    assert what in connect(site).test_connection().message


# The listing.


def test_everything_is_listed(site: SimulatedSharePointApi) -> None:
    documents = fill(site, 23, folder="2026/March #1")
    listed = {document.external_id: document for document in connect(site).list_documents()}
    assert list(listed) == [site.unique_id(document.id) for document in documents]
    last = documents[-1]
    assert listed[site.unique_id(last.id)] == ExternalDocument(
        external_id=site.unique_id(last.id),
        version="content 1, 10 bytes",
        filename="22.txt",
        modified_at=last.modified_at,
        size=10,
        source_url=f"{site.own_url}/Shared%20Documents/2026/March%20%231/22.txt",
        metadata={
            "library": "Documents",
            "folder": "2026/March #1",
            "created_at": f"{last.modified_at:%Y-%m-%dT%H:%M:%SZ}",
        },
    )
    assert requests_of(site) == {"lists": 1, "items": 5}  # with two folders


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, range(10)),
        (0, 10, range(10)),
        (3, 7, range(3, 7)),
        (3, 3, range(0)),
        (3, 4, range(3, 4)),
        (9, None, range(9, 10)),
        (10, None, range(0)),
        (None, 0, range(0)),
        (None, 1, range(1)),
        (2.5, 6.5, range(3, 7)),
        (2.000001, 6.000001, range(3, 7)),
    ],
)
@pytest.mark.parametrize("threshold", [5, 5_000])
def test_windows(
    site: SimulatedSharePointApi, start: float | None, end: float | None, expected: range, threshold: int
) -> None:
    """Whether the site filters by date or refuses to."""
    site.threshold = threshold
    for number in range(10):
        site.add(f"{number}.txt", b"", modified_at=NOON + number * SECOND)
    zone = timezone(timedelta(hours=-7))
    window = Window(
        None if start is None else (NOON + start * SECOND).astimezone(zone),
        None if end is None else NOON + end * SECOND,
    )
    assert names(connect(site), window) == [f"{number}.txt" for number in expected]
    refused = [one.status for one in site.log if one.route == "items"].count(500)
    assert refused == (threshold == 5 and window != Window())


@pytest.mark.parametrize("seed", range(4))
def test_any_distribution_over_pages(site: SimulatedSharePointApi, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    site.threshold = chance.choice([20, 5_000])
    for number in range(40):
        moment = NOON + chance.randrange(12) * SECOND
        site.add(f"{number}", b"", modified_at=moment, folder=chance.choice(["", "a", "a/b", "c"]))
    for id in chance.sample(sorted(site.documents), 8):
        site.remove(id)
    start, end = sorted(chance.sample(range(13), 2))
    window = Window(NOON + start * SECOND, NOON + end * SECOND)
    expected = sorted(one.name for one in site.documents.values() if window.includes(one.modified_at))
    assert names(connect(site), window) == expected


def test_what_changes_between_two_pages_moves_nothing_else(site: SimulatedSharePointApi) -> None:
    documents = fill(site, 20)

    def change() -> None:
        site.add("new.txt", b"new")
        site.replace(documents[1].id, b"changed")
        site.remove(documents[0].id)
        site.remove(documents[18].id)

    site.misbehave("change", route="items", spare=1, then=change)
    found = [document.filename for document in connect(site).list_documents()]
    assert sorted(found) == sorted(["new.txt", *(f"{n}.txt" for n in range(20) if n != 18)])


def test_a_space_in_a_condition_is_no_plus() -> None:
    asked = sharepoint_rest._asked("/lists", {"$filter": "Title eq 'a+b'", "$top": "5"})
    assert asked == "/lists?%24filter=Title%20eq%20%27a%2Bb%27&%24top=5"


# Libraries that are so large that SharePoint does not filter them.


def test_a_large_library_is_listed_whole_where_its_dates_are_not_indexed(
    site: SimulatedSharePointApi,
) -> None:
    documents = fill(site, 12)
    site.threshold = 10
    late = Window(documents[9].modified_at)
    assert names(connect(site), late) == ["10.txt", "11.txt", "9.txt"]
    assert requests_of(site) == {"lists": 1, "items": 4}
    site.indexed = True
    assert names(connect(site), late) == ["10.txt", "11.txt", "9.txt"]
    assert requests_of(site) == {"lists": 1, "items": 1}
    # An index does not help where too many match.
    assert len(names(connect(site), Window(documents[0].modified_at))) == 12
    assert requests_of(site) == {"lists": 1, "items": 4}


def test_a_library_that_becomes_large_during_the_listing(site: SimulatedSharePointApi) -> None:
    """Nothing is listed twice."""
    (first, *_) = fill(site, 12)
    site.misbehave("change", route="items", spare=1, then=lambda: setattr(site, "threshold", 10))
    with pytest.raises(ListingIncomplete, match="so many items"):
        names(connect(site), Window(first.modified_at))


def test_a_library_that_is_not_listed_at_all(site: SimulatedSharePointApi) -> None:
    class Refusing(SimulatedSharePointApi):
        @route("GET", "/{site:path}/_api/web/lists(guid'{list_id}')/items", host="site")
        def items(self, request: Request, list_id: str, site: str = "") -> Answer:
            request.query["$top"] = "5001"
            return super().items(request, list_id, site)

    with Refusing() as refusing:
        fill(refusing, 3)
        assert "so many items" in refusal(connect(refusing))
        assert refusing.requests["items"] == 1  # it is not repeated


# Libraries and folders.


@pytest.fixture
def libraries(site: SimulatedSharePointApi) -> SimulatedSharePointApi:
    site.add_library("Planning & Zoning", "PZ")
    site.add_library("PZ", "Other")
    site.system_libraries.add(site.add_library("Style Library").id)
    site.add("a.txt", b"a", folder="2026/March")
    site.add("b.txt", b"b", folder="2026/March/Old", library="Planning & Zoning")
    site.add("c.txt", b"c", folder="2026/Marchand", library="PZ")
    site.add("d.txt", b"d")
    site.add("s.txt", b"s", library="Style Library")
    return site


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "abcd"),
        ({"library_name": "Documents"}, "ad"),
        ({"library_name": "shared documents"}, "ad"),
        ({"library_name": "Planning & Zoning"}, "b"),
        ({"library_name": "pz"}, "c"),
        ({"library_name": "Other"}, "c"),
        ({"library_name": "Style Library"}, "s"),
        ({"library_name": ["Documents", "PZ", "documents"]}, "acd"),
        ({"folder": "2026/March"}, "ab"),
        ({"folder": "/2026/"}, "abc"),
        ({"folder": "2026/march", "library_name": "Documents"}, "a"),
    ],
)
def test_libraries_and_folders(
    libraries: SimulatedSharePointApi, settings: dict[str, Any], expected: str
) -> None:
    connector = connect(libraries, **settings)
    assert connector.test_connection().ok
    for window in (None, Window(datetime.now(timezone.utc) - timedelta(days=1))):
        assert names(connector, window) == [f"{one}.txt" for one in expected]


def test_folders_of_any_name(site: SimulatedSharePointApi) -> None:
    for name in ("100% #1", "a'b''c", "Ünïcode & more", "x+y=z?"):
        site.add("in.txt", b"in", folder=name)
        connector = connect(site, folder=name)
        (listed,) = connector.list_documents()
        assert content(connector, listed) == b"in"


@pytest.mark.parametrize("path", ["", "/sites/permits/archive", "/teams/Permit%20Office", "/sites/%C3%9Cber"])
def test_sites_of_any_address(site: SimulatedSharePointApi, path: str) -> None:
    site.site_url = f"https://city.sharepoint.com{path}"
    site.add("0.txt", b"", folder="a")
    for url in (site.own_url, site.own_url + "/"):
        assert names(connect(site, site_url=url, folder="a")) == ["0.txt"]
    with pytest.raises(ConfigurationError, match="has no site"):
        names(connect(site, site_url=f"{site.own_url}/other"))


# The documents.


def test_editing_columns_makes_no_new_version_and_replacing_does(site: SimulatedSharePointApi) -> None:
    (document,) = fill(site, 1)
    connector = connect(site)
    (before,) = connector.list_documents()
    site.edit_columns(document.id, NOON + timedelta(days=900))
    (edited,) = connector.list_documents(Window(NOON + timedelta(days=900)))
    assert (edited.external_id, edited.version) == (before.external_id, before.version)
    assert content(connector, before) == document.content
    site.replace(document.id, b"replaced!")  # of the same size
    (after,) = connector.list_documents()
    assert (after.external_id, after.size) == (before.external_id, before.size)
    assert after.version != before.version
    assert content(connector, after) == b"replaced!"
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        content(connector, before)


def test_a_renamed_or_moved_file_stays_the_same_document(site: SimulatedSharePointApi) -> None:
    (document,) = fill(site, 1, folder="a")
    connector = connect(site)
    (before,) = connector.list_documents()
    document.name, document.fields["parent"] = "renamed.txt", site.add_folder("b")
    (after,) = connector.list_documents()
    assert (after.external_id, after.version) == (before.external_id, before.version)
    assert (after.filename, after.metadata["folder"]) == ("renamed.txt", "b")


def test_a_file_without_a_content_tag(site: SimulatedSharePointApi) -> None:
    (document,) = fill(site, 1, content_tag=False)
    connector = connect(site)
    (before,) = connector.list_documents()
    assert before.version == f'"{{{site.unique_id(document.id).upper()}}},1" 9'
    assert content(connector, before) == document.content
    site.edit_columns(document.id, NOON)
    (after,) = connector.list_documents()
    assert after.version != before.version


def test_ids_are_always_written_the_same_way() -> None:
    class Shouting(SimulatedSharePointApi):
        def unique_id(self, id: str) -> str:
            return f"{{{super().unique_id(id).upper()}}}"

        @route("GET", "/{site:path}/_api/web/lists(guid'{list_id}')/items", host="site")
        def items(self, request: Request, list_id: str, site: str = "") -> Answer:
            return super().items(request, f"{{{list_id.upper()}}}", site)

    with Shouting() as shouting:
        (document,) = fill(shouting, 1)
        (listed,) = connect(shouting).list_documents()
        assert listed.external_id == SimulatedSharePointApi.unique_id(shouting, document.id)


def test_office_files_may_be_of_another_size_and_others_not(site: SimulatedSharePointApi) -> None:
    site.add("permit.docx", b"permit", promoted=True)
    site.add("plan.pdf", b"plan", promoted=True)
    connector = connect(site)
    office, other = connector.list_documents()
    assert (office.size, other.size) == (None, 4)
    assert content(connector, office) == b"permit<columns/>"
    with pytest.raises(DownloadFailed, match="14 bytes arrived of the 4"):
        content(connector, other)


def test_an_office_file_that_ends_too_early_fails(site: SimulatedSharePointApi) -> None:
    """SharePoint has been seen to send a part as if it were all, and states no size of what it sends."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as package:
        package.writestr("word/document.xml", random.Random(1).randbytes(200_000))  # noqa: S311
    site.add("whole.docx", whole.getvalue(), promoted=True)
    site.add("half.docx", whole.getvalue(), promoted=True, ends_early=True)
    site.add("half there.docx", whole.getvalue()[:1000])
    connector = connect(site)
    complete, half, no_more = connector.list_documents()
    assert content(connector, complete) == whole.getvalue() + b"<columns/>"
    assert content(connector, no_more) == whole.getvalue()[:1000]
    with pytest.raises(DownloadFailed, match="ends too early"):
        content(connector, half)


def test_an_item_without_a_file_is_reported(site: SimulatedSharePointApi) -> None:
    class Bare(SimulatedSharePointApi):
        def _list_item(self, id: str) -> dict[str, Any]:
            return super()._list_item(id) | {"File": None}

    with Bare() as bare:
        fill(bare, 1)
        (listed,) = connect(bare).list_documents()
        assert listed.not_imported is not None
        assert (listed.filename, listed.not_imported.refused) == ("0.txt", False)


def test_names_from_hell(site: SimulatedSharePointApi) -> None:
    for number, name in enumerate(HELL[:-1]):
        site.add(name, name.encode(), modified_at=NOON + number * SECOND, folder="50% of #1's")
    connector = connect(site, folder="50% of #1's")
    listed = list(connector.list_documents())
    assert [document.filename for document in listed] == HELL[:-1]
    assert [content(connector, document).decode() for document in listed] == HELL[:-1]


def test_a_name_that_is_no_unicode_ends_no_listing(site: SimulatedSharePointApi) -> None:
    fill(site, 2)
    site.add("half of \ud83d.txt", b"x")
    found = {document.filename: document for document in connect(site).list_documents()}
    assert found.keys() == {document.name for document in site.documents.values()}
    assert (found["half of \ud83d.txt"].source_url or "").endswith("/half%20of%20%3F.txt")


@pytest.mark.parametrize("name", ["notice.html", "Home.aspx"])
def test_login_pages_are_no_html_documents(site: SimulatedSharePointApi, name: str) -> None:
    site.add(name, b"<p>The hearing is on Monday</p>")
    connector = connect(site)
    (listed,) = connector.list_documents()
    site.misbehave("login_page", route="file_value")
    with pytest.raises(DownloadFailed, match="login page"):
        content(connector, listed)
    assert content(connector, listed) == b"<p>The hearing is on Monday</p>"


def test_a_download_is_two_requests(site: SimulatedSharePointApi) -> None:
    fill(site, 1)
    connector = connect(site)
    (listed,) = connector.list_documents()
    requests_of(site)
    content(connector, listed)
    assert requests_of(site) == {"file_value": 1, "file": 1}


def test_a_document_that_is_gone_fails_alone(site: SimulatedSharePointApi) -> None:
    documents = fill(site, 2)
    connector = connect(site)
    first, second = connector.list_documents()
    site.misbehave("change", route="file", then=lambda: site.remove(documents[1].id))
    for document in (second, second):
        with pytest.raises(DownloadFailed, match="gone since it was listed"):
            content(connector, document)
    assert content(connector, first) == documents[0].content


def test_credentials_stay_at_home(site: SimulatedSharePointApi) -> None:
    fill(site, 5)
    connector = connect(site)
    for document in connector.list_documents():
        content(connector, document)
    for one in site.log:
        assert ("authorization" in one.request.headers) == (one.request.host == "site")


# Misbehaviour.


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("throttle", {"retry_after": "seconds", "seconds": 0.2}),
        ("throttle", {"retry_after": "seconds", "seconds": 0.2, "status": 503}),
        ("fail", {"times": 2}),
        ("reset", {"at_byte": 3}),
        ("truncate", {"times": 2}),
        ("expire_tokens", {}),
    ],
)
def test_trouble_that_passes_is_not_noticed(
    site: SimulatedSharePointApi, kind: Any, how: dict[str, Any]
) -> None:
    documents = fill(site, 12)
    connector = connect(site)
    site.misbehave(kind, route="items", spare=1, **how)
    listed = list(connector.list_documents())
    assert [document.filename for document in listed] == [document.name for document in documents]
    site.misbehave(kind, route="file_value", spare=5, **how)
    site.misbehave(kind, route="file", spare=3, **how)
    assert [content(connector, document) for document in listed] == [one.content for one in documents]
    assert site.too_early == 0


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("fail", {"times": 99, "status": 503}),
        ("fail", {"status": 403}),
        ("fail", {"status": 404}),
        ("fail", {"status": 401, "times": 2}),
        ("login_page", {}),
        ("corrupt", {"times": 99}),
        ("reset", {"times": 99}),
        ("repeat_token", {"times": 99}),
        ("throttle", {"seconds": 100_000}),
    ],
)
def test_a_listing_that_breaks_off_says_so(
    site: SimulatedSharePointApi, kind: Any, how: dict[str, Any]
) -> None:
    fill(site, 20)
    connector = connect(site)
    spare = 0 if kind == "repeat_token" else 2
    site.misbehave(kind, route="items", spare=spare, **how)
    with pytest.raises(ListingIncomplete, match="broke off") as caught:
        list(connector.list_documents())
    assert not any(secret in str(caught.value) for secret in secrets_of(site))
    site.behave()
    assert len(names(connect(site))) == 20


@pytest.mark.parametrize(
    ("route_name", "kind", "how", "what"),
    [
        ("file_value", "fail", {"times": http.ATTEMPTS, "status": 503}, "try again later"),
        ("file_value", "fail", {"status": 403}, "refuses access"),
        ("file_value", "truncate", {"times": http.ATTEMPTS}, "broke off"),
        ("file_value", "login_page", {}, "login page"),
        ("file", "fail", {"times": http.ATTEMPTS}, "try again later"),
    ],
)
def test_exactly_the_affected_document_fails(
    site: SimulatedSharePointApi, route_name: str, kind: Any, how: dict[str, Any], what: str
) -> None:
    fill(site, 4)
    connector = connect(site)
    listed = list(connector.list_documents())
    site.misbehave(kind, route=route_name, spare=2, **how)
    failures: list[str | None] = []
    for document in listed:
        try:
            content(connector, document)
        except ConnectorError as error:
            assert isinstance(error, DownloadFailed)
            failures.append(str(error))
        else:
            failures.append(None)
    assert [number for number, one in enumerate(failures) if one] == [2]
    assert what in str(failures[2])
    assert not any(secret in str(failures[2]) for secret in secrets_of(site))


@pytest.mark.parametrize("where", ["https://attacker.example", "media"])
def test_links_to_other_hosts_are_not_followed(where: str) -> None:
    class Leading(SimulatedSharePointApi):
        @route("GET", "/{site:path}/_api/web/lists(guid'{list_id}')/items", host="site")
        def items(self, request: Request, list_id: str, site: str = "") -> Answer:
            answer = super().items(request, list_id, site)
            other = self.url("media") if where == "media" else where
            answer.body = answer.body.replace(self.url("site").encode(), other.encode())
            return answer

    with Leading() as leading:
        fill(leading, 9)
        with pytest.raises(ListingIncomplete, match="another host"):
            names(connect(leading))
        assert leading.leaks == []


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (b'"value"', b'"values"', "no list 'value'"),
        (b'"UniqueId"', b'"Unique"', "without their UniqueId"),
        (b'"FileRef"', b'"File_Ref"', "without their FileRef"),
        (b'"Modified": "2', b'"Modified": "x', "no real date"),
    ],
)
def test_answers_of_another_shape(before: bytes, after: bytes, what: str) -> None:
    class Odd(SimulatedSharePointApi):
        @route("GET", "/{site:path}/_api/web/lists(guid'{list_id}')/items", host="site")
        def items(self, request: Request, list_id: str, site: str = "") -> Answer:
            answer = super().items(request, list_id, site)
            answer.body = answer.body.replace(before, after)
            return answer

    with Odd() as odd:
        fill(odd, 3)
        assert what in refusal(connect(odd))


# How many requests it takes.


def test_requests_for_10_000_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # pages as they are
    with SimulatedSharePointApi() as site:
        fill(site, 10_000)
        connector = connect(site, library_name="Documents")
        newest = max(document.modified_at for document in site.documents.values())
        assert len({document.external_id for document in connector.list_documents()}) == 10_000
        assert requests_of(site) == {"lists": 1, "items": 5}
        for indexed, items in ((True, 1), (False, 6)):
            site.indexed = indexed
            for window, count in ((Window(newest + SECOND), 0), (Window(newest - 79 * SECOND), 80)):
                assert len(list(connector.list_documents(window))) == count
                assert requests_of(site) == {"lists": 1, "items": items}


# The simulated site itself.


@pytest.fixture
def ask(site: SimulatedSharePointApi) -> Callable[..., requests.Response]:
    """Asks the site with a token of an application."""
    connector = connect(site)
    connector.test_connection()
    by_certificate = next(iter(site._tokens))

    def get(path: str, token: str = by_certificate, **how: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json;odata=nometadata"}
        headers |= how.pop("headers", {})
        return requests.get(
            site.own_url + path, headers=headers, timeout=10, verify=str(site.ca_file), params=how
        )

    return get


def test_the_simulated_site_takes_tokens_for_itself_got_with_a_certificate(
    site: SimulatedSharePointApi, ask: Callable[..., requests.Response]
) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": site.client_id,
        "client_secret": site.client_secret,
        "scope": f"{site.url('site')}/.default",
    }
    url = f"{site.url('login')}/{site.tenant_id}/oauth2/v2.0/token"
    by_secret = requests.post(url, data=form, timeout=10, verify=str(site.ca_file)).json()["access_token"]
    refused = ask("/_api/web/lists", by_secret)
    assert (refused.status_code, refused.text) == (401, "Unsupported app only token.")
    connect(site, api="graph", graph_url=site.url(), site_url=site.site_url).test_connection()
    *_, for_graph = site._tokens
    assert ask("/_api/web/lists", for_graph).status_code == 401
    assert ask("/_api/web/lists", "?").status_code == 401
    assert ask("/_api/web/lists").status_code == 200


def test_the_simulated_site_is_strict(
    site: SimulatedSharePointApi, ask: Callable[..., requests.Response]
) -> None:
    documents = fill(site, 120)
    (library,) = site.libraries.values()
    items = f"/_api/web/lists(guid'{site.unique_id(library.id)}')/items"
    page = ask(items).json()
    assert (len(page["value"]), "$skiptoken" in unquote(page["odata.nextLink"])) == (100, True)
    verbose = ask(items, headers={"Accept": "application/json;odata=verbose"}).json()["d"]
    assert (len(verbose["results"]), "__next" in verbose) == (100, True)
    assert "xml" in ask(items, headers={"Accept": "*/*"}).headers["Content-Type"]
    assert len(ask(items, **{"$top": "5000"}).json()["value"]) == 120
    assert "SPQueryThrottledException" in ask(items, **{"$top": "5001"}).text
    for wrong in (
        {"$top": "0"},
        {"$skip": "5"},
        {"$skiptoken": "5"},
        {"$select": "Size"},
        {"$select": "File/Length"},
        {"$select": "File/Size", "$expand": "File"},
        {"$expand": "Folder"},
        {"$filter": "Size eq 5"},
        {"$filter": "Modified ge '2026-01-01'"},
        {"$filter": "Modified ge datetime'2026-01-01T00:00:00'"},
    ):
        assert ask(items, **wrong).status_code == 400, wrong
    assert ask(f"/_api/web/lists(guid'{WRONG}')/items").status_code == 404
    assert ask(f"/_api/web/GetFileById('{WRONG}')/$value").status_code == 404
    file = f"/_api/web/GetFileById('{site.unique_id(documents[0].id)}')"
    assert ask(f"{file}/$value").content == documents[0].content
    assert ask(file, **{"$select": "Length"}).json() == {"Length": "9"}
    assert (
        ask("/_api/web/GetFolderByServerRelativePath(decodedurl=@path)", **{"@path": "a"}).status_code == 400
    )
