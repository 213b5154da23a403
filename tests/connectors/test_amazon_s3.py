"""The Amazon S3 connector against a real S3 server, and through a proxy that misbehaves."""

from __future__ import annotations

import io
import os
import re
import socket
import time
import tracemalloc
import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest

from connectors import amazon_s3, get_connector
from connectors.addresses import EVERYWHERE, Reach, read_networks
from connectors.amazon_s3 import AmazonS3
from connectors.base import (
    ConfigurationError,
    DownloadFailed,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
)
from sandbox.s3 import PUBLIC_BUCKET, READER_ROLE, S3Server
from tests.object_store_proxy import Exchange, Proxy, nothing, proxy

CANARY = "canary-never-to-be-seen"
MANY = 1_005


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"test-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    return name


@pytest.fixture(scope="module")
def crowded(s3_server: S3Server) -> str:
    """A bucket whose listing needs two pages."""
    s3_server.create_bucket("crowded")
    client = s3_server.client()
    with ThreadPoolExecutor(16) as pool:
        keys = [f"{number:05}.txt" for number in range(MANY)]
        list(pool.map(lambda key: client.put_object(Bucket="crowded", Key=key, Body=key.encode()), keys))
    return "crowded"


@pytest.fixture
def front(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy(s3_server.endpoint_url) as found:
        yield found


@pytest.fixture
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon_s3, "REQUEST_ATTEMPTS", 1)


def connect(server: S3Server, bucket: str, **settings: Any) -> AmazonS3:
    given = {
        "bucket_name": bucket,
        "endpoint_url": server.endpoint_url,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
    } | settings
    connector = get_connector(
        "amazon_s3", {name: value for name, value in given.items() if value is not None}
    )
    assert isinstance(connector, AmazonS3)
    return connector


def put(server: S3Server, bucket: str, key: str, content: bytes = b"content", **more: Any) -> None:
    server.client().put_object(Bucket=bucket, Key=key, Body=content, **more)


def only(connector: AmazonS3) -> ExternalDocument:
    (document,) = connector.list_documents()
    return document


def content(connector: AmazonS3, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def error_xml(code: str, message: str = CANARY, more: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>'
        f"<AWSAccessKeyId>{CANARY}</AWSAccessKeyId><StringToSign>{CANARY}</StringToSign>{more}</Error>"
    ).encode()


def answering(status: int, body: bytes) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.status, exchange.body = status, body
        exchange.answer_headers = {"content-type": "application/xml"}

    return answer


def is_download(exchange: Exchange) -> bool:
    return exchange.method == "GET" and "list-type=" not in exchange.path


def assert_one_clean_sentence(sentence: str, error: BaseException | None = None) -> None:
    assert CANARY not in sentence
    assert "\n" not in sentence
    assert not sentence.startswith("An error occurred")
    if error is not None:
        assert error.__suppress_context__ or error.__context__ is None


# Listing


def test_every_object_is_listed_once_over_several_pages(
    s3_server: S3Server, crowded: str, front: Proxy
) -> None:
    connector = connect(s3_server, crowded, endpoint_url=front.endpoint_url)
    began = datetime.now(timezone.utc) - timedelta(hours=1)
    documents = list(connector.list_documents())
    assert [document.external_id for document in documents] == [
        f"s3://crowded/{number:05}.txt" for number in range(MANY)
    ]
    assert len(front.seen) == 2
    first = documents[0]
    assert first.filename == "00000.txt"
    assert first.size == len("00000.txt")
    assert first.version.endswith(":9")
    assert len(first.version) == 32 + 2
    assert first.modified_at is not None
    assert first.modified_at.tzinfo is timezone.utc
    assert began < first.modified_at <= datetime.now(timezone.utc)
    assert first.metadata == {"bucket": "crowded", "key": "00000.txt", "storage_class": "STANDARD"}
    assert first.checksums == {}


def test_each_page_is_asked_for_once_and_one_at_most_before_it_is_needed(
    s3_server: S3Server, bucket: str, front: Proxy
) -> None:
    asked: list[int] = []

    def endless(exchange: Exchange) -> None:
        number = int(parse_qs(urlsplit(exchange.path).query).get("continuation-token", ["0"])[0])
        asked.append(number)
        page = (
            "<ListBucketResult><IsTruncated>true</IsTruncated>"
            f"<NextContinuationToken>{number + 1}</NextContinuationToken>"
            f"<Contents><Key>{number}.txt</Key><Size>1</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>"
        )
        answering(200, page.encode())(exchange)

    front.before = endless
    documents = connect(s3_server, bucket, endpoint_url=front.endpoint_url).list_documents()
    assert isinstance(documents, Generator)
    for number in range(50):
        assert next(documents).filename == f"{number}.txt"
        assert max(asked) <= number + 1
    documents.close()
    assert asked == list(range(len(asked)))
    assert len(asked) == 51


def listing(*keys: str, encoding: str = "", more: str = "") -> bytes:
    """A page that ends the listing, with these keys as they are written in XML."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;x&quot;</ETag></Contents>{more}"
        for key in keys
    )
    page = f"<ListBucketResult>{encoding}<IsTruncated>false</IsTruncated>{more}{entries}</ListBucketResult>"
    return page.encode()


ENCODED = "<EncodingType>url</EncodingType>"


@pytest.mark.parametrize(
    ("page", "key"),
    [
        (listing("a%2Fb+c%26d%2B.txt", encoding=ENCODED), "a/b c&d+.txt"),
        (listing("a%2Fb+c%26d.txt"), "a%2Fb+c%26d.txt"),
        (listing("a &amp;amp; b&#38;&#x26;&lt;.txt"), "a &amp; b&&<.txt"),
        (listing("&quot;a&quot;&#34;.txt"), '"a"".txt'),
        (listing("<![CDATA[a<b&.txt]]>"), "a<b&.txt"),
        (listing("größer.txt"), "größer.txt"),
        (listing("a\r\nb"), "a\nb"),
        (listing("a&#13;b"), "a\rb"),
        (listing("a.txt", more="<!-- <Contents><Key>b</Key></Contents> -->"), "a.txt"),
        (listing("a.txt", more="\n  "), "a.txt"),
        (listing("a.txt").replace(b"2026-01-01T00:00:00.000Z", b"Thu, 01 Jan 2026 00:00:00 GMT"), "a.txt"),
        (listing("a.txt").replace(b".000Z", b".000000000Z"), "a.txt"),
        (
            listing("a.txt").replace(
                b"</ETag>",
                b"</ETag><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
                b"<RestoreExpiryDate></RestoreExpiryDate></RestoreStatus>",
            ),
            "a.txt",
        ),
        (listing("a.txt", more="<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"), "a.txt"),
        (
            listing("a.txt")
            .replace(b"<", b"<s3:")
            .replace(b"<s3:/", b"</s3:")
            .replace(b"<s3:ListBucketResult", b"<s3:ListBucketResult xmlns:s3='urn:x'"),
            "a.txt",
        ),
    ],
)
def test_a_page_is_read_as_xml_however_it_is_written(
    s3_server: S3Server, bucket: str, front: Proxy, page: bytes, key: str
) -> None:
    front.before = answering(200, page)
    document = only(connect(s3_server, bucket, endpoint_url=front.endpoint_url))
    assert document.external_id == f"s3://{bucket}/{key}"
    assert (document.version, document.size) == ("x:1", 1)
    assert document.modified_at == datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def in_chicago(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as environment:
        environment.setenv("TZ", "America/Chicago")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_chicago")
@pytest.mark.parametrize("more", ["", "<!-- left to botocore -->"])
def test_times_without_a_zone_are_utc(s3_server: S3Server, bucket: str, front: Proxy, more: str) -> None:
    next_hour = datetime.now(timezone.utc) + timedelta(hours=1)
    restored = (
        "<StorageClass>GLACIER</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        f"<RestoreExpiryDate>{next_hour:%Y-%m-%dT%H:%M:%S}</RestoreExpiryDate></RestoreStatus></Contents>"
    )
    page = listing("a.txt", more=more).replace(b"2026-01-01T00:00:00.000Z", b"2026-01-01T00:00:00")
    front.before = answering(200, page.replace(b"</Contents>", restored.encode()))
    document = only(connect(s3_server, bucket, endpoint_url=front.endpoint_url))
    assert document.modified_at == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert document.not_imported is None


def test_without_an_etag_the_time_is_in_the_version(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    page = re.sub(b"<ETag>.*?</ETag>", b"", listing("a.txt"))
    front.before = answering(200, page)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    before = only(connector).version
    front.before = answering(200, page.replace(b"00:00.000Z", b"00:01.000Z"))
    assert only(connector).version != before


@pytest.mark.parametrize("missing", ["Key", "Size", "LastModified"])
def test_an_entry_that_is_no_object_ends_the_listing(
    s3_server: S3Server, bucket: str, front: Proxy, missing: str
) -> None:
    whole = listing("a", "b", "c").decode()
    at = whole.index("<Key>b</Key>")
    front.before = answering(
        200, (whole[:at] + re.sub(f"<{missing}>.*?</{missing}>", "", whole[at:])).encode()
    )
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    documents = connector.list_documents()
    assert next(documents).filename == "a"
    with pytest.raises(ListingIncomplete, match="not an object with a key, a size and a time") as caught:
        next(documents)
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_an_empty_bucket_has_no_documents(s3_server: S3Server, bucket: str) -> None:
    connector = connect(s3_server, bucket)
    assert list(connector.list_documents()) == []
    assert connector.test_connection() == (True, f"bucket {bucket} can be listed; there is nothing in it")


@pytest.mark.parametrize(
    "key",
    [
        "a b+c&d=e?f#g%h.pdf",
        "%41%2F.txt",
        "für/größer.docx",
        "für.docx",
        "für.docx",
        "申請書/第二号.pdf",
        "\U0001f3db.txt",
        "trailing.",
        "trailing ",
        "con",
        "line\nbreak\ttab.txt",
        "\x01control.txt",
        "a//b",
        "<xml>&amp;\"'.txt",
        "/".join(["x" * 200] * 5 + ["y" * 19]),
        "..hidden",
        "a;b:c|d*e.txt",
    ],
)
def test_keys_of_every_kind_keep_their_name_and_bytes(s3_server: S3Server, bucket: str, key: str) -> None:
    put(s3_server, bucket, key, key.encode())
    (listed,) = s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]
    connector = connect(s3_server, bucket)
    document = only(connector)
    assert document.external_id == f"s3://{bucket}/{listed['Key']}"
    assert listed["Key"] in (key, key.replace("//", "/"))
    assert document.filename == key.rpartition("/")[2]
    assert content(connector, document) == key.encode()
    assert document.source_url is not None
    assert document.source_url.isascii()
    assert unquote(urlsplit(document.source_url).path) == f"/{bucket}/{listed['Key']}"


def test_directory_markers_are_no_documents(s3_server: S3Server, bucket: str) -> None:
    put(s3_server, bucket, "scans/", b"")
    put(s3_server, bucket, "scans/2026/", b"")
    put(s3_server, bucket, "scans/2026/a.pdf", b"a")
    assert only(connect(s3_server, bucket)).filename == "a.pdf"


def test_a_prefix_is_the_beginning_of_a_key(s3_server: S3Server, bucket: str) -> None:
    for key in ("scan", "scans/a", "scans/b", "scans-old/c", "other/scans/d"):
        put(s3_server, bucket, key)

    def found(prefix: str) -> list[str]:
        documents = connect(s3_server, bucket, prefix=prefix).list_documents()
        return sorted(document.external_id.removeprefix(f"s3://{bucket}/") for document in documents)

    assert found("scans/") == ["scans/a", "scans/b"]
    assert found("scans") == ["scans-old/c", "scans/a", "scans/b"]
    assert found("nothing/") == []


def test_the_window_is_half_open(s3_server: S3Server, bucket: str) -> None:
    put(s3_server, bucket, "a.txt")
    connector = connect(s3_server, bucket)
    at = only(connector).modified_at
    assert at is not None
    second = timedelta(seconds=1)
    for window, expected in [
        (Window(at, at + second), 1),
        (Window(at - second, at), 0),
        (Window(at + second, None), 0),
        (Window(None, at + second), 1),
        (Window(), 1),
    ]:
        assert len(list(connector.list_documents(window))) == expected


def test_archived_objects_are_listed_with_the_reason(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    for storage_class in ("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "INTELLIGENT_TIERING", "STANDARD_IA"):
        put(s3_server, bucket, storage_class, StorageClass=storage_class)
    future, past = "2999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"
    restored = {
        "restored": f"<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        f"<RestoreExpiryDate>{future}</RestoreExpiryDate></RestoreStatus>",
        "lapsed": f"<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        f"<RestoreExpiryDate>{past}</RestoreExpiryDate></RestoreStatus>",
        "thawing": "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>",
    }
    for key in restored:
        put(s3_server, bucket, key, StorageClass="DEEP_ARCHIVE")

    def tell_what_is_restored(exchange: Exchange) -> None:
        assert exchange.headers["x-amz-optional-object-attributes"] == "RestoreStatus"
        for key, status in restored.items():
            before = f"<Key>{key}</Key>".encode()
            assert before in exchange.body
            exchange.body = exchange.body.replace(before, before + status.encode())
        exchange.answer_headers.pop("content-length", None)

    front.after = tell_what_is_restored
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    found = {document.filename: document.not_imported for document in connector.list_documents()}
    assert {name for name, reason in found.items() if reason is None} == {
        "GLACIER_IR",
        "INTELLIGENT_TIERING",
        "STANDARD_IA",
        "restored",
    }
    for name in ("GLACIER", "DEEP_ARCHIVE", "lapsed"):
        assert found[name] == ("archived: it must be restored in S3 before it can be read", True)
    assert found["thawing"] is not None
    assert "is being restored" in found["thawing"].reason


def test_a_listing_that_breaks_off_says_so_after_what_it_had(
    s3_server: S3Server, crowded: str, front: Proxy, few_attempts: None
) -> None:
    def refuse_the_second_page(exchange: Exchange) -> None:
        if "continuation-token" in exchange.path:
            answering(403, error_xml("ExpiredToken"))(exchange)

    front.before = refuse_the_second_page
    documents = connect(s3_server, crowded, endpoint_url=front.endpoint_url).list_documents()
    first_page = [next(documents) for _ in range(1_000)]
    assert len(first_page) == 1_000
    with pytest.raises(ListingIncomplete, match=r"broke off: .* have expired: renew them") as caught:
        next(documents)
    assert_one_clean_sentence(str(caught.value), caught.value)


@pytest.mark.parametrize(
    ("pattern", "replacement", "sentence"),
    [
        (rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", "there is more and not where"),
        (
            rb"<IsTruncated>false</IsTruncated>",
            b"<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>",
            "there is more and repeats itself",
        ),
        (rb"(?s)</Contents>.*", b"</Conte", "broke off"),
    ],
)
def test_a_server_that_lists_nonsense_is_not_believed(
    s3_server: S3Server,
    crowded: str,
    front: Proxy,
    few_attempts: None,
    pattern: bytes,
    replacement: bytes,
    sentence: str,
) -> None:
    def mangle(exchange: Exchange) -> None:
        if "again" in exchange.path:  # the server knows nothing of the token that we made up
            exchange.status = 0
            exchange.path = exchange.path.replace("continuation-token=again&", "")
        exchange.body = re.sub(pattern, replacement, exchange.body)
        exchange.answer_headers.pop("content-length", None)

    front.after = mangle
    if b"again" in replacement:
        page: list[bytes] = []

        def repeat(exchange: Exchange) -> None:
            if page:
                answering(200, page[0])(exchange)

        def remember(exchange: Exchange) -> None:
            mangle(exchange)
            exchange.status = 200
            page.append(exchange.body)

        front.before, front.after = repeat, remember
    connector = connect(s3_server, crowded, endpoint_url=front.endpoint_url, prefix="0000")
    if b"Next" in pattern:
        connector = connect(s3_server, crowded, endpoint_url=front.endpoint_url)
    with pytest.raises((ListingIncomplete, ConfigurationError), match=sentence):
        list(connector.list_documents())


class Throttling:
    """Refuses the first requests, and counts which come before the time is over that it named."""

    def __init__(self, count: int, retry_after: Callable[[], str], seconds: float) -> None:
        self._left = count
        self._retry_after = retry_after
        self._seconds = seconds
        self._opens_at = 0.0
        self.too_early = 0

    def __call__(self, exchange: Exchange) -> None:
        if not self._left:
            self.too_early += time.monotonic() < self._opens_at
            return
        self._left -= 1
        exchange.status, exchange.body = 503, error_xml("SlowDown")
        exchange.answer_headers = {"content-type": "application/xml", "retry-after": self._retry_after()}
        time.sleep(0.05)  # a server that takes its time: the refusals come one after the other
        self._opens_at = time.monotonic() + self._seconds


def in_three_seconds() -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=3), usegmt=True)


@pytest.mark.parametrize("retry_after", [lambda: "2", in_three_seconds], ids=["seconds", "date"])
def test_a_store_that_asks_to_wait_is_left_alone_for_that_time(
    s3_server: S3Server, bucket: str, front: Proxy, retry_after: Callable[[], str]
) -> None:
    put(s3_server, bucket, "a.txt", b"arrived")
    front.before = throttling = Throttling(1, retry_after, 1.5)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    (document,) = connector.list_documents()
    assert throttling.too_early == 0
    assert content(connector, document) == b"arrived"


def test_when_one_thread_is_asked_to_wait_all_of_them_do(
    s3_server: S3Server, bucket: str, front: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amazon_s3, "QUICK_BYTES", -1)  # that way has no eye for it
    for number in range(4):
        put(s3_server, bucket, f"{number}.txt", b"arrived")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url, concurrency=4)
    documents = list(connector.list_documents())
    front.before = throttling = Throttling(4, lambda: "2", 2)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: content(connector, one), documents)) == [b"arrived"] * 4
    assert throttling.too_early == 0


def test_throttling_is_waited_out(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.txt", b"arrived")
    count = 0

    def slow_down_every_first_time(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        if count % 2:
            answering(503, error_xml("SlowDown", "Please reduce your request rate."))(exchange)

    front.before = slow_down_every_first_time
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    assert content(connector, only(connector)) == b"arrived"
    assert count == 4


def test_throttling_that_does_not_end_is_no_fault_of_the_settings(
    s3_server: S3Server, bucket: str, front: Proxy, few_attempts: None
) -> None:
    front.before = answering(503, error_xml("SlowDown"))
    with pytest.raises(ListingIncomplete, match=r"answered SlowDown \(status 503\); try again later"):
        list(connect(s3_server, bucket, endpoint_url=front.endpoint_url).list_documents())


# Settings


def assert_configuration_error(connector: AmazonS3, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        next(connector.list_documents())
    assert_one_clean_sentence(str(caught.value), caught.value)
    status = connector.test_connection()
    assert not status.ok
    assert re.search(sentence, status.message)
    assert_one_clean_sentence(status.message)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"secret_access_key": CANARY}, "check secret_access_key"),
        ({"access_key_id": CANARY}, "check access_key_id"),
        ({"bucket_name": "no-such-bucket"}, "bucket no-such-bucket .*does not exist: check bucket_name"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "cannot be reached: check endpoint_url"),
        ({"endpoint_url": "https://127.0.0.1:1"}, "cannot be reached: check endpoint_url"),
        ({"access_key_id": None, "secret_access_key": None}, "needs credentials and none were found"),
        (
            {"access_key_id": None, "secret_access_key": None, "anonymous": True},
            "refuses access: allow s3:ListBucket",
        ),
        (
            {"access_key_id": None, "secret_access_key": None, "profile_name": "nobody"},
            "there is no AWS profile nobody",
        ),
        ({"session_token": CANARY}, "cannot be used|refuses access"),
    ],
)
def test_settings_that_do_not_work_are_named(
    s3_server: S3Server, bucket: str, few_attempts: None, settings: dict[str, Any], sentence: str
) -> None:
    assert_configuration_error(connect(s3_server, bucket, **settings), sentence)


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (400, error_xml("ExpiredToken"), "temporary credentials have expired"),
        (403, error_xml("AccessDenied"), "refuses access: allow s3:ListBucket"),
        (403, error_xml("RequestTimeTooSkewed"), "clock of this machine is wrong"),
        (
            301,
            error_xml("PermanentRedirect", more="<Region>eu-west-1</Region>"),
            r"another region \(eu-west-1\): set region",
        ),
        (
            400,
            error_xml("AuthorizationHeaderMalformed", more=f"<Region>{CANARY}</Region>"),
            "is in another region: set region",
        ),
        (400, error_xml(f"Unheard of {CANARY}"), r"answered an error \(status 400\)"),
        (403, b"", "refuses access"),
        (200, b"<html>a login page</html>", "not a listing: check endpoint_url"),
        (302, b"<html>the way to the login page</html>", "not a listing: check endpoint_url"),
        (200, b"", "not a listing: check endpoint_url"),
    ],
)
def test_refusals_are_told_in_our_own_words(
    s3_server: S3Server,
    bucket: str,
    front: Proxy,
    few_attempts: None,
    status: int,
    body: bytes,
    sentence: str,
) -> None:
    front.before = answering(status, body)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    assert_configuration_error(connector, sentence)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "amazon_s3 needs the setting bucket_name"),
        ({"bucket_name": "b", "access_key_id": "x"}, "only of use together"),
        ({"bucket_name": "bucket", "access_key_id": "x"}, "only of use together"),
        ({"bucket_name": "bucket", "secret_access_key": CANARY}, "only of use together"),
        ({"bucket_name": "bucket", "session_token": CANARY}, "session_token needs access_key_id"),
        (
            {"bucket_name": "bucket", "anonymous": True, "access_key_id": "x", "secret_access_key": CANARY},
            "anonymous excludes keys",
        ),
        ({"bucket_name": "bucket", "anonymous": True, "role_arn": READER_ROLE}, "anonymous excludes"),
        ({"bucket_name": "bucket", "external_id": "x"}, "external_id is of use with role_arn only"),
        ({"bucket_name": "bucket", "role_arn": "reader"}, "role_arn must look like"),
        (
            {
                "bucket_name": "bucket",
                "profile_name": "p",
                "access_key_id": "x",
                "secret_access_key": CANARY,
            },
            "not both",
        ),
        ({"bucket_name": "s3://bucket"}, "bare name of a bucket"),
        ({"bucket_name": "bucket/folder"}, "bare name of a bucket"),
        ({"bucket_name": "bucket", "prefix": "s3://bucket/x"}, "prefix must be the beginning of keys"),
        (
            {"bucket_name": "bucket", "endpoint_url": "http://store.example.org"},
            "must be an https:// address",
        ),
        ({"bucket_name": "bucket", "endpoint_url": f"https://u:{CANARY}@host"}, "an address with a password"),
        ({"bucket_name": "bucket", "endpoint_url": f"https://host/?sig={CANARY}"}, "a signed link"),
        ({"bucket_name": "bucket", "endpoint_url": "ftp://127.0.0.1"}, "must be an https:// address"),
        ({"bucket_name": "bucket", "endpoint_url": "127.0.0.1:9000"}, "must be an https:// address"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        get_connector("amazon_s3", settings)
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_secrets_are_neither_shown_nor_offered() -> None:
    settings = {
        "bucket_name": "bucket",
        "access_key_id": "x",
        "secret_access_key": CANARY,
        "session_token": CANARY,
    }
    assert CANARY not in repr(get_connector("amazon_s3", settings))
    properties = AmazonS3.model_json_schema()["properties"]
    assert {name for name, field in properties.items() if field.get("writeOnly")} == {
        "secret_access_key",
        "session_token",
    }
    assert all(field.get("description") for field in properties.values())


def test_a_source_without_an_address_is_at_amazon_whatever_the_environment_says(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    connector = connect(s3_server, "bucket", endpoint_url=None, region="eu-central-1")
    assert connector._client().meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
    assert connector._source_url()("a b/ü.pdf") == (
        "https://eu-central-1.console.aws.amazon.com/s3/object/bucket"
        "?region=eu-central-1&prefix=a%20b%2F%C3%BC.pdf"
    )
    china = connect(s3_server, "bucket", endpoint_url=None, region="cn-north-1")
    assert china._source_url()("a").startswith("https://cn-north-1.console.amazonaws.cn/s3/object/bucket")


def test_credentials_of_the_environment_are_found(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(s3_server, bucket, "a.txt")
    unkeyed: dict[str, Any] = {"access_key_id": None, "secret_access_key": None}
    (tmp_path / "credentials").write_text(
        f"[archive]\naws_access_key_id={s3_server.access_key}\naws_secret_access_key={s3_server.secret_key}\n"
    )
    assert connect(s3_server, bucket, **unkeyed, profile_name="archive").test_connection().ok
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    assert connect(s3_server, bucket, **unkeyed).test_connection() == (
        True,
        f"bucket {bucket} can be listed; there are objects in it",
    )


@pytest.mark.parametrize("profile", [None, "archive"])
def test_credentials_of_the_machine_are_not_sent_where_a_source_of_the_console_says(
    bucket: str, front: Proxy, s3_server: S3Server, profile: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_server, bucket, "a.txt")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    console = Reach(read_networks("127.0.0.0/8"))
    own: dict[str, Any] = {"access_key_id": None, "secret_access_key": None, "profile_name": profile}
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url, **own)
    with pytest.raises(ConfigurationError, match=r"not for 127\.0\.0\.1: give access_key_id") as refusal:
        connector.keep_to(console)
    assert_one_clean_sentence(str(refusal.value))
    connector.keep_to(EVERYWHERE)
    given = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    given.keep_to(console)
    assert only(given).filename == "a.txt"


@pytest.mark.parametrize(
    ("host", "of_amazon"),
    [
        ("s3.amazonaws.com", True),
        ("S3.eu-central-1.amazonaws.com.", True),
        ("s3.dualstack.us-gov-west-1.amazonaws.com", True),
        ("s3-fips.us-east-1.amazonaws.com", True),
        ("records.s3.cn-north-1.amazonaws.com.cn", True),
        ("bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com", True),
        ("s3express-use1-az4.us-east-1.amazonaws.com", True),
        ("s3.amazonaws.com.evil.example", False),
        ("s3.evil-amazonaws.com", False),
        ("amazonaws.com", False),
        ("abc123.execute-api.us-east-1.amazonaws.com", False),
        ("s3-123.us-east-1.elb.amazonaws.com", False),
        ("ec2-8-8-8-8.s3.compute-1.amazonaws.com", False),
        ("minio.city.example", False),
    ],
)
def test_credentials_of_the_machine_are_for_amazon(
    host: str, of_amazon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    connector = AmazonS3(bucket_name="records", endpoint_url=f"https://{host}")
    if of_amazon:
        connector.keep_to(Reach(()))
    else:
        with pytest.raises(ConfigurationError, match="the credentials of this machine are not for"):
            connector.keep_to(Reach(()))


def unknown(*_arguments: object, **_options: object) -> None:
    """A name service that is asked nothing over the network."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_public_bucket_needs_no_credentials_and_gets_none(s3_server: S3Server, front: Proxy) -> None:
    key = f"{uuid.uuid4()}/a.txt"
    put(s3_server, PUBLIC_BUCKET, key, b"for all")
    connector = connect(
        s3_server,
        PUBLIC_BUCKET,
        endpoint_url=front.endpoint_url,
        access_key_id=None,
        secret_access_key=None,
        anonymous=True,
        prefix=key,
    )
    assert content(connector, only(connector)) == b"for all"
    assert len(front.seen) == 2
    assert not any("authorization" in exchange.headers for exchange in front.seen)


def test_requester_pays_is_said_with_every_request(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.txt")
    for agreed in (True, False):
        front.seen.clear()
        connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url, requester_pays=agreed)
        content(connector, only(connector))
        assert [exchange.headers.get("x-amz-request-payer") for exchange in front.seen] == [
            "requester" if agreed else None
        ] * 2


def test_temporary_credentials_work_with_their_session_token(s3_server: S3Server, bucket: str) -> None:
    put(s3_server, bucket, "a.txt", b"read with a token")
    sts = boto3.client(
        "sts",
        endpoint_url=s3_server.endpoint_url,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    found = sts.assume_role(RoleArn=READER_ROLE, RoleSessionName="test")["Credentials"]
    connector = connect(
        s3_server,
        bucket,
        access_key_id=found["AccessKeyId"],
        secret_access_key=found["SecretAccessKey"],
        session_token=found["SessionToken"],
    )
    assert content(connector, only(connector)) == b"read with a token"


def test_a_role_is_assumed_and_its_credentials_are_renewed(
    s3_server: S3Server, bucket: str, front: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_server, bucket, "a.txt", b"read as a role")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", front.endpoint_url)

    def about_to_expire(exchange: Exchange) -> None:
        soon = (datetime.now(timezone.utc) + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        exchange.body = re.sub(rb"(?<=<Expiration>)[^<]+", soon.encode(), exchange.body)
        exchange.answer_headers.pop("content-length", None)

    front.after = about_to_expire
    connector = connect(
        s3_server, bucket, endpoint_url=front.endpoint_url, role_arn=READER_ROLE, external_id="our agreement"
    )
    document = only(connector)
    assert content(connector, document) == b"read as a role"
    assumed = [parse_qs(exchange.sent.decode()) for exchange in front.seen if exchange.method == "POST"]
    assert len(assumed) >= 2
    for request in assumed:
        assert request["Action"] == ["AssumeRole"]
        assert request["RoleArn"] == [READER_ROLE]
        assert request["ExternalId"] == ["our agreement"]
    for exchange in front.seen:
        own = exchange.method == "POST"
        assert (f"Credential={s3_server.access_key}/" in exchange.headers["authorization"]) is own
        assert ("x-amz-security-token" in exchange.headers) is not own


def test_a_role_that_may_not_be_assumed_is_named(
    s3_server: S3Server, bucket: str, front: Proxy, monkeypatch: pytest.MonkeyPatch, few_attempts: None
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_server.endpoint_url)
    role = "arn:aws:iam::000000000000:role/no-such-role"
    assert_configuration_error(connect(s3_server, bucket, role_arn=role), "the role may not be assumed")
    front.before = answering(
        403, b"<ErrorResponse>" + error_xml("SignatureDoesNotMatch")[21:] + b"</ErrorResponse>"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", front.endpoint_url)
    assert_configuration_error(connect(s3_server, bucket, role_arn=READER_ROLE), "check secret_access_key")


# Download


def test_bytes_and_content_type_arrive(s3_server: S3Server, bucket: str) -> None:
    connector = connect(s3_server, bucket)
    for key, body, given, expected in [
        ("empty.txt", b"", "text/plain", "text/plain"),
        ("a.pdf", b"%PDF", "application/pdf", "application/pdf"),
        ("untyped", b"x", "binary/octet-stream", None),
    ]:
        put(s3_server, bucket, key, body, ContentType=given)
        (document,) = (found for found in connector.list_documents() if found.filename == key)
        into = io.BytesIO()
        verified = download_verified(connector, document, into)
        assert into.getvalue() == body
        assert verified.size == len(body)
        assert verified.content_type == expected


def test_compressed_objects_arrive_as_they_are_stored(s3_server: S3Server, bucket: str) -> None:
    put(s3_server, bucket, "a.gz", b"not really gzip", ContentEncoding="gzip")
    connector = connect(s3_server, bucket)
    assert content(connector, only(connector)) == b"not really gzip"


def test_a_large_upload_in_parts_streams_in_little_memory(s3_server: S3Server, bucket: str) -> None:
    client = s3_server.client()
    part = os.urandom(1_000_000) * 20
    upload = client.create_multipart_upload(Bucket=bucket, Key="large.bin")["UploadId"]
    where: dict[str, Any] = {"Bucket": bucket, "Key": "large.bin", "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**where, PartNumber=number, Body=part)["ETag"]}
        for number in (1, 2, 3)
    ]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    connector = connect(s3_server, bucket)
    document = only(connector)
    assert document.size == 60_000_000
    assert "-3:" in document.version
    tracemalloc.start()
    with Path(os.devnull).open("wb") as into:
        verified = download_verified(connector, document, into)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verified.size == 60_000_000
    assert peak < 20_000_000


def test_several_threads_share_one_connector(s3_server: S3Server, crowded: str) -> None:
    connector = connect(s3_server, crowded, prefix="000")
    documents = list(connector.list_documents())
    assert len(documents) == 100
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda document: content(connector, document), documents))
    assert found == [document.filename.encode() for document in documents]
    connector.close()


def test_a_document_that_changed_or_went_since_it_was_listed_is_not_mixed_up(
    s3_server: S3Server, bucket: str
) -> None:
    put(s3_server, bucket, "a.txt", b"first")
    connector = connect(s3_server, bucket)
    document = only(connector)
    put(s3_server, bucket, "a.txt", b"other")
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        content(connector, document)
    s3_server.client().delete_object(Bucket=bucket, Key="a.txt")
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        content(connector, document)


def cut(*after: int, reset: bool = False) -> Callable[[Exchange], None]:
    """Cuts off that many downloads, each after so many bytes of its body."""
    left = list(after)

    def hook(exchange: Exchange) -> None:
        if is_download(exchange) and left:
            exchange.cut_after, exchange.reset = left.pop(0), reset

    return hook


def test_a_body_that_breaks_off_is_read_on_from_there(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    body = os.urandom(3_000_000)
    put(s3_server, bucket, "a.bin", body)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.after = cut(0, 1_500_000, 200_000)
    assert content(connector, document) == body
    downloads = [exchange for exchange in front.seen if is_download(exchange)]
    assert [exchange.headers.get("range") for exchange in downloads] == [
        None,
        None,
        "bytes=1500000-",
        "bytes=1700000-",
    ]
    assert len({exchange.headers["if-match"] for exchange in downloads}) == 1


@pytest.mark.usefixtures("few_attempts")
def test_a_server_that_hangs_up(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.txt")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)

    def hang_up(exchange: Exchange) -> None:
        exchange.hang_up = True

    front.after = hang_up
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        list(connector.list_documents())
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        content(connector, document)
    assert "cannot be reached" in connector.test_connection().message
    front.after = nothing
    assert content(connector, document) == b"content"


def test_a_reset_connection_is_no_end_either(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    body = os.urandom(3_000_000)
    put(s3_server, bucket, "a.bin", body)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.after = cut(2_000_000, reset=True)
    assert content(connector, document) == body
    assert len([exchange for exchange in front.seen if is_download(exchange)]) == 2


def test_a_body_that_always_breaks_off_fails(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.bin", os.urandom(500_000))
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.after = cut(*[10] * 20)
    with pytest.raises(DownloadFailed, match="the connection broke off 4 times"):
        content(connector, document)


def test_a_server_that_cannot_go_on_fails_instead_of_repeating(
    s3_server: S3Server, bucket: str, front: Proxy
) -> None:
    body = os.urandom(3_000_000)
    put(s3_server, bucket, "a.bin", body)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    breaks = cut(2_500_000, 2_500_000)

    def ignore_range(exchange: Exchange) -> None:
        breaks(exchange)
        if "range" in exchange.headers:
            exchange.status, exchange.body = 200, body
            exchange.answer_headers.pop("content-range", None)
            exchange.answer_headers.pop("content-length", None)

    front.after = ignore_range
    with pytest.raises(DownloadFailed, match="cannot go on where it did"):
        content(connector, document)


@pytest.mark.parametrize("replaced_after", [0, 2_500_000])
def test_a_store_that_does_not_heed_if_match(
    s3_server: S3Server, bucket: str, front: Proxy, replaced_after: int
) -> None:
    """Another object of the same length takes the listed one's place, before it is read or when part of it has
    been. Both were uploaded in parts, so that no ETag states an MD5."""
    old, new = b"a" * 3_000_000, b"b" * 3_000_000
    put(s3_server, bucket, "a.bin", old)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    breaks = cut(replaced_after)

    def answer(exchange: Exchange) -> None:
        if not is_download(exchange):
            return
        start = int(exchange.headers.get("range", "bytes=0-")[len("bytes=") : -1])
        exchange.status = 206 if start else 200
        is_old = start < replaced_after
        exchange.body = (old if is_old else new)[start:]
        exchange.answer_headers = {"etag": f'"{"a" if is_old else "b"}-2"'}
        if start:
            exchange.answer_headers["content-range"] = f"bytes {start}-2999999/3000000"

    def list_parts(exchange: Exchange) -> None:
        if "list-type" in exchange.path:
            exchange.body = re.sub(rb"<ETag>.*?</ETag>", b"<ETag>&#34;a-2&#34;</ETag>", exchange.body)
            exchange.answer_headers.pop("content-length", None)
        if replaced_after:
            breaks(exchange)

    front.before, front.after = answer, list_parts
    document = only(connector)
    with pytest.raises(
        DownloadFailed, match="changed since it was listed; the next import takes the new version"
    ):
        content(connector, document)


def test_without_an_etag_two_versions_are_not_put_together(
    s3_server: S3Server, bucket: str, front: Proxy
) -> None:
    put(s3_server, bucket, "a.bin", b"a" * 3_000_000)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    breaks = cut(1_500_000)

    def keep_no_etags(exchange: Exchange) -> None:
        exchange.answer_headers.pop("etag", None)
        if "list-type" in exchange.path:
            exchange.body = re.sub(rb"<ETag>.*?</ETag>", b"", exchange.body)
            exchange.answer_headers.pop("content-length", None)
        if is_download(exchange):
            put(s3_server, bucket, "a.bin", b"b" * 3_000_000)
        breaks(exchange)

    front.after = keep_no_etags
    document = only(connector)
    with pytest.raises(DownloadFailed, match="without an ETag the rest may be that of another version"):
        content(connector, document)
    assert content(connector, only(connector)) == b"b" * 3_000_000


def test_a_short_body_without_a_length_is_noticed(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.bin", b"0123456789")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)

    def shorten(exchange: Exchange) -> None:
        exchange.body = exchange.body[:7]
        exchange.answer_headers.pop("x-amz-checksum-crc32", None)
        exchange.answer_headers.pop("content-length", None)

    front.after = shorten
    with pytest.raises(DownloadFailed, match=r"MD5 checksum|7 bytes arrived of the 10"):
        content(connector, document)


def spoil(*, declared: bool = False, **headers: str) -> Callable[[Exchange], None]:
    """Changes a byte of the body, and headers of the answer; without `declared`, no checksum stays."""

    def hook(exchange: Exchange) -> None:
        if is_download(exchange):
            exchange.body = b"X" + exchange.body[1:]
            for name in [name for name in exchange.answer_headers if name.startswith("x-amz-checksum")]:
                if not declared:
                    del exchange.answer_headers[name]
            for name, value in headers.items():
                exchange.answer_headers[name.replace("_", "-")] = value

    return hook


def test_spoilt_bytes_are_noticed_by_the_md5_in_the_etag(
    s3_server: S3Server, bucket: str, front: Proxy
) -> None:
    put(s3_server, bucket, "a.txt", b"the right bytes")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.after = spoil()
    with pytest.raises(DownloadFailed, match="MD5 checksum"):
        content(connector, document)


def test_bytes_spoilt_once_are_read_again(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.txt", b"the right bytes")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    spoilt = spoil()

    def once(exchange: Exchange) -> None:
        spoilt(exchange)
        front.after = nothing

    front.after = once
    assert content(connector, document) == b"the right bytes"
    assert len([exchange for exchange in front.seen if is_download(exchange)]) == 2


def test_small_plain_objects_take_one_request_each(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    for name in ("a", "b"):
        put(s3_server, bucket, name, name.encode() * 1_000_000)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    for document in connector.list_documents():
        assert content(connector, document) == document.filename.encode() * 1_000_000
    downloads = [exchange for exchange in front.seen if is_download(exchange)]
    assert len(downloads) == 2
    assert all("if-match" in exchange.headers for exchange in downloads)


def test_of_a_bucket_under_kms_only_the_first_object_is_read_twice(
    s3_server: S3Server, bucket: str, front: Proxy
) -> None:
    for name in ("a", "b", "c"):
        put(s3_server, bucket, name, name.encode())
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    documents = list(connector.list_documents())
    front.after = spoil(x_amz_server_side_encryption="aws:kms")
    assert [content(connector, document) for document in documents] == [b"X", b"X", b"X"]
    assert len([exchange for exchange in front.seen if is_download(exchange)]) == 4


def test_a_busy_server_is_left_to_the_client_that_slows_down(
    s3_server: S3Server, bucket: str, front: Proxy
) -> None:
    for name in ("a", "b", "c"):
        put(s3_server, bucket, name, name.encode())
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    documents = list(connector.list_documents())

    def busy_once(exchange: Exchange) -> None:
        answering(503, error_xml("SlowDown"))(exchange)
        front.before = nothing

    front.before = busy_once
    assert [content(connector, document) for document in documents] == [b"a", b"b", b"c"]
    downloads = [exchange for exchange in front.seen if is_download(exchange)]
    assert [("x-amz-checksum-mode" in exchange.headers) for exchange in downloads] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_spoilt_bytes_are_noticed_by_a_declared_checksum(
    s3_server: S3Server, bucket: str, front: Proxy, algorithm: Any
) -> None:
    put(s3_server, bucket, "a.txt", b"the right bytes", ChecksumAlgorithm=algorithm)
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.after = spoil(declared=True, x_amz_server_side_encryption="aws:kms")
    with pytest.raises(DownloadFailed, match="do not have the checksum that Amazon S3 declares"):
        content(connector, document)
    downloads = [exchange for exchange in front.seen if is_download(exchange)]
    assert f"x-amz-checksum-{algorithm.lower()}" in downloads[-1].answer_headers
    assert len(downloads) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"x_amz_server_side_encryption": "aws:kms"},
        {"x_amz_server_side_encryption": "aws:kms:dsse"},
        {"x_amz_server_side_encryption_customer_algorithm": "AES256"},
    ],
)
def test_an_etag_that_is_no_md5_fails_nothing(
    s3_server: S3Server, bucket: str, front: Proxy, headers: dict[str, Any]
) -> None:
    """Under KMS the ETag looks like an MD5 and is none: here the body differs from it instead."""
    put(s3_server, bucket, "a.txt", b"the right bytes")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.after = spoil(**headers)
    assert content(connector, document) == b"Xhe right bytes"


def test_a_checksum_of_checksums_fails_nothing(s3_server: S3Server, bucket: str, front: Proxy) -> None:
    put(s3_server, bucket, "a.txt", b"the right bytes")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)

    def declare(exchange: Exchange) -> None:
        exchange.answer_headers.pop("x-amz-checksum-crc32", None)
        exchange.answer_headers["x-amz-checksum-sha256"] = "aGVsbG8=-2"
        exchange.answer_headers["x-amz-checksum-type"] = "COMPOSITE"

    front.after = declare
    assert content(connector, document) == b"the right bytes"


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (403, error_xml("InvalidObjectState"), DownloadRefused, "archived: it must be restored"),
        (403, error_xml("AccessDenied"), DownloadFailed, "may not be read: allow s3:GetObject"),
        (
            403,
            error_xml("AccessDenied", f"{CANARY} is not authorized to perform: kms:Decrypt"),
            DownloadFailed,
            "the rights for its key are missing",
        ),
        (400, error_xml("KMS.DisabledException"), DownloadFailed, "the rights for its key are missing"),
        (
            400,
            error_xml("InvalidRequest", "The object was stored using a form of Server Side Encryption."),
            DownloadFailed,
            "the rights for its key are missing",
        ),
        (403, error_xml("SignatureDoesNotMatch"), DownloadFailed, "check secret_access_key"),
        (400, error_xml("ExpiredToken"), DownloadFailed, "have expired: renew them"),
        (404, error_xml("NoSuchKey"), DownloadFailed, "gone since it was listed"),
        (404, error_xml("NoSuchBucket"), DownloadFailed, "does not exist"),
        (412, error_xml("PreconditionFailed"), DownloadFailed, "changed since it was listed"),
        (500, error_xml("InternalError"), DownloadFailed, r"answered InternalError \(status 500\)"),
    ],
)
def test_a_document_that_cannot_be_read_says_why(
    s3_server: S3Server,
    bucket: str,
    front: Proxy,
    few_attempts: None,
    status: int,
    body: bytes,
    kind: type[Exception],
    sentence: str,
) -> None:
    put(s3_server, bucket, "a.txt")
    connector = connect(s3_server, bucket, endpoint_url=front.endpoint_url)
    document = only(connector)
    front.before = answering(status, body)
    with pytest.raises(kind, match=sentence) as caught:
        content(connector, document)
    assert_one_clean_sentence(str(caught.value), caught.value)


def test_errors_of_the_file_written_to_pass_through(s3_server: S3Server, bucket: str) -> None:
    put(s3_server, bucket, "a.txt", b"x" * 100)

    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    connector = connect(s3_server, bucket)
    with pytest.raises(OSError, match="No space left"):
        download_verified(connector, only(connector), FullDisk())
