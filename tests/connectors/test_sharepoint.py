"""The SharePoint connector against a simulated site over real connections."""

from __future__ import annotations

import base64
import io
import random
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors import get_connector, http, sharepoint, sharepoint_login
from connectors.base import (
    ConfigurationError,
    ConnectorError,
    DownloadFailed,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
)
from connectors.quickxorhash import QuickXorHash
from connectors.sharepoint import SharePoint
from sandbox.sharepoint import SimulatedSharePoint
from sandbox.simulated import Answer, Document, Request, route

NOON = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=5)
"""Of late: Graph remembers changes for some weeks."""
SECOND = timedelta(seconds=1)
WAYS = ["secret", "key and thumbprint", "key and certificate", "key file"]


@pytest.fixture
def site() -> Iterator[SimulatedSharePoint]:
    with SimulatedSharePoint() as system:
        yield system


@pytest.fixture(autouse=True)
def short_pauses_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sharepoint, "ITEMS_PER_PAGE", 5)


def connect(site: SimulatedSharePoint, **settings: Any) -> SharePoint:
    given = {
        "site_url": site.site_url,
        "tenant_id": site.tenant_id,
        "client_id": site.client_id,
        "client_secret": site.client_secret,
        "authority_url": site.url("login"),
        "graph_url": site.url(),
        "ca_file": str(site.ca_file),
    } | settings
    connector = get_connector(
        "sharepoint", {name: value for name, value in given.items() if value is not None}
    )
    assert isinstance(connector, SharePoint)
    return connector


def fill(site: SimulatedSharePoint, count: int, **fields: Any) -> list[Document]:
    """Documents a second apart, the first one the oldest."""
    return [
        site.add(f"{number}.txt", f"content {number}".encode(), modified_at=NOON + number * SECOND, **fields)
        for number in range(count)
    ]


def names(connector: SharePoint, window: Window | None = None) -> list[str]:
    return sorted(document.filename for document in connector.list_documents(window))


def content(connector: SharePoint, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def secrets_of(site: SimulatedSharePoint) -> list[str]:
    made = vars(site).get("_key")  # it takes a while to make, and most tests need none
    key = site.private_key.splitlines()[1:-1] if made else []
    return [site.client_secret, *key, *site._tokens]


def requests_of(site: SimulatedSharePoint) -> dict[str, int]:
    """By route, since this was last asked; without those for a token."""
    counted = {name: count for name, count in site.requests.items() if name not in ("discovery", "token")}
    site.forget_requests()
    return counted


# The hash.


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("Sg==", "SgAAAAAAAAAAAAAAAQAAAAAAAAA="),
        ("tbQ=", "taAFAAAAAAAAAAAAAgAAAAAAAAA="),
        ("jRRDVA==", "jaDAEKgAAAAAAAAABAAAAAAAAAA="),
        ("luBZlaT6", "lgBHFipBCn0AAAAABgAAAAAAAAA="),
        ("aGVsbG8gd29ybGQ=", "aCgDG9jwBhDc4Q1yawMZAAAAAAA="),
    ],
)
def test_quickxorhash_of_known_data(data: str, expected: str) -> None:
    assert QuickXorHash(base64.b64decode(data)).base64() == expected


@pytest.mark.parametrize("size", [159, 160, 161, 320, 1_000, 70_001])
def test_quickxorhash_byte_by_byte_and_in_pieces(size: int) -> None:
    chance = random.Random(size)  # noqa: S311
    data = chance.randbytes(size)
    slow = size << 96
    for number, byte in enumerate(data):
        wide = byte << 11 * number % 160
        slow ^= (wide >> 160) ^ (wide % (1 << 160))
    assert QuickXorHash(data).digest() == slow.to_bytes(20, "little")
    pieces = QuickXorHash()
    rest = data
    while rest:
        cut = chance.randrange(1, 700)
        pieces.update(rest[:cut])
        rest = rest[cut:]
    assert pieces.digest() == slow.to_bytes(20, "little")


# Settings.


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"site_url": "http://city.sharepoint.com/sites/permits"}, "https://"),
        ({"site_url": "https://user:password@city.sharepoint.com"}, "site_url"),
        ({"authority_url": "http://127.0.0.1:1"}, "authority_url"),
        ({"graph_url": "http://127.0.0.1:1"}, "graph_url"),
        ({"tenant_id": "common"}, "one tenant"),
        ({"tenant_id": "a/../b"}, "one tenant"),
        ({"client_id": "citysort"}, "application"),
        ({"client_secret": None}, "either client_secret or certificate"),
        ({"certificate": "x"}, "either client_secret or certificate"),
        ({"thumbprint": "abc"}, "40 hex digits"),
        ({"folder": "a/../b"}, "path of a folder"),
        ({"folder": "a//b"}, "path of a folder"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_settings_that_cannot_work(site: SimulatedSharePoint, settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        connect(site, **settings)
    assert not any(secret in str(caught.value) for secret in secrets_of(site))


def test_secrets_are_not_shown(site: SimulatedSharePoint) -> None:
    for connector in (connect(site), connect(site, client_secret=None, certificate=site.private_key)):
        assert not any(secret in repr(connector) + str(connector) for secret in secrets_of(site))
    schema = SharePoint.model_json_schema()["properties"]
    assert {name for name, field in schema.items() if field.get("writeOnly")} == {
        "client_secret",
        "certificate",
    }


# The connection.


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_sign_in(site: SimulatedSharePoint, way: str, tmp_path: Path) -> None:
    (document,) = fill(site, 1)
    key = tmp_path / "key.pem"
    key.write_text(site.private_key)
    colons = ":".join(site.thumbprint[at : at + 2] for at in range(0, 40, 2)).lower()
    settings = {
        "secret": {},
        "key and thumbprint": {"certificate": site.private_key, "thumbprint": colons},
        "key and certificate": {"certificate": site.private_key + site.certificate},
        "key file": {"certificate": str(key), "thumbprint": site.thumbprint},
    }[way]
    connector = connect(site, **({"client_secret": None} if settings else {}), **settings)
    ok, message = connector.test_connection()
    assert (ok, f"lists Documents of {site.site_url}" in message) == (True, True)
    (listed,) = connector.list_documents()
    assert content(connector, listed) == b"content 0"
    assert listed.external_id.endswith(f"/{document.id}")
    assert site.requests["token"] == 1
    connector.close()


WRONG = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"client_secret": "wrong"}, "enter the value of the secret, not its id"),
        ({"client_id": WRONG}, "check client_id and tenant_id"),
        ({"tenant_id": WRONG}, "check tenant_id"),
        ({"site_url": "https://city.sharepoint.com/sites/permit"}, "has no site"),
        ({"site_url": "https://city.sharepoint.com"}, "has no site"),
        ({"site_url": "https://town.sharepoint.com/sites/permits"}, "not take .* for a site of this tenant"),
        ({"library_name": "Dokuments"}, "no document library Dokuments; there are: Documents"),
        ({"folder": "2025/March"}, "no folder 2025/March in Documents"),
        ({"graph_url": "https://127.0.0.1:1"}, "check graph_url and authority_url"),
        ({"authority_url": "https://127.0.0.1:1"}, "cannot be reached: check authority_url"),
        ({"ca_file": None}, "no certificate that this machine trusts"),
        ({"ca_file": "/nowhere.pem"}, "there is no file"),
    ],
)
def test_connections_that_do_not_work(site: SimulatedSharePoint, settings: dict[str, Any], what: str) -> None:
    fill(site, 1)
    connector = connect(site, **settings)
    with pytest.raises((ConfigurationError, ListingIncomplete), match=what) as caught:
        list(connector.list_documents())
    ok, message = connector.test_connection()
    assert (ok, message) == (False, str(caught.value).removeprefix("the listing broke off: "))
    assert not any(secret in message for secret in [*secrets_of(site), "wrong"])


def test_a_key_of_another_kind(site: SimulatedSharePoint) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    found = connect(site, client_secret=None, certificate=text, thumbprint="A" * 40).test_connection()
    assert (found.ok, "no RSA key" in found.message) == (False, True)
    assert site.requests == {}


@pytest.mark.parametrize(
    ("certificate", "what"),
    [
        ("/nowhere.pem", "neither a key in PEM nor a file"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key in PEM"),
        ("{key}", "thumbprint is needed"),
        ("{certificate}", "no private key in PEM"),
        ("{key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "cannot be read"),
    ],
)
def test_certificates_that_are_none(site: SimulatedSharePoint, certificate: str, what: str) -> None:
    text = certificate.format(key=site.private_key, certificate=site.certificate)
    ok, message = connect(site, client_secret=None, certificate=text).test_connection()
    assert (ok, what in message) == (False, True)
    assert not any(secret in message for secret in secrets_of(site))
    assert site.requests == {}


def test_certificates_that_are_others(site: SimulatedSharePoint) -> None:
    with SimulatedSharePoint() as other:
        mixed = connect(site, client_secret=None, certificate=other.private_key, thumbprint=site.thumbprint)
        assert "does not accept the certificate" in mixed.test_connection().message
        foreign = connect(site, client_secret=None, certificate=other.private_key + other.certificate)
        assert "does not accept the certificate" in foreign.test_connection().message
        both = site.private_key + site.certificate
        wrong = connect(site, client_secret=None, certificate=both, thumbprint=other.thumbprint)
        assert "thumbprint is not that of the certificate" in wrong.test_connection().message


def test_what_an_administrator_has_not_done(site: SimulatedSharePoint) -> None:
    fill(site, 1)
    connector = connect(site)
    site.granted = False
    assert "Sites.Selected" in connector.test_connection().message
    with pytest.raises(ConfigurationError, match=r"Sites\.Selected"):
        list(connector.list_documents())
    site.granted, site.locked = True, True
    assert "is locked" in connector.test_connection().message
    site.locked, site.secret_expired = False, True
    assert "has expired" in connect(site).test_connection().message
    assert connector.test_connection().ok  # its token still lives


def test_wrong_credentials_are_tried_once(site: SimulatedSharePoint) -> None:
    connect(site, client_secret="wrong").test_connection()
    assert site.requests == {"discovery": 1, "token": 1}


def test_a_token_for_something_else(site: SimulatedSharePoint) -> None:
    class Elsewhere(SimulatedSharePoint):
        def authenticate(self, request: Request) -> Answer | None:
            self._tokens = {
                token: ("https://city.sharepoint.com", end) for token, (_, end) in self._tokens.items()
            }
            return super().authenticate(request)

    with Elsewhere() as elsewhere:
        assert "does not accept the token" in connect(elsewhere).test_connection().message
        assert elsewhere.requests["drives"] == 2


def test_a_login_host_that_is_none(site: SimulatedSharePoint) -> None:
    class Odd(SimulatedSharePoint):
        @route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", host="login", public=True)
        def discovery(self, request: Request, tenant: str) -> Answer:
            return Answer.json({"hello": "world"})

    with Odd() as odd:
        assert "not as a login host does" in connect(odd).test_connection().message


@pytest.mark.parametrize("code", [*sharepoint_login.LOGIN_ERRORS, 90072])
def test_refusals_of_the_login_host(code: int) -> None:
    class Refusing(SimulatedSharePoint):
        @route("POST", "/{tenant}/oauth2/v2.0/token", host="login", public=True)
        def token(self, request: Request, tenant: str) -> Answer:
            secret = request.form()["client_secret"]
            body = {"error": "invalid_client", "error_description": f"AADSTS{code}: {secret}"}
            return Answer.json(body, 400)

    with Refusing() as refusing:
        ok, message = connect(refusing).test_connection()
        assert (ok, message.startswith("Microsoft Entra (127.0.0.1) ")) == (False, True)
        assert ("AADSTS90072" in message) == (code == 90072)
        assert not any(secret in message for secret in [*secrets_of(refusing), "{"])


def test_the_secret_goes_to_the_configured_login_host_only(site: SimulatedSharePoint) -> None:
    class Elsewhere(SimulatedSharePoint):
        @route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", host="login", public=True)
        def discovery(self, request: Request, tenant: str) -> Answer:
            answer = super().discovery(request, tenant)
            answer.body = answer.body.replace(self.url("login").encode(), self.url("media").encode())
            return answer

    with Elsewhere() as elsewhere:
        ok, message = connect(elsewhere).test_connection()
        assert (ok, "names an address on another host" in message) == (False, True)
        assert elsewhere.requests == {"discovery": 1}


@pytest.mark.parametrize(
    ("kind", "what"),
    [("login_page", "login page"), ("fail", "out of order"), ("throttle", "no more requests")],
)
@pytest.mark.parametrize("route_name", ["token", "drives"])
def test_a_site_in_trouble(site: SimulatedSharePoint, kind: Any, what: str, route_name: str) -> None:
    site.misbehave(kind, route=route_name, times=9, seconds=100)
    assert what in connect(site).test_connection().message


# The listing.


def test_everything_is_listed(site: SimulatedSharePoint) -> None:
    documents = fill(site, 23, folder="2026/March")
    listed = {document.external_id: document for document in connect(site).list_documents()}
    (library,) = site.libraries.values()
    assert list(listed) == [f"{library.id}/{document.id}" for document in documents]
    last = documents[-1]
    digest = QuickXorHash(last.content).base64()
    assert listed[f"{library.id}/{last.id}"] == ExternalDocument(
        external_id=f"{library.id}/{last.id}",
        version=digest,
        filename="22.txt",
        modified_at=NOON + 22 * SECOND,
        size=len(last.content),
        content_type="text/plain",
        source_url=f"{site.site_url}/Shared%20Documents/2026/March/22.txt",
        metadata={
            "library": "Documents",
            "folder": "2026/March",
            "quick_xor_hash": digest,
            "created_at": f"{NOON + 22 * SECOND:%Y-%m-%dT%H:%M:%SZ}",
        },
    )


def test_a_second_listing_is_the_same(site: SimulatedSharePoint) -> None:
    fill(site, 12)
    connector = connect(site)
    assert list(connector.list_documents()) == list(connector.list_documents())


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
@pytest.mark.parametrize("days_ago", [0, 45, 400])
def test_windows(
    site: SimulatedSharePoint, start: float | None, end: float | None, expected: range, days_ago: int
) -> None:
    """Whether Graph remembers the changes or not."""
    noon = NOON - timedelta(days=days_ago)
    for number in range(10):
        site.add(f"{number}.txt", b"", modified_at=noon + number * SECOND)
    window = Window(
        None if start is None else noon + start * SECOND, None if end is None else noon + end * SECOND
    )
    assert names(connect(site), window) == [f"{number}.txt" for number in expected]


def test_windows_in_another_zone_mean_the_same(site: SimulatedSharePoint) -> None:
    fill(site, 10)
    zone = timezone(timedelta(hours=-7))
    window = Window((NOON + 3 * SECOND).astimezone(zone), (NOON + 5 * SECOND).astimezone(zone))
    assert names(connect(site), window) == ["3.txt", "4.txt"]


@pytest.mark.parametrize("day", [datetime(2026, 3, 8), datetime(2026, 11, 1)])  # noqa: DTZ001 - a date
def test_days_on_which_clocks_change(site: SimulatedSharePoint, day: datetime) -> None:
    zone = ZoneInfo("America/Chicago")
    start = day.replace(tzinfo=zone).astimezone(timezone.utc)
    end = (day + timedelta(days=1)).replace(tzinfo=zone).astimezone(timezone.utc)
    hours = int((end - start).total_seconds() // 3600)
    assert hours in (23, 25)
    for hour in range(-2, 28):
        site.add(f"{hour:02}", b"x", modified_at=start + timedelta(hours=hour))
    assert names(connect(site), Window(start, end)) == [f"{hour:02}" for hour in range(hours)]


def test_an_empty_day(site: SimulatedSharePoint) -> None:
    fill(site, 8)
    day = Window(NOON + timedelta(days=1), NOON + timedelta(days=2))
    assert names(connect(site), day) == []
    assert site.requests == {"discovery": 1, "token": 1, "drives": 1, "delta": 1}


@pytest.mark.parametrize("seed", range(6))
def test_any_distribution_over_pages(site: SimulatedSharePoint, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    for number in range(40):
        moment = NOON + chance.randrange(12) * SECOND
        site.add(f"{number}", b"", modified_at=moment, folder=chance.choice(["", "a", "a/b", "c"]))
    for id in chance.sample(sorted(site.documents), 8):
        site.remove(id)
    start, end = sorted(chance.sample(range(13), 2))
    window = Window(NOON + start * SECOND, NOON + end * SECOND)
    expected = sorted(one.name for one in site.documents.values() if window.includes(one.modified_at))
    assert names(connect(site), window) == expected


def test_changes_that_are_forgotten(site: SimulatedSharePoint) -> None:
    """The time may lie too far back, and a listing may be told in its middle to start over."""
    fill(site, 12)
    site.misbehave("change", route="delta", spare=1, then=site.forget_changes)
    connector = connect(site)
    assert names(connector, Window(NOON + SECOND)) == sorted(f"{n}.txt" for n in range(1, 12))
    (refused,) = [number for number, one in enumerate(site.log) if one.status == 410]
    assert site.log[refused + 1].request.query == {}  # the link is followed as it is


def test_beginning_anew_forgets_what_came_before(site: SimulatedSharePoint) -> None:
    documents = fill(site, 12)

    def change() -> None:
        site.remove(documents[0].id)
        site.forget_changes()

    site.misbehave("change", route="delta", spare=1, then=change)
    assert names(connect(site)) == sorted(f"{n}.txt" for n in range(1, 12))


def test_removed_items_are_no_documents(site: SimulatedSharePoint) -> None:
    class Telling(SimulatedSharePoint):
        def item(self, id: str) -> dict[str, Any]:
            row = super().item(id)
            return row | ({"name": "gone", "file": {}} if "deleted" in row else {})

    with Telling() as telling:
        documents = fill(telling, 3)
        telling.remove(documents[1].id)
        assert names(connect(telling), Window(NOON)) == ["0.txt", "2.txt"]


def test_a_time_that_lies_too_far_back(site: SimulatedSharePoint, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(site, 12)
    monkeypatch.setattr(sharepoint, "LONGEST_LOOK_BACK", timedelta(days=999))
    assert names(connect(site), Window(NOON - timedelta(days=90))) == names(connect(site))
    assert [one.status for one in site.log].count(410) == 1


def test_a_site_that_takes_no_times(site: SimulatedSharePoint) -> None:
    class Timeless(SimulatedSharePoint):
        @route("GET", "/v1.0/drives/{drive}/root/delta")
        @route("GET", "/v1.0/drives/{drive}/root/delta(token='{link}')")
        def delta(self, request: Request, drive: str, item: str = "", link: str = "") -> Answer:
            if "token" in request.query:
                return self.problem(400, "The token is malformed")
            return super().delta(request, drive, item, link)

    with Timeless() as timeless:
        fill(timeless, 8)
        assert names(connect(timeless), Window(NOON + 6 * SECOND)) == ["6.txt", "7.txt"]


def test_what_changes_between_two_pages(site: SimulatedSharePoint) -> None:
    """An item that comes again counts as it came last."""
    documents = fill(site, 20)

    def change() -> None:
        site.add("new.txt", b"new")
        site.replace(documents[1].id, b"changed")
        site.remove(documents[18].id)

    site.misbehave("change", route="delta", spare=1, then=change)
    connector = connect(site)
    listed = {document.filename: document for document in connector.list_documents()}
    assert sorted(listed) == sorted(["new.txt", *(f"{n}.txt" for n in range(20) if n != 18)])
    assert content(connector, listed["1.txt"]) == b"changed"


def test_a_listing_that_begins_anew_for_ever(site: SimulatedSharePoint) -> None:
    class Forgetful(SimulatedSharePoint):
        def _page(self, *arguments: Any) -> Answer:
            answer = super()._page(*arguments)
            self.forget_changes()
            return answer

        def _resync(self, *arguments: Any) -> Answer:
            self.forget_changes()
            answer = super()._resync(*arguments)
            self.forget_changes()
            return answer

    with Forgetful() as forgetful:
        fill(forgetful, 12)
        with pytest.raises((ConfigurationError, ListingIncomplete)):
            names(connect(forgetful))
        assert forgetful.requests["delta"] == 1 + sharepoint.MOST_STARTS


def test_an_item_that_is_removed_during_the_listing(site: SimulatedSharePoint) -> None:
    documents = fill(site, 20)
    site.misbehave("change", route="delta", spare=2, then=lambda: site.remove(documents[0].id))
    assert "0.txt" not in names(connect(site))


def test_a_page_without_an_end(site: SimulatedSharePoint) -> None:
    class Cut(SimulatedSharePoint):
        def _page(self, *arguments: Any) -> Answer:
            answer = super()._page(*arguments)
            answer.body = answer.body.replace(b"@odata.deltaLink", b"@odata.link")
            return answer

    with Cut() as cut:
        fill(cut, 3)
        with pytest.raises(ListingIncomplete, match="neither last nor not"):
            names(connect(cut))


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (b'"value"', b'"values"', "no list 'value'"),
        (b'"id"', b'"ident"', "items without an id"),
        (b'"lastModifiedDateTime": "2', b'"lastModifiedDateTime": "x', "no real date"),
    ],
)
def test_answers_of_another_shape(before: bytes, after: bytes, what: str) -> None:
    class Odd(SimulatedSharePoint):
        def _page(self, *arguments: Any) -> Answer:
            answer = super()._page(*arguments)
            answer.body = answer.body.replace(before, after)
            return answer

    with Odd() as odd:
        fill(odd, 3)
        with pytest.raises(ConfigurationError, match=what):
            names(connect(odd))


@pytest.mark.parametrize("where", ["https://attacker.example", "media"])
def test_beginning_anew_somewhere_else_is_not_followed(site: SimulatedSharePoint, where: str) -> None:
    class Leading(SimulatedSharePoint):
        def _resync(self, *arguments: Any) -> Answer:
            answer = super()._resync(*arguments)
            answer.headers["Location"] = (self.url("media") if where == "media" else where) + "/delta"
            return answer

    with Leading() as leading:
        fill(leading, 9)
        leading.misbehave("change", route="delta", spare=1, then=leading.forget_changes)
        with pytest.raises(ListingIncomplete, match="another host"):
            names(connect(leading))
        assert leading.leaks == []


@pytest.mark.parametrize("where", ["https://attacker.example", "media"])
def test_links_to_other_hosts_are_not_followed(site: SimulatedSharePoint, where: str) -> None:
    class Leading(SimulatedSharePoint):
        def _page(self, *arguments: Any) -> Answer:
            answer = super()._page(*arguments)
            other = self.url("media") if where == "media" else where
            answer.body = answer.body.replace(self.url().encode(), other.encode())
            return answer

    with Leading() as leading:
        fill(leading, 9)
        with pytest.raises(ListingIncomplete, match="another host"):
            names(connect(leading))
        assert leading.leaks == []


# Libraries and folders.


@pytest.fixture
def libraries(site: SimulatedSharePoint) -> SimulatedSharePoint:
    site.add_library("Planning & Zoning", "PZ")
    site.add_library("PZ", "Other")
    site.add("a.txt", b"a", folder="2026/March")
    site.add("b.txt", b"b", folder="2026/March/Old", library="Planning & Zoning")
    site.add("c.txt", b"c", folder="2026/Marchand", library="PZ")
    site.add("d.txt", b"d")
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
        ({"library_name": ["Documents", "PZ"]}, "acd"),
        ({"library_name": ["Documents", "documents", "Shared Documents"]}, "ad"),
        ({"folder": "2026/March"}, "ab"),
        ({"folder": "/2026/"}, "abc"),
        ({"folder": "2026/march", "library_name": "Documents"}, "a"),
    ],
)
@pytest.mark.parametrize("window", [None, Window(NOON)])
def test_libraries_and_folders(
    libraries: SimulatedSharePoint, settings: dict[str, Any], expected: str, window: Window | None
) -> None:
    connector = connect(libraries, **settings)
    assert connector.test_connection().ok
    assert names(connector, window) == [f"{one}.txt" for one in expected]


@pytest.mark.parametrize("path", ["", "/sites/permits/archive", "/teams/Permit%20Office", "/sites/%C3%9Cber"])
def test_sites_of_any_address(site: SimulatedSharePoint, path: str) -> None:
    site.site_url = f"https://city.sharepoint.com{path}"
    fill(site, 1)
    for url in (site.site_url, site.site_url + "/"):
        assert names(connect(site, site_url=url)) == ["0.txt"]
    with pytest.raises(ConfigurationError, match="has no site"):
        names(connect(site, site_url=f"{site.site_url}/other"))


def test_a_folder_that_is_a_file(libraries: SimulatedSharePoint) -> None:
    with pytest.raises(ConfigurationError, match=r"no folder d\.txt"):
        names(connect(libraries, folder="d.txt"))


def test_folders_of_any_name(site: SimulatedSharePoint) -> None:
    for name in ("100% #1", "a'b", "Ünïcode & more", "x+y=z"):
        site.add("in.txt", b"in", folder=name)
        (listed,) = connect(site, folder=name).list_documents()
        assert content(connect(site), listed) == b"in"


def test_the_folder_is_known_in_a_listing_of_changes(site: SimulatedSharePoint) -> None:
    site.add_folder("2026/March")
    fill(site, 3, folder="2026/March")
    (listed,) = connect(site).list_documents(Window(NOON + 2 * SECOND))
    assert listed.metadata["folder"] == "2026/March"


# The documents.


def test_what_is_no_file(site: SimulatedSharePoint) -> None:
    site.add("notes", b"", package=True, modified_at=NOON)
    site.add("virus.exe", b"x", malware=True, modified_at=NOON)
    fill(site, 1, folder="empty folders/are/none")
    listed = {document.filename: document for document in connect(site).list_documents()}
    assert sorted(listed) == ["0.txt", "notes", "virus.exe"]
    for name, reason in (("notes", "OneNote"), ("virus.exe", "malware")):
        hindrance = listed[name].not_imported
        assert hindrance is not None
        assert (hindrance.refused, reason in hindrance.reason) == (True, True)
    assert listed["0.txt"].not_imported is None


def test_malware_that_is_found_after_the_listing(site: SimulatedSharePoint) -> None:
    (document,) = fill(site, 1)
    connector = connect(site)
    (listed,) = connector.list_documents()
    document.fields["malware"] = True
    with pytest.raises(DownloadRefused, match="malware"):
        content(connector, listed)


def test_a_replaced_document_has_a_new_version(site: SimulatedSharePoint) -> None:
    (document,) = fill(site, 1)
    connector = connect(site)
    (before,) = connector.list_documents()
    site.replace(document.id, b"replaced!")
    (after,) = connector.list_documents()
    assert before.external_id == after.external_id
    assert before.version != after.version
    assert content(connector, after) == b"replaced!"
    with pytest.raises(DownloadFailed, match="quickXorHash"):
        content(connector, before)


def test_a_file_without_a_hash(site: SimulatedSharePoint) -> None:
    (document,) = fill(site, 1, hash=False)
    connector = connect(site)
    (before,) = connector.list_documents()
    row = site.item(document.id)
    assert before.version == f"{row['eTag']} 9 {row['lastModifiedDateTime']}"
    assert content(connector, before) == b"content 0"
    site.replace(document.id, b"content 1")
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        content(connector, before)
    (after,) = connector.list_documents()
    assert content(connector, after) == b"content 1"


def test_office_files_that_are_not_as_stated(site: SimulatedSharePoint) -> None:
    """SharePoint writes its columns into them: neither size nor hash are of the bytes that come."""
    document = site.add("permit.docx", b"permit", promoted=True)
    site.add("plan.pdf", b"plan", promoted=True)
    connector = connect(site)
    office, other = connector.list_documents()
    assert (office.size, other.size) == (None, 4)
    assert content(connector, office) == b"permit<columns/>"
    with pytest.raises(DownloadFailed):
        content(connector, other)
    site.replace(document.id, b"changed")
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        content(connector, office)


def test_an_office_file_that_ends_too_early_fails(site: SimulatedSharePoint) -> None:
    """SharePoint has been seen to send a part as if it were all, and states no size of what it sends."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as package:
        package.writestr("word/document.xml", random.Random(1).randbytes(200_000))  # noqa: S311
    site.add("whole.docx", whole.getvalue(), promoted=True)
    site.add("half.docx", whole.getvalue(), promoted=True, ends_early=True)
    site.add("half there.docx", whole.getvalue()[:1000], hash=False)
    connector = connect(site)
    complete, half, no_more = connector.list_documents()
    assert content(connector, complete) == whole.getvalue() + b"<columns/>"
    assert content(connector, no_more) == whole.getvalue()[:1000]
    with pytest.raises(DownloadFailed, match="ends too early"):
        content(connector, half)


HELL = [
    "../../etc/passwd",
    "..",
    "con.txt",
    " leading and trailing ",
    "e\u0301.txt",
    "\u00e9.txt",
    "\U0001f4c4\u202etxt.exe",
    "x" * 300 + ".pdf",
    "100%25 ^ & = ? #.txt",
    "<script>.html",
    "'; DROP TABLE documents; --",
    "tab\tnewline\n.txt",
    "",
]


def test_names_from_hell(site: SimulatedSharePoint) -> None:
    for number, name in enumerate(HELL):
        site.add(name, name.encode(), modified_at=NOON + number * SECOND)
    connector = connect(site)
    listed = list(connector.list_documents())
    assert [document.filename for document in listed[:-1]] == HELL[:-1]
    assert listed[-1].external_id.endswith(listed[-1].filename)  # it has no name of its own
    assert [content(connector, document).decode() for document in listed] == HELL


@pytest.mark.parametrize("size", [0, 1, 30_000_000])
def test_sizes(site: SimulatedSharePoint, size: int) -> None:
    site.add("plan.bin", bytes(size))
    connector = connect(site)
    (listed,) = connector.list_documents()
    written: list[int] = []

    class Counting(io.BytesIO):
        def write(self, data: Any) -> int:
            written.append(len(data))
            return len(data)

    assert download_verified(connector, listed, Counting()).size == size == sum(written)
    assert max(written, default=0) <= http.PIECE_BYTES


def test_a_download_that_breaks_off_goes_on(site: SimulatedSharePoint) -> None:
    document = site.add("plan.bin", random.Random(1).randbytes(6_000_000))  # noqa: S311
    connector = connect(site)
    (listed,) = connector.list_documents()
    site.misbehave("truncate", route="media", at_byte=5_000_000)
    assert content(connector, listed) == document.content
    last = [one for one in site.log if one.route == "media"][-1]
    assert "range" in last.request.headers
    assert not any("range" in one.request.headers for one in site.log if one.route == "content")


def test_a_download_that_may_not_go_on(site: SimulatedSharePoint) -> None:
    """What has been written cannot be taken back, so it is not begun anew."""
    site.add("plan.bin", random.Random(1).randbytes(6_000_000))  # noqa: S311
    connector = connect(site)
    (listed,) = connector.list_documents()
    site.misbehave("truncate", route="media", at_byte=5_000_000)
    site.misbehave("fail", route="media", spare=1, status=403)
    with pytest.raises(DownloadFailed, match="status 403"):
        content(connector, listed)


def test_html_documents_are_no_login_pages(site: SimulatedSharePoint) -> None:
    site.add("form.html", b"<!doctype html>", content_type="text/html")
    connector = connect(site)
    (listed,) = connector.list_documents()
    assert content(connector, listed) == b"<!doctype html>"


@pytest.mark.parametrize("name", ["notice.html", "notice.htm", "Home.aspx", "permit.pdf"])
@pytest.mark.parametrize("route_name", ["content", "media"])
def test_login_pages_are_no_html_documents(site: SimulatedSharePoint, route_name: str, name: str) -> None:
    site.add(name, b"<p>The hearing is on Monday</p>")
    connector = connect(site)
    (listed,) = connector.list_documents()
    site.misbehave("login_page", route=route_name)
    with pytest.raises(DownloadFailed, match="login page"):
        content(connector, listed)
    assert content(connector, listed) == b"<p>The hearing is on Monday</p>"


def test_a_document_that_is_gone_fails_alone(site: SimulatedSharePoint) -> None:
    documents = fill(site, 2)
    connector = connect(site)
    first, second = connector.list_documents()
    site.remove(documents[0].id)
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        content(connector, first)
    assert content(connector, second) == b"content 1"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_address_that_has_expired_is_asked_for_again(site: SimulatedSharePoint, status: int) -> None:
    fill(site, 1)
    connector = connect(site)
    (listed,) = connector.list_documents()
    site.misbehave("fail", route="media", status=status)
    assert content(connector, listed) == b"content 0"
    assert (site.requests["content"], site.requests["media"]) == (2, 2)
    site.misbehave("fail", route="media", status=status, times=2)
    with pytest.raises(DownloadFailed):
        content(connector, listed)


def test_credentials_stay_at_home(site: SimulatedSharePoint) -> None:
    fill(site, 5)
    connector = connect(site)
    for document in connector.list_documents():
        content(connector, document)
    assert (site.requests["media"], site.leaks) == (5, [])
    for one in site.log:
        assert ("authorization" in one.request.headers) == (one.request.host == "api")


# Misbehaviour.

RECOVERABLE: list[tuple[str, dict[str, Any]]] = [
    ("throttle", {"retry_after": "seconds", "seconds": 0.2}),
    ("throttle", {"retry_after": "date", "seconds": 0.1}),
    ("throttle", {"retry_after": "none", "times": 3}),
    ("throttle", {"retry_after": "seconds", "seconds": 0.2, "status": 503}),
    ("fail", {"times": 2}),
    ("fail", {"status": 502}),
    ("reset", {}),
    ("reset", {"at_byte": 3}),
    ("truncate", {"times": 2}),
    ("expire_tokens", {}),
]


@pytest.mark.parametrize(("kind", "how"), RECOVERABLE)
def test_trouble_that_passes_is_not_noticed(
    site: SimulatedSharePoint, kind: Any, how: dict[str, Any]
) -> None:
    documents = fill(site, 12)
    connector = connect(site)
    site.misbehave(kind, route="delta", spare=1, **how)
    listed = list(connector.list_documents())
    assert [document.filename for document in listed] == [document.name for document in documents]
    site.misbehave(kind, route="content", spare=5, **how)
    site.misbehave(kind, route="media", spare=3, **how)
    with ThreadPoolExecutor(connector.concurrency) as pool:
        found = list(pool.map(lambda document: content(connector, document), listed))
    assert found == [document.content for document in documents]
    assert site.most_in_flight <= connector.concurrency
    assert site.leaks == []


@pytest.mark.parametrize(("kind", "how"), RECOVERABLE[:-1])
def test_trouble_at_the_login_host_passes(site: SimulatedSharePoint, kind: Any, how: dict[str, Any]) -> None:
    fill(site, 2)
    if kind == "fail" and "status" not in how:
        how = how | {"status": 503}  # a POST that failed with 500 is not repeated
    site.misbehave(kind, route="token", **how)
    assert names(connect(site)) == ["0.txt", "1.txt"]
    assert site.too_early == 0


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("fail", {"times": 99, "status": 503}),
        ("fail", {"status": 403}),
        ("fail", {"status": 401, "times": 2}),
        ("login_page", {}),
        ("corrupt", {"times": 99}),
        ("reset", {"times": 99}),
        ("repeat_token", {}),
        ("throttle", {"seconds": 100_000}),
    ],
)
def test_a_listing_that_breaks_off_says_so(site: SimulatedSharePoint, kind: Any, how: dict[str, Any]) -> None:
    fill(site, 20)
    connector = connect(site)
    site.misbehave(kind, route="delta", spare=2, **how)
    listed = []
    with pytest.raises(ListingIncomplete, match="broke off") as caught:
        for document in connector.list_documents():
            listed.append(document.filename)
    assert 0 < len(listed) < 20
    assert not any(secret in str(caught.value) for secret in secrets_of(site))
    site.behave()
    assert len(names(connect(site))) == 20


def test_pages_without_items_are_gone_past(site: SimulatedSharePoint) -> None:
    fill(site, 20)
    site.misbehave("thin_page", route="delta", times=3)
    assert len(names(connect(site))) == 20


@pytest.mark.parametrize(
    ("route_name", "kind", "how", "what"),
    [
        ("content", "fail", {"times": http.ATTEMPTS, "status": 503}, "try again later"),
        ("content", "fail", {"times": 2, "status": 403}, "refuses access"),
        ("media", "truncate", {"times": http.ATTEMPTS}, "broke off"),
        ("media", "reset", {"times": http.ATTEMPTS}, "cannot be reached"),
        ("media", "corrupt", {}, "quickXorHash"),
        ("media", "login_page", {}, "login page"),
    ],
)
def test_exactly_the_affected_document_fails(
    site: SimulatedSharePoint, route_name: str, kind: Any, how: dict[str, Any], what: str
) -> None:
    fill(site, 6)
    connector = connect(site)
    listed = list(connector.list_documents())
    site.misbehave(kind, route=route_name, spare=2, **how)
    outcomes: list[bytes | ConnectorError] = []
    for document in listed:
        try:
            outcomes.append(content(connector, document))
        except ConnectorError as error:
            outcomes.append(error)
    assert [number for number, one in enumerate(outcomes) if isinstance(one, ConnectorError)] == [2]
    assert isinstance(outcomes[2], DownloadFailed)
    assert what in str(outcomes[2])
    assert not any(secret in str(outcomes[2]) for secret in [*secrets_of(site), *site._links])
    assert content(connector, listed[2]) == b"content 2"


# How many requests it takes.


@pytest.fixture(scope="module")
def crowded() -> Iterator[SimulatedSharePoint]:
    """10,000 files."""
    with SimulatedSharePoint() as system:
        for number in range(10_000):
            system.add(f"{number}", b"%d" % number, modified_at=NOON + number // 4 * SECOND)
        yield system


@pytest.mark.parametrize(
    ("settings", "window", "count", "answers"),
    [
        ({}, Window(NOON + timedelta(days=1)), 0, {"drives": 1, "delta": 1}),
        ({}, Window(NOON + 2_480 * SECOND), 80, {"drives": 1, "delta": 1}),
        ({}, Window(), 10_000, {"drives": 1, "delta": 11}),
    ],
    ids=["nothing new", "little new", "everything"],
)
def test_requests_for_10_000_documents(
    crowded: SimulatedSharePoint,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    window: Window,
    count: int,
    answers: dict[str, int],
) -> None:
    monkeypatch.undo()  # pages as they are
    crowded.forget_requests()
    connector = connect(crowded, **settings)
    assert len({document.external_id for document in connector.list_documents(window)}) == count
    assert crowded.requests == answers | {"discovery": 1, "token": 1}
    assert connector.session().requests_sent == sum(answers.values())


# The simulated site itself.


@pytest.fixture
def asked(site: SimulatedSharePoint) -> Callable[..., requests.Response]:
    form = {
        "grant_type": "client_credentials",
        "client_id": site.client_id,
        "client_secret": site.client_secret,
        "scope": f"{site.url()}/.default",
    }
    token_url = f"{site.url('login')}/{site.tenant_id}/oauth2/v2.0/token"

    def ask(path: str, changed: dict[str, str] | None = None, **how: Any) -> requests.Response:
        how["verify"] = str(site.ca_file)
        answer = requests.post(token_url, data=form | (changed or {}), timeout=10, verify=str(site.ca_file))
        if not answer.ok or not path:
            return answer
        how.setdefault("headers", {"Authorization": f"Bearer {answer.json()['access_token']}"})
        return requests.get(site.url() + path, timeout=10, **how)

    return ask


def test_the_simulated_site_is_strict(
    site: SimulatedSharePoint, asked: Callable[..., requests.Response]
) -> None:
    (document, _) = fill(site, 2)
    (library,) = site.libraries.values()
    delta = f"/v1.0/drives/{library.id}/root/delta"
    assert asked(delta, headers={}).status_code == 401
    assert asked(delta, headers={}).json()["error"]["code"] == "InvalidAuthenticationToken"
    assert asked(delta, {"scope": "https://city.sharepoint.com/.default"}).status_code == 401
    assert asked("", {"scope": "https://graph.example/.default"}).json()["error_codes"] == [500011]
    assert asked("", {"client_secret": "x"}).json()["error_description"].startswith("AADSTS7000215: ")
    assert asked("", {"grant_type": "password"}).status_code == 400
    for wrong in ("?$top=0", "?$top=1001", "?$select=names", "?$skip=1", "?token=2026-13-01", "?token=x"):
        assert asked(delta + wrong).status_code == 400
    assert asked("/v1.0/me").status_code == 404
    body = asked(delta + "?$top=1&$select=name,cTag,parentReference").json()
    assert (body["value"][0]["name"], "@odata.nextLink" in body) == ("root", True)
    assert not any("cTag" in row or "path" in row["parentReference"] for row in body["value"])
    latest = asked(delta + "?token=latest").json()
    assert latest["value"] == []
    site.remove(document.id)
    onward = latest["@odata.deltaLink"].removeprefix(site.url())
    assert [row["deleted"] for row in asked(onward).json()["value"] if "deleted" in row] == [
        {"state": "deleted"}
    ]
    site.forget_changes()
    gone = asked(onward)
    assert (gone.status_code, gone.json()["error"]["innerError"]["code"]) == (
        410,
        "resyncChangesApplyDifferences",
    )
    assert len(asked(gone.headers["Location"].removeprefix(site.url())).json()["value"]) == 2
    media = asked(
        f"/v1.0/drives/{library.id}/items/{next(iter(site.documents))}/content", allow_redirects=False
    )
    headers = {"Authorization": "Bearer x"}
    location = media.headers["Location"]
    assert requests.get(location, headers=headers, timeout=10, verify=str(site.ca_file)).status_code == 400
    assert len(site.leaks) == 1


def test_the_simulated_site_is_changed_over_http(site: SimulatedSharePoint) -> None:
    control = site.url() + "/_sandbox/documents"
    how: dict[str, Any] = {
        "headers": {"X-Sandbox-Token": site.control_token},
        "verify": str(site.ca_file),
    }
    new = {
        "name": "a.txt",
        "content_base64": base64.b64encode(b"one").decode(),
        "modified_at": "2026-11-01T13:00:00+01:00",
        "folder": "2026",
    }
    made = requests.post(control, json=new, timeout=10, **how)
    assert made.status_code == 201
    connector = connect(site)
    (listed,) = connector.list_documents()
    assert listed.modified_at == datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
    assert content(connector, listed) == b"one"
    two = {"content_base64": base64.b64encode(b"two").decode()}
    assert requests.put(f"{control}/{made.json()['id']}", json=two, timeout=10, **how).ok
    (listed,) = connector.list_documents()
    assert content(connector, listed) == b"two"
    assert requests.delete(f"{control}/{made.json()['id']}", timeout=10, **how).ok
    assert list(connector.list_documents()) == []
