"""The Google Cloud Storage connector against a protocol server, behind a gate that wants Google's tokens
and a proxy that misbehaves."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import socket
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[import-untyped]

from connectors import get_connector, google_cloud_storage
from connectors.addresses import EVERYWHERE, Reach, read_networks
from connectors.base import (
    ConfigurationError,
    DownloadFailed,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
)
from connectors.google_cloud_storage import GoogleCloudStorage
from sandbox.gcs import GCSServer
from tests.object_store_proxy import Exchange, Proxy, proxy

CANARY = "canary-never-to-be-seen"
MANY = 1_005
PAGES = 2
EMAIL = "citysort@a-city.iam.gserviceaccount.com"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "GCLOUD_", "GCE_", "CLOUDSDK_", "STORAGE_")):
            monkeypatch.delenv(name)
        if name.lower().endswith("_proxy") or name == "NETRC" or name.startswith("DISABLE_GCS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(google_cloud_storage, "FIRST_PAUSE", 0.01)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is made once."""
    monkeypatch.setattr(google_cloud_storage, "PATIENCE", 0.0)
    monkeypatch.setattr(google_cloud_storage, "TEST_PATIENCE", 0.0)


def vendor(server: GCSServer) -> Any:
    """The client to fill buckets with."""
    return storage.Client(
        project=None, credentials=AnonymousCredentials(), client_options={"api_endpoint": server.endpoint_url}
    )


@pytest.fixture
def bucket(gcs_server: GCSServer) -> str:
    name = f"test-{uuid.uuid4().hex}"
    gcs_server.create_bucket(name)
    return name


@pytest.fixture(scope="module")
def crowded(gcs_server: GCSServer) -> str:
    """A bucket whose listing needs two pages."""
    gcs_server.create_bucket("crowded")
    there = vendor(gcs_server).bucket("crowded")

    def put_one(number: int) -> None:
        name = f"{number:05}.txt"
        there.blob(name).upload_from_string(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put_one, range(MANY)))
    return "crowded"


def put(server: GCSServer, bucket: str, name: str, content: bytes = b"content", **more: Any) -> None:
    blob = vendor(server).bucket(bucket).blob(name)
    blob.content_encoding = more.pop("content_encoding", None)
    blob.upload_from_string(content, **({"content_type": "text/plain"} | more))


@dataclass
class Google:
    """Google's token endpoint, and a gate in front of the store that only its tokens open."""

    key: dict[str, str]
    front: Proxy
    token_endpoint: Proxy
    tokens: list[str]
    expired: set[str]
    lifetime: int = 3600
    before: Callable[[Exchange], None] | None = None


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def json_answer(exchange: Exchange, status: int, body: Any) -> None:
    exchange.status, exchange.body = status, json.dumps(body).encode()
    exchange.answer_headers = {"content-type": "application/json; charset=UTF-8"}


def google_error(status: int, message: str, reason: str) -> dict[str, Any]:
    """https://cloud.google.com/storage/docs/json_api/v1/status-codes"""
    problem = {"message": message, "domain": "global", "reason": reason}
    return {"error": {"code": status, "message": message, "errors": [problem]}}


@pytest.fixture
def google(gcs_server: GCSServer, private_key: rsa.RSAPrivateKey) -> Iterator[Google]:
    """https://developers.google.com/identity/protocols/oauth2/service-account#httprest"""

    def refused(why: str) -> dict[str, str]:
        return {"error": "invalid_grant", "error_description": why}

    def answer_token_request(exchange: Exchange) -> None:
        form = parse_qs(exchange.sent.decode())
        header, claims, signature = form["assertion"][0].split(".")
        found = json.loads(_decoded(claims))
        try:
            private_key.public_key().verify(
                _decoded(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            json_answer(exchange, 400, refused("Invalid JWT Signature."))
            return
        assert exchange.method == "POST"
        assert exchange.path == "/token"
        assert exchange.headers["content-type"] == "application/x-www-form-urlencoded"
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        assert json.loads(_decoded(header))["alg"] == "RS256"
        assert found["iss"] == EMAIL
        assert found["aud"] == "https://oauth2.googleapis.com/token"
        assert found["scope"] == "https://www.googleapis.com/auth/devstorage.read_only"
        assert time.time() < found["exp"] <= found["iat"] + 3600
        token = f"ya29.{CANARY}.{uuid.uuid4().hex}"
        made.tokens.append(token)
        answer = {"access_token": token, "expires_in": made.lifetime, "token_type": "Bearer"}
        json_answer(exchange, 200, answer)

    def guard(exchange: Exchange) -> None:
        given = exchange.headers.get("authorization", "").removeprefix("Bearer ")
        if given not in made.tokens or given in made.expired:
            json_answer(exchange, 401, google_error(401, "Invalid Credentials", "authError"))
            return
        exchange.headers["host"] = gcs_server.endpoint_url.removeprefix("http://")
        if made.before is not None:
            made.before(exchange)

    with proxy("http://127.0.0.1:1") as token_endpoint, proxy(gcs_server.endpoint_url) as front:
        token_endpoint.before, front.before = answer_token_request, guard
        key = {
            "type": "service_account",
            "project_id": "a-city",
            "private_key_id": CANARY,
            "private_key": pem(private_key),
            "client_email": EMAIL,
            "client_id": "100000000000000000000",
            "token_uri": f"{token_endpoint.endpoint_url}/token",
        }
        made = Google(key, front, token_endpoint, [], set())
        yield made


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def direct(server: GCSServer, bucket: str, **settings: Any) -> GoogleCloudStorage:
    """Without credentials, which the protocol server does not ask for."""
    return made_connector(
        {"bucket_name": bucket, "endpoint_url": server.endpoint_url, "anonymous": True} | settings
    )


def connect(google: Google, bucket: str, **settings: Any) -> GoogleCloudStorage:
    """With a service account, through the gate."""
    given = {
        "bucket_name": bucket,
        "endpoint_url": google.front.endpoint_url,
        "service_account_key": json.dumps(google.key),
    } | settings
    return made_connector({name: value for name, value in given.items() if value is not None})


def made_connector(settings: dict[str, Any]) -> GoogleCloudStorage:
    connector = get_connector("google_cloud_storage", settings)
    assert isinstance(connector, GoogleCloudStorage)
    return connector


def only(connector: GoogleCloudStorage) -> ExternalDocument:
    (document,) = connector.list_documents()
    return document


def content(connector: GoogleCloudStorage, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def answering(status: int, body: Any) -> Callable[[Exchange], None]:
    return lambda exchange: json_answer(exchange, status, body)


def is_download(exchange: Exchange) -> bool:
    return "alt=media" in exchange.path


def downloads(google: Google) -> list[Exchange]:
    return [exchange for exchange in google.front.seen if is_download(exchange)]


def assert_one_clean_sentence(sentence: str, error: BaseException | None = None) -> None:
    assert CANARY not in sentence
    assert "PRIVATE KEY" not in sentence
    assert "\n" not in sentence
    if error is not None:
        assert error.__suppress_context__ or error.__context__ is None


def assert_configuration_error(connector: GoogleCloudStorage, sentence: str) -> None:
    """Both ways to find out say the same."""
    tested = connector.test_connection()
    assert not tested.ok
    assert sentence in tested.message
    assert_one_clean_sentence(tested.message)
    with pytest.raises(ConfigurationError) as caught:
        list(connector.list_documents())
    assert sentence in str(caught.value)
    assert_one_clean_sentence(str(caught.value), caught.value)


# Listing


def test_every_object_is_listed_once_over_several_pages(crowded: str, google: Google) -> None:
    connector = connect(google, crowded)
    began = datetime.now(timezone.utc) - timedelta(hours=1)
    documents = list(connector.list_documents())
    assert [document.external_id for document in documents] == [
        f"gs://crowded/{number:05}.txt" for number in range(MANY)
    ]
    assert len(google.front.seen) == PAGES
    assert len(google.tokens) == 1
    for exchange in google.front.seen:
        asked = parse_qs(urlsplit(exchange.path).query)
        assert asked["maxResults"] == ["1000"]
        assert asked["fields"][0].startswith("kind,nextPageToken,items(name,generation,")
        assert asked["projection"] == ["noAcl"]
    first = documents[0]
    assert first.filename == "00000.txt"
    assert first.size == len("00000.txt")
    assert first.version.isdigit()
    assert first.modified_at is not None
    assert first.modified_at.tzinfo is timezone.utc
    assert began < first.modified_at <= datetime.now(timezone.utc)
    assert first.content_type == "text/plain"
    assert first.checksums == {"md5": hashlib.md5(b"00000.txt", usedforsecurity=False).hexdigest()}
    assert set(first.metadata) == {"bucket", "name", "storage_class", "crc32c", "stored_size"}


def test_an_empty_bucket_has_no_documents(bucket: str, google: Google) -> None:
    connector = connect(google, bucket)
    assert list(connector.list_documents()) == []
    assert connector.test_connection() == (True, f"bucket {bucket} can be read; there is nothing in it")


@pytest.mark.parametrize(
    "name",
    [
        "a b+c&d=e?f#g%h.pdf",
        "%41%2F.txt",
        "für/größer.docx",
        "fu\u0308r.docx",
        "申請書/第二号.pdf",
        "\U0001f3db.txt",
        "trailing.",
        "trailing ",
        " ",
        "con",
        "line\nbreak\ttab.txt",
        "\x01control.txt",
        "<xml>&amp;\"'.txt",
        "/".join(["x" * 200] * 5 + ["y" * 19]),
        "..hidden",
        "a;b:c|d*e,f.txt",
        "generation=1&alt=json",
        "~tilde[0]*?.txt",
    ],
)
def test_names_of_every_kind_keep_their_bytes(
    gcs_server: GCSServer, bucket: str, google: Google, name: str
) -> None:
    put(gcs_server, bucket, name, name.encode())
    connector = connect(google, bucket)
    document = only(connector)
    assert document.external_id == f"gs://{bucket}/{name}"
    assert document.filename == name.rpartition("/")[2]
    assert content(connector, document) == name.encode()
    assert document.source_url is not None
    assert document.source_url.isascii()
    assert unquote(urlsplit(document.source_url).path) == f"/{bucket}/{name}"
    assert urlsplit(document.source_url).query == ""


@pytest.mark.parametrize("name", ["a/../../b.txt", "a//b", "./c"])
def test_names_that_look_like_steps_between_folders_are_asked_for_as_they_are(
    gcs_server: GCSServer, bucket: str, google: Google, name: str
) -> None:
    """The protocol server keeps its objects in folders and cannot have them: the request counts."""
    put(gcs_server, bucket, "stand-in", b"the bytes")

    def pose(exchange: Exchange) -> None:
        exchange.body = exchange.body.replace(b'"name":"stand-in"', f'"name":"{name}"'.encode())
        exchange.answer_headers.pop("content-length", None)

    asked: list[str] = []

    def divert(exchange: Exchange) -> None:
        if is_download(exchange):
            path, _, query = exchange.path.partition("?")
            asked.append(path)
            exchange.path = f"/download/storage/v1/b/{bucket}/o/stand-in?{query}"

    google.front.after, google.before = pose, divert
    connector = connect(google, bucket)
    document = only(connector)
    assert document.external_id == f"gs://{bucket}/{name}"
    assert content(connector, document) == b"the bytes"
    (path,) = asked
    assert unquote(path.removeprefix(f"/download/storage/v1/b/{bucket}/o/")) == name
    assert "/" not in path.removeprefix(f"/download/storage/v1/b/{bucket}/o/")


def test_folder_placeholders_are_no_documents_unless_they_hold_something(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    """The protocol server cannot keep objects whose name ends in a slash."""
    for name in ("empty", "filled", "scans"):
        put(gcs_server, bucket, name, b"" if name == "empty" else b"x")

    def rename(exchange: Exchange) -> None:
        for name in (b"empty", b"filled"):
            exchange.body = exchange.body.replace(b'"name":"%b"' % name, b'"name":"%b/"' % name)
        exchange.answer_headers.pop("content-length", None)

    google.front.after = rename
    found = [document.external_id for document in connect(google, bucket).list_documents()]
    assert found == [f"gs://{bucket}/filled/", f"gs://{bucket}/scans"]


def test_a_prefix_is_the_beginning_of_a_name(gcs_server: GCSServer, bucket: str) -> None:
    for name in ("scan", "scans/a", "scans/b", "scans-old/c", "other/scans/d"):
        put(gcs_server, bucket, name)

    def found(prefix: str) -> list[str]:
        documents = direct(gcs_server, bucket, prefix=prefix).list_documents()
        return sorted(document.external_id.removeprefix(f"gs://{bucket}/") for document in documents)

    assert found("scans/") == ["scans/a", "scans/b"]
    assert found("scans") == ["scans-old/c", "scans/a", "scans/b"]
    assert found("nothing/") == []


def test_the_window_is_half_open(gcs_server: GCSServer, bucket: str) -> None:
    put(gcs_server, bucket, "a.txt")
    connector = direct(gcs_server, bucket)
    at = only(connector).modified_at
    assert at is not None
    moment = timedelta(microseconds=1)
    for window, expected in [
        (Window(at, at + moment), 1),
        (Window(at - moment, at), 0),
        (Window(at + moment, None), 0),
        (Window(None, at + moment), 1),
        (Window(), 1),
    ]:
        assert len(list(connector.list_documents(window))) == expected


def test_changed_metadata_is_no_new_version_and_changed_content_is(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "a.txt")
    connector = connect(google, bucket)
    first = only(connector)

    def as_after_a_change_of_storage_class(exchange: Exchange) -> None:
        """The protocol server would make a new generation of it."""
        page = json.loads(exchange.body)
        page["items"][0] |= {
            "storageClass": "NEARLINE",
            "metageneration": "2",
            "updated": "2999-01-02T03:04:05Z",
        }
        json_answer(exchange, 200, page)

    google.front.after = as_after_a_change_of_storage_class
    changed = only(connector)
    assert changed.version == first.version
    assert changed.modified_at == datetime(2999, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    google.front.after = lambda exchange: None
    put(gcs_server, bucket, "a.txt")
    assert only(connector).version != first.version


def test_objects_under_a_customers_own_key_are_listed_with_the_reason(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "a.txt")

    def encrypt(exchange: Exchange) -> None:
        page = json.loads(exchange.body)
        for item in page["items"]:
            item["customerEncryption"] = {"encryptionAlgorithm": "AES256", "keySha256": "abc="}
            del item["md5Hash"], item["crc32c"]
        json_answer(exchange, 200, page)

    google.front.after = encrypt
    document = only(connect(google, bucket))
    assert document.not_imported is not None
    assert document.not_imported.refused
    assert "encrypted with a key of its owner's" in document.not_imported.reason


def test_a_listing_that_breaks_off_says_so_after_what_it_had(
    crowded: str, google: Google, no_patience: None
) -> None:
    def refuse_the_second_page(exchange: Exchange) -> None:
        if "pageToken=" in exchange.path:
            json_answer(exchange, 403, google_error(403, CANARY, "forbidden"))

    google.before = refuse_the_second_page
    documents = connect(google, crowded).list_documents()
    assert len([next(documents) for _ in range(1_000)]) == 1_000
    with pytest.raises(ListingIncomplete, match=r"broke off: .* refuses access") as caught:
        next(documents)
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_a_server_that_is_out_of_order_breaks_a_listing_off_and_does_not_condemn_the_settings(
    bucket: str, google: Google, no_patience: None
) -> None:
    google.before = answering(503, google_error(503, CANARY, "backendError"))
    with pytest.raises(ListingIncomplete, match=r"out of order .* \(status 503\)") as caught:
        list(connect(google, bucket).list_documents())
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_a_repeated_page_token_does_not_go_round_for_ever(crowded: str, google: Google) -> None:
    def repeat(exchange: Exchange) -> None:
        page = json.loads(exchange.body)
        json_answer(exchange, 200, page | {"nextPageToken": "00005.txt"})

    google.front.after = repeat
    with pytest.raises(ListingIncomplete, match="the server repeats a page"):
        list(connect(google, crowded).list_documents())
    assert len(google.front.seen) == 2


def test_an_empty_page_with_a_token_is_not_the_end(crowded: str, google: Google) -> None:
    pages = 0

    def thin_out(exchange: Exchange) -> None:
        nonlocal pages
        pages += 1
        if pages == 1:
            json_answer(exchange, 200, {"kind": "storage#objects", "nextPageToken": "00000.txt"})

    google.before = thin_out
    assert len(list(connect(google, crowded).list_documents())) >= MANY - 1
    assert len(google.front.seen) == 1 + PAGES


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html><title>Sign in</title></html>"),
        ("application/json", b"{}"),
        ("application/json", b'{"kind":"storage#buckets","items":[]}'),
        ("application/json", b"[]"),
        ("application/json", b"null"),
        ("application/json", b'"text"'),
        ("application/json", b""),
        ("application/json", b'{"kind":"storage#objects","items":[{"name":"a"}]}'),
        ("application/json", b'{"kind":"storage#objects","items":["a"]}'),
        ("application/json", b'{"kind":"storage#objects","items":7}'),
        (
            "application/json",
            b'{"kind":"storage#objects","items":[{"name":"a","generation":"1","size":"x"}]}',
        ),
    ],
)
def test_an_answer_that_is_no_listing_is_not_believed(
    bucket: str, google: Google, content_type: str, body: bytes
) -> None:
    def pose(exchange: Exchange) -> None:
        exchange.status, exchange.body = 200, body
        exchange.answer_headers = {"content-type": content_type}

    google.before = pose
    with pytest.raises(ConfigurationError, match="something that is not a listing") as caught:
        list(connect(google, bucket).list_documents())
    assert_one_clean_sentence(str(caught.value), caught.value)
    assert not connect(google, bucket).test_connection().ok


def test_throttling_and_passing_failures_are_waited_out(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "a.txt", b"arrived")
    statuses = [429, 503, 500, 408, 502, 504] * 2

    def fail_at_first(exchange: Exchange) -> None:
        if statuses and len(statuses) != 6:
            json_answer(exchange, statuses.pop(), google_error(500, CANARY, "backendError"))

    google.before = fail_at_first
    connector = connect(google, bucket)
    document = only(connector)
    assert len(statuses) == 6
    statuses.append(429)
    assert content(connector, document) == b"arrived"


class Throttling:
    """Refuses the first requests, and notes which come before the time is over that it named."""

    def __init__(self, count: int, retry_after: Callable[[], str], seconds: float) -> None:
        self._left = count
        self._retry_after = retry_after
        self._seconds = seconds
        self._opens_at = 0.0
        self._lock = threading.Lock()
        self.too_early = 0

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            if not self._left:
                self.too_early += time.monotonic() < self._opens_at
                return
            self._left -= 1
            json_answer(exchange, 429, google_error(429, CANARY, "rateLimitExceeded"))
            exchange.answer_headers["retry-after"] = self._retry_after()
            time.sleep(0.05)  # a server that takes its time: the refusals come one after the other
            self._opens_at = time.monotonic() + self._seconds


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (lambda: "1", 1),
        (lambda: format_datetime(datetime.now(timezone.utc) + timedelta(seconds=3), usegmt=True), 1),
    ],
    ids=["seconds", "date"],
)
def test_a_server_that_asks_to_wait_is_left_alone_for_that_time(
    gcs_server: GCSServer, bucket: str, google: Google, retry_after: Callable[[], str], seconds: float
) -> None:
    put(gcs_server, bucket, "a.txt")
    google.before = throttling = Throttling(1, retry_after, seconds)
    assert only(connect(google, bucket)).filename == "a.txt"
    assert throttling.too_early == 0


def test_when_one_thread_is_asked_to_wait_all_of_them_do(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    for number in range(4):
        put(gcs_server, bucket, f"{number}.txt")
    connector = connect(google, bucket, concurrency=4)
    documents = list(connector.list_documents())
    google.before = throttling = Throttling(4, lambda: "1", 1)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: content(connector, one), documents)) == [b"content"] * 4
    assert throttling.too_early == 0


def test_nobody_sleeps_for_hours(gcs_server: GCSServer, bucket: str, google: Google) -> None:
    put(gcs_server, bucket, "a.txt")
    connector = connect(google, bucket)
    document = only(connector)
    google.before = Throttling(3, lambda: "7200", 0)
    with pytest.raises(ListingIncomplete, match=r"takes no more requests before .* UTC"):
        list(connector.list_documents())
    with pytest.raises(DownloadFailed, match=r"takes no more requests before .* UTC"):
        content(connector, document)
    assert "takes no more requests before" in connector.test_connection().message
    google.before = Throttling(1, lambda: "30", 0)
    assert "takes no more requests before" in connector.test_connection().message
    assert content(connector, document) == b"content"


# Credentials and settings


def test_tokens_are_obtained_with_the_key_and_renewed_when_refused(crowded: str, google: Google) -> None:
    def expire_after_the_first_page(exchange: Exchange) -> None:
        if "pageToken=" not in exchange.path:
            google.expired.update(google.tokens)

    google.before = expire_after_the_first_page
    connector = connect(google, crowded)
    assert len(list(connector.list_documents())) == MANY
    assert len(google.tokens) == 2


def test_tokens_are_renewed_before_they_expire(crowded: str, google: Google) -> None:
    google.lifetime = 30
    assert len(list(connect(google, crowded).list_documents())) == MANY
    assert len(google.front.seen) == PAGES
    assert len(google.tokens) == PAGES


def test_a_key_may_be_given_as_the_path_of_its_file(bucket: str, google: Google, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    assert connect(google, bucket, service_account_key=str(path)).test_connection().ok
    assert len(google.tokens) == 1


def test_googles_default_credentials_are_used_when_there_is_no_key(
    bucket: str, google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert connect(google, bucket, service_account_key=None).test_connection().ok
    assert len(google.tokens) == 1


def test_credentials_of_the_machine_are_not_sent_where_a_source_of_the_console_says(
    gcs_server: GCSServer, bucket: str, google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(gcs_server, bucket, "a.txt")
    path = tmp_path / "key.json"
    path.write_text(json.dumps(google.key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    console = Reach(read_networks("127.0.0.0/8"))
    with pytest.raises(ConfigurationError, match=r"not for 127\.0\.0\.1: give service_account_key"):
        connect(google, bucket, service_account_key=None).keep_to(console)
    connect(google, bucket, service_account_key=None).keep_to(EVERYWHERE)
    given = connect(google, bucket)
    given.keep_to(console)
    assert only(given).filename == "a.txt"


def test_credentials_of_the_machine_are_for_google(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for url in (None, "https://storage.googleapis.com", "https://storage.me-central2.rep.googleapis.com"):
        GoogleCloudStorage(bucket_name="records", endpoint_url=url).keep_to(Reach(()))
    for url in ("https://googleapis.com.evil.example", "https://storage.evil-googleapis.com"):
        with pytest.raises(ConfigurationError, match="the credentials of this machine are not for"):
            GoogleCloudStorage(bucket_name="records", endpoint_url=url).keep_to(Reach(()))


def test_a_source_of_the_console_names_the_file_of_a_key_in_the_allowed_folder_only(
    bucket: str, google: Google, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    loopback = read_networks("127.0.0.0/8")
    for path in (tmp_path / "key.json", allowed / "key.json"):
        path.write_text(json.dumps(google.key))
    outside = connect(google, bucket, service_account_key=str(tmp_path / "key.json"))
    for folder in (None, allowed):
        with pytest.raises(ConfigurationError, match=r"service_account_key: .*CITYSORT_ALLOWED_FOLDER"):
            outside.keep_to(Reach(loopback, folder))
    assert google.tokens == []
    inside = connect(google, bucket, service_account_key=str(allowed / "key.json"))
    inside.keep_to(Reach(loopback, allowed))
    assert inside.test_connection().ok


def test_no_credentials_at_all_are_asked_for(bucket: str, google: Google) -> None:
    connector = connect(google, bucket, service_account_key=None)
    assert_configuration_error(connector, "needs credentials and none were found: set service_account_key")
    assert google.front.seen == []


def test_anonymous_sends_no_credentials_and_says_when_the_bucket_is_not_public(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "a.txt", b"public")
    connector = direct(gcs_server, bucket)
    assert content(connector, only(connector)) == b"public"
    closed = connect(google, bucket, service_account_key=None, anonymous=True)
    assert_configuration_error(closed, "is not public: storage.objects.list needs credentials")
    assert all("authorization" not in exchange.headers for exchange in google.front.seen)


def test_the_key_is_shown_nowhere(bucket: str, google: Google) -> None:
    connector = connect(google, bucket)
    assert connector.test_connection().ok
    assert "PRIVATE KEY" not in repr(connector)
    assert CANARY not in repr(connector)
    schema = GoogleCloudStorage.model_json_schema()["properties"]["service_account_key"]
    assert schema["writeOnly"] is True


def test_only_the_configured_hosts_are_asked(
    gcs_server: GCSServer, bucket: str, google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the emulator's variable, nor .netrc, nor google-auth's own requests lead elsewhere."""
    put(gcs_server, bucket, "a.txt")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("HTTPS_PROXY", address)
        connector = connect(google, bucket)
        assert content(connector, only(connector)) == b"content"
        assert connector.test_connection().ok
        for thread in threading.enumerate():
            if type(thread).__module__.startswith("google."):
                thread.join(10)
        connector.close()
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert {exchange.headers["authorization"] for exchange in google.front.seen} == {
        f"Bearer {google.tokens[0]}"
    }
    assert "authorization" not in google.token_endpoint.seen[0].headers


def test_a_key_does_not_choose_the_host_that_is_asked(bucket: str, google: Google) -> None:
    """Keys of other clouds on Google's software name a domain, and sign for themselves."""
    google.key["universe_domain"] = "another-cloud.example"
    assert_configuration_error(connect(google, bucket), "does not accept the credentials")
    for exchange in google.front.seen:
        claims = json.loads(_decoded(exchange.headers["authorization"].split(".")[1]))
        assert claims["iss"] == EMAIL
    assert google.token_endpoint.seen == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(bucket: str, google: Google, status: int) -> None:
    with proxy("http://127.0.0.1:1") as elsewhere:

        def lead_away(exchange: Exchange) -> None:
            exchange.status = status
            exchange.answer_headers = {"location": f"{elsewhere.endpoint_url}{exchange.path}"}

        google.before = lead_away
        assert_configuration_error(connect(google, bucket), "leads to another address")
        google.token_endpoint.before = lead_away
        failed = connect(google, bucket).test_connection()
        assert not failed.ok
        assert_one_clean_sentence(failed.message)
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("status", "said", "sentence"),
    [
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, "make a new one"),
        (
            400,
            {"error": "invalid_grant", "error_description": "Invalid grant: account not found"},
            "the account of service_account_key is deleted or disabled",
        ),
        (
            400,
            {
                "error": "invalid_grant",
                "error_description": "Invalid JWT: Token must be a short-lived token (60 minutes) and in a"
                " reasonable timeframe. Check your iat and exp values in the JWT claim.",
            },
            "the clock of this machine is wrong",
        ),
        (401, {"error": "invalid_client", "error_description": CANARY}, "there is no token for"),
        (200, {"token_type": "Bearer"}, "there is no token for"),
        (200, [CANARY], "there is no token for"),
        (200, CANARY, "there is no token for"),
        (200, {"access_token": CANARY, "expires_in": "soon"}, "there is no token for"),
    ],
)
def test_a_key_that_gives_no_token_says_why(
    bucket: str, google: Google, status: int, said: Any, sentence: str
) -> None:
    google.token_endpoint.before = answering(status, said)
    assert_configuration_error(connect(google, bucket), sentence)
    assert google.front.seen == []


def test_a_key_that_was_replaced_is_recognised_by_its_signature(bucket: str, google: Google) -> None:
    google.key["private_key"] = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert_configuration_error(
        connect(google, bucket),
        "service_account_key is no longer valid (deleted, disabled or expired): make a new one",
    )


def test_a_token_endpoint_that_is_out_of_reach_passes(bucket: str, google: Google, no_patience: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    google.key["token_uri"] = f"http://127.0.0.1:{port}/token"
    with pytest.raises(
        ListingIncomplete, match=r"the address that gives tokens .* cannot be reached"
    ) as caught:
        list(connect(google, bucket).list_documents())
    assert_one_clean_sentence(str(caught.value), caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"type": "authorized_user"}, "is the key of something else (authorized_user)"),
        ({"type": "external_account"}, "is the key of something else (external_account)"),
        ({"type": CANARY + "\n"}, "is the key of something else: it must be that of a service account"),
        ({"token_uri": None}, "lacks token_uri"),
        ({"client_email": 7}, "lacks client_email"),
        ({"private_key": CANARY}, "the private key in service_account_key cannot be read"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"}, "cannot be read"),
        (
            {"token_uri": "http://tokens.example/token"},
            "token_uri in service_account_key must be an https://",
        ),
        ({"token_uri": "file:///etc/passwd"}, "token_uri in service_account_key must be an https://"),
        (
            {"token_uri": "https://a:b@tokens.example/"},
            "token_uri in service_account_key must be an https://",
        ),
        ({"private_key": pem(ec.generate_private_key(ec.SECP256R1()))}, "there is no token for"),
    ],
)
def test_a_key_that_cannot_be_one_is_not_used(
    bucket: str, google: Google, change: dict[str, Any], sentence: str
) -> None:
    assert_configuration_error(
        connect(google, bucket, service_account_key=json.dumps(google.key | change)), sentence
    )
    assert google.token_endpoint.seen == google.front.seen == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ('{"type": "service_account", "private_key": "' + CANARY, "does not hold valid JSON"),
        (f"/no/such/{CANARY}.json", "neither the JSON of a key nor the path of a file"),
        (
            base64.b64encode(CANARY.encode() * 200).decode(),
            "neither the JSON of a key nor the path of a file",
        ),
        (f"{CANARY}\0", "neither the JSON of a key nor the path of a file"),
    ],
)
def test_a_key_that_is_none_is_not_quoted(bucket: str, google: Google, given: str, sentence: str) -> None:
    assert_configuration_error(connect(google, bucket, service_account_key=given), sentence)


@pytest.mark.parametrize(
    ("status", "message", "sentence"),
    [
        (
            403,
            f"{CANARY} does not have storage.objects.list access to the Google Cloud Storage bucket."
            " Permission 'storage.objects.list' denied on resource (or it may not exist).",
            "refuses access: give the account storage.objects.list, which roles/storage.objectViewer includes",
        ),
        (404, "The specified bucket does not exist.", "does not exist: check bucket_name"),
        (
            400,
            "Bucket is a requester pays bucket but no user project provided.",
            "is a requester-pays bucket: set requester_pays and project_id",
        ),
        (
            403,
            f"{CANARY} does not have serviceusage.services.use access to the Google Cloud project.",
            "give the account the role roles/serviceusage.serviceUsageConsumer there",
        ),
        (
            403,
            "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abc",
            "a policy of the organization (VPC Service Controls) forbids it",
        ),
        (403, "The project to be billed is associated with a closed billing account.", "billing account"),
        (400, CANARY, "does not accept the request (status 400)"),
        (412, CANARY, "does not accept the request (status 412)"),
    ],
)
def test_what_google_refuses_is_told_in_a_sentence(
    bucket: str, google: Google, status: int, message: str, sentence: str
) -> None:
    google.before = answering(status, google_error(status, message, "forbidden"))
    assert_configuration_error(connect(google, bucket), sentence)


def test_a_token_that_is_always_refused_ends_in_a_sentence(bucket: str, google: Google) -> None:
    google.before = answering(401, google_error(401, "Invalid Credentials", "authError"))
    assert_configuration_error(connect(google, bucket), "does not accept the credentials")
    assert len(google.front.seen) == 6


def test_a_bucket_that_is_not_there_is_named(gcs_server: GCSServer) -> None:
    assert_configuration_error(
        direct(gcs_server, "no-such-bucket"),
        f"bucket no-such-bucket at {gcs_server.endpoint_url} does not exist",
    )


def test_the_right_to_list_is_not_taken_for_the_right_to_read(
    gcs_server: GCSServer, bucket: str, google: Google, no_patience: None
) -> None:
    put(gcs_server, bucket, "a.txt")

    def refuse_reading(exchange: Exchange) -> None:
        if "/o/" in exchange.path:
            json_answer(exchange, 403, google_error(403, CANARY, "forbidden"))

    google.before = refuse_reading
    connector = connect(google, bucket)
    tested = connector.test_connection()
    assert not tested.ok
    assert "give the account storage.objects.get" in tested.message
    with pytest.raises(DownloadFailed, match=r"give the account storage\.objects\.get") as caught:
        content(connector, only(connector))
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_a_good_connection_is_told_in_two_requests(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "scans/#1.txt")
    connector = connect(google, bucket, prefix="scans/")
    assert connector.test_connection() == (
        True,
        f"bucket {bucket} can be read; there are objects below scans/",
    )
    assert len(google.front.seen) == 2


def test_an_address_that_nobody_answers_is_told(bucket: str, no_patience: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    connector = made_connector(
        {"bucket_name": bucket, "anonymous": True, "endpoint_url": f"http://127.0.0.1:{port}"}
    )
    assert "cannot be reached" in connector.test_connection().message
    with pytest.raises(ListingIncomplete, match="cannot be reached"):
        list(connector.list_documents())


def test_the_paying_project_is_named_in_every_request(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "a.txt")
    connector = connect(google, bucket, requester_pays=True, project_id="a-city")
    assert connector.test_connection().ok
    assert content(connector, only(connector)) == b"content"
    assert len(google.front.seen) == 4
    for exchange in google.front.seen:
        assert parse_qs(urlsplit(exchange.path).query)["userProject"] == ["a-city"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"bucket_name": "gs://permits"}, "bare name of a bucket"),
        ({"bucket_name": "permits/scans"}, "bare name of a bucket"),
        ({"prefix": "gs://permits/scans"}, "beginning of names"),
        ({"prefix": "x" * 1025}, "beginning of names"),
        ({"anonymous": True, "service_account_key": CANARY}, "anonymous excludes"),
        ({"requester_pays": True}, "needs project_id"),
        ({"endpoint_url": "http://storage.example"}, "endpoint_url must be an https:// address"),
        ({"endpoint_url": "https://a:b@storage.example"}, "endpoint_url holds an address with a password"),
        ({"project": "a-city"}, "has no setting project"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        get_connector("google_cloud_storage", {"bucket_name": "permits"} | settings)
    assert sentence in str(caught.value)
    assert_one_clean_sentence(str(caught.value))


# Download


def test_bytes_and_content_type_arrive(gcs_server: GCSServer, bucket: str) -> None:
    connector = direct(gcs_server, bucket)
    for name, body, given, expected in [
        ("empty.txt", b"", "text/plain", "text/plain"),
        ("a.pdf", b"%PDF", "application/pdf", "application/pdf"),
        ("untyped", b"x", "application/octet-stream", None),
    ]:
        put(gcs_server, bucket, name, body, content_type=given)
        (document,) = (found for found in connector.list_documents() if found.filename == name)
        into = io.BytesIO()
        verified = download_verified(connector, document, into)
        assert into.getvalue() == body
        assert verified.size == len(body)
        assert verified.content_type == expected


def test_sixty_megabytes_stream_in_little_memory(gcs_server: GCSServer, bucket: str, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(1_000_000) * 60)
    vendor(gcs_server).bucket(bucket).blob("large.bin").upload_from_filename(str(file))
    connector = direct(gcs_server, bucket)
    document = only(connector)
    assert document.size == 60_000_000
    tracemalloc.start()
    with Path(os.devnull).open("wb") as into:
        verified = download_verified(connector, document, into)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verified.size == 60_000_000
    assert peak < 20_000_000


def test_several_threads_share_one_connector(crowded: str, google: Google) -> None:
    connector = connect(google, crowded, prefix="000")
    documents = list(connector.list_documents())
    assert len(documents) == 100
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda document: content(connector, document), documents))
    assert found == [document.filename.encode() for document in documents]
    assert len(google.tokens) == 1
    connector.close()


def test_compressed_objects_arrive_decompressed_and_are_checked_as_they_are_stored(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    text = b"what a person reads " * 100_000
    put(gcs_server, bucket, "a.txt", gzip.compress(text), content_encoding="gzip")
    connector = connect(google, bucket)
    document = only(connector)
    assert document.size is None
    assert document.checksums == {}
    assert document.metadata["stored_size"] == len(gzip.compress(text))
    assert content(connector, document) == text
    (download,) = downloads(google)
    assert download.headers["accept-encoding"] == "gzip"
    assert len(download.body) < len(text)


def test_compressed_objects_may_be_empty_or_hold_several_parts(gcs_server: GCSServer, bucket: str) -> None:
    connector = direct(gcs_server, bucket)
    bodies = {
        "parts": (gzip.compress(b"one ") + gzip.compress(b"two ") + gzip.compress(b""), b"one two "),
        "nothing": (gzip.compress(b""), b""),
        "no bytes": (b"", b""),
    }
    for name, (stored, _) in bodies.items():
        put(gcs_server, bucket, name, stored, content_encoding="gzip")
    for document in connector.list_documents():
        assert content(connector, document) == bodies[document.filename][1]


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (b"not really gzip", "labelled as compressed .* and is not"),
        (gzip.compress(os.urandom(1000))[:-20], "ends too early"),
        (gzip.compress(b"a")[:-8] + b"\0" * 8, "labelled as compressed .* and is not"),
    ],
    ids=["no gzip", "cut off", "altered"],
)
def test_compressed_objects_that_cannot_be_decompressed_say_so(
    gcs_server: GCSServer, bucket: str, stored: bytes, sentence: str
) -> None:
    put(gcs_server, bucket, "a.txt", stored, content_encoding="gzip")
    connector = direct(gcs_server, bucket)
    with pytest.raises(DownloadFailed, match=sentence):
        content(connector, only(connector))


def test_a_compressed_object_that_would_fill_the_disk_stops_at_the_limit(
    gcs_server: GCSServer, bucket: str
) -> None:
    put(gcs_server, bucket, "bomb.txt", gzip.compress(b"\0" * 300_000_000, 9), content_encoding="gzip")
    connector = direct(gcs_server, bucket, max_size_mb=1)
    document = only(connector)
    tracemalloc.start()
    with pytest.raises(DownloadRefused, match="larger than the limit of 1 MB"):
        content(connector, document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_server_that_decompresses_on_its_own_is_noticed(
    gcs_server: GCSServer, bucket: str, google: Google, no_patience: None
) -> None:
    put(gcs_server, bucket, "a.txt", gzip.compress(b"text" * 10_000), content_encoding="gzip")

    def decompress(exchange: Exchange) -> None:
        if is_download(exchange):
            exchange.body = b"text" * 10_000
            del exchange.answer_headers["content-encoding"], exchange.answer_headers["content-length"]

    google.front.after = decompress
    connector = connect(google, bucket)
    with pytest.raises(DownloadFailed, match=r"more bytes arrived|labelled as compressed"):
        content(connector, only(connector))


def test_a_document_that_changed_or_went_since_it_was_listed_is_not_mixed_up(
    gcs_server: GCSServer, bucket: str
) -> None:
    put(gcs_server, bucket, "a.txt", b"first")
    connector = direct(gcs_server, bucket)
    document = only(connector)
    put(gcs_server, bucket, "a.txt", b"other")
    with pytest.raises(DownloadFailed, match="changed or gone since it was listed"):
        content(connector, document)
    vendor(gcs_server).bucket(bucket).blob("a.txt").delete()
    with pytest.raises(DownloadFailed, match="changed or gone since it was listed"):
        content(connector, document)


def cut(*after: int, reset: bool = False) -> Callable[[Exchange], None]:
    """Cuts off that many downloads, each after so many bytes of its body."""
    left = list(after)

    def hook(exchange: Exchange) -> None:
        if is_download(exchange) and left:
            exchange.cut_after, exchange.reset = left.pop(0), reset

    return hook


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_a_body_that_breaks_off_is_read_on_from_there(
    gcs_server: GCSServer, bucket: str, google: Google, encoding: str | None, reset: bool
) -> None:
    body = os.urandom(3_000_000)
    stored = gzip.compress(body) if encoding else body
    put(gcs_server, bucket, "a.bin", stored, content_encoding=encoding)
    connector = connect(google, bucket)
    document = only(connector)
    google.front.after = cut(0, 1_500_000, 200_000, reset=reset)
    assert content(connector, document) == body
    ranges = [exchange.headers.get("range") for exchange in downloads(google)]
    assert ranges[:2] == [None, None]
    if reset:  # what was sent just before may be lost
        assert all(asked is None or asked.startswith("bytes=") for asked in ranges)
    else:
        assert ranges[2:] == ["bytes=1500000-", "bytes=1700000-"]
    for exchange in downloads(google):
        assert parse_qs(urlsplit(exchange.path).query)["generation"] == [document.version]


def test_a_long_download_goes_on_when_the_patience_of_its_beginning_is_over(
    gcs_server: GCSServer, bucket: str, google: Google, no_patience: None
) -> None:
    body = os.urandom(300_000)
    put(gcs_server, bucket, "a.bin", body)
    connector = connect(google, bucket)
    document = only(connector)
    google.front.after = cut(100_000, 100_000)
    assert content(connector, document) == body
    assert [exchange.headers.get("range") for exchange in downloads(google)] == [
        None,
        "bytes=100000-",
        "bytes=200000-",
    ]


def test_a_body_that_always_breaks_off_fails(
    gcs_server: GCSServer, bucket: str, google: Google, no_patience: None
) -> None:
    put(gcs_server, bucket, "a.bin", os.urandom(500_000))
    connector = connect(google, bucket)
    document = only(connector)
    google.front.after = cut(*[10] * 20)
    with pytest.raises(DownloadFailed, match="breaks the connection off again and again") as caught:
        content(connector, document)
    assert_one_clean_sentence(str(caught.value), caught.value)
    assert len(downloads(google)) == 4


def test_a_server_that_cannot_go_on_fails_instead_of_repeating(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    body = os.urandom(300_000)
    put(gcs_server, bucket, "a.bin", body)
    connector = connect(google, bucket)
    document = only(connector)
    breaks = cut(250_000)

    def ignore_range(exchange: Exchange) -> None:
        breaks(exchange)
        if "range" in exchange.headers:
            exchange.status, exchange.body = 200, body
            exchange.answer_headers.pop("content-range", None)
            exchange.answer_headers.pop("content-length", None)

    google.front.after = ignore_range
    with pytest.raises(DownloadFailed, match="more bytes arrived than the 300000 that were listed"):
        content(connector, document)


def test_a_short_body_without_a_length_is_noticed(gcs_server: GCSServer, bucket: str, google: Google) -> None:
    put(gcs_server, bucket, "a.bin", b"0123456789")
    connector = connect(google, bucket)
    document = only(connector)

    def shorten(exchange: Exchange) -> None:
        exchange.body = exchange.body[:7]
        exchange.answer_headers.pop("content-length", None)

    google.front.after = shorten
    with pytest.raises(DownloadFailed, match="7 bytes arrived of the 10 that were listed"):
        content(connector, document)


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_spoilt_bytes_are_noticed_whatever_checksum_there_is(
    gcs_server: GCSServer, bucket: str, google: Google, composite: bool, encoding: str | None
) -> None:
    """Objects composed of others have no MD5, only a CRC32C."""
    stored = gzip.compress(b"the right bytes", mtime=0) if encoding else b"the right bytes"
    put(gcs_server, bucket, "a.txt", stored, content_encoding=encoding)

    def without_md5(exchange: Exchange) -> None:
        page = json.loads(exchange.body)
        if composite:
            del page["items"][0]["md5Hash"]
            page["items"][0]["componentCount"] = 2
        json_answer(exchange, 200, page)

    google.front.after = without_md5
    connector = connect(google, bucket)
    document = only(connector)
    assert bool(document.checksums) is not (composite or bool(encoding))

    def spoil(exchange: Exchange) -> None:
        exchange.body = exchange.body[:9] + b"\x13" + exchange.body[10:]  # in gzip: the name of a system

    google.front.after = spoil
    with pytest.raises(DownloadFailed, match="the CRC32C checksum of the bytes that arrived is not"):
        content(connector, document)
    google.front.after = lambda exchange: None
    assert content(connector, document) == b"the right bytes"


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (403, google_error(403, CANARY, "forbidden"), "give the account storage.objects.get"),
        (404, google_error(404, f"No such object: {CANARY}", "notFound"), "changed or gone"),
        (
            400,
            google_error(400, f"Cloud KMS key {CANARY} is disabled.", "kmsKeyDisabled"),
            "Cloud KMS key that is disabled",
        ),
        (401, google_error(401, CANARY, "authError"), "does not accept the credentials"),
        (416, google_error(416, CANARY, "requestedRangeNotSatisfiable"), r"\(status 416\)"),
        (500, google_error(500, CANARY, "internalError"), r"out of order .* \(status 500\)"),
        (204, {}, r"\(status 204\)"),
    ],
)
def test_a_document_that_cannot_be_read_says_why(
    gcs_server: GCSServer,
    bucket: str,
    google: Google,
    no_patience: None,
    status: int,
    body: Any,
    sentence: str,
) -> None:
    put(gcs_server, bucket, "a.txt")
    connector = connect(google, bucket)
    document = only(connector)
    google.before = answering(status, body)
    with pytest.raises(DownloadFailed, match=sentence) as caught:
        content(connector, document)
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_a_login_page_is_no_document(gcs_server: GCSServer, bucket: str, google: Google) -> None:
    put(gcs_server, bucket, "a.txt", b"x" * 2000)
    connector = connect(google, bucket)
    document = only(connector)

    def pose(exchange: Exchange) -> None:
        exchange.status, exchange.body = 200, b"<html>Sign in</html>"
        exchange.answer_headers = {"content-type": "text/html"}

    google.before = pose
    with pytest.raises(DownloadFailed, match="20 bytes arrived of the 2000"):
        content(connector, document)


def test_a_token_may_expire_between_listing_and_download(
    gcs_server: GCSServer, bucket: str, google: Google
) -> None:
    put(gcs_server, bucket, "a.txt", b"still there")
    connector = connect(google, bucket)
    document = only(connector)
    google.expired.update(google.tokens)
    assert content(connector, document) == b"still there"
    assert len(google.tokens) == 2


def test_errors_of_the_file_written_to_pass_through(gcs_server: GCSServer, bucket: str) -> None:
    put(gcs_server, bucket, "a.txt", b"x" * 100)

    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    connector = direct(gcs_server, bucket)
    with pytest.raises(OSError, match="No space left"):
        download_verified(connector, only(connector), FullDisk())
