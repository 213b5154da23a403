"""The whole importer on an S3 server that misbehaves: each mishap is recovered from, or is reported of
exactly the documents it concerns, and the next import completes."""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from citysort_dagster.importer import ImportSummary
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document, ImportFailure
from connectors.amazon_s3 import AmazonS3
from sandbox.s3 import S3Server
from tests.cli.conftest import Command
from tests.importer.conftest import City, new_database
from tests.object_store_proxy import Exchange, Proxy, nothing, proxy
from tests.robustness.conftest import digests

OBJECTS = 40
HALF = 20


@dataclass
class Bucket:
    """A bucket behind a proxy, and what it holds."""

    name: str
    server: S3Server
    front: Proxy
    holds: dict[str, bytes]

    def fill(self, count: int) -> None:
        self.put({f"{number:04}.txt": f"content of {number}".encode() * 50 for number in range(count)})

    def put(self, objects: dict[str, bytes]) -> None:
        client = self.server.client()
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(
                lambda one: client.put_object(Bucket=self.name, Key=one[0], Body=one[1]), objects.items()
            ):
                pass
        self.holds.update(objects)

    def settings(self) -> dict[str, Any]:
        return {
            "bucket_name": self.name,
            "endpoint_url": self.front.endpoint_url,
            "access_key_id": self.server.access_key,
            "secret_access_key": self.server.secret_key,
        }

    def behaves(
        self,
        before: Callable[[Exchange], None] = nothing,
        after: Callable[[Exchange], None] = nothing,
    ) -> None:
        with self.front.lock:
            self.front.before, self.front.after = before, after

    def external_ids(self, *keys: str) -> set[str]:
        return {f"s3://{self.name}/{key}" for key in keys}


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    name = f"test-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    with proxy(s3_server.endpoint_url) as front:
        yield Bucket(name, s3_server, front, {})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """One kind is enough here."""
    opened = new_database(tmp_path)
    yield opened
    opened.close()


def run(city: City, bucket: Bucket) -> ImportSummary:
    connector = AmazonS3(**bucket.settings())
    try:
        return city.run(connector)[1]
    finally:
        connector.close()


def assert_whole(city: City, bucket: Bucket) -> None:
    newest = {row.external_id: row.sha256 for row in city.rows(Document) if row.superseded_by is None}
    assert newest == {f"s3://{bucket.name}/{key}": sha for key, sha in digests(bucket.holds).items()}
    assert city.rows(ImportFailure) == []
    assert len(city.stored()) == len(city.rows(Document))
    assert city.disagreements() == []


def assert_only_failures(city: City, bucket: Bucket, *keys: str) -> None:
    """These failed, all others arrived; and well-behaved, the server gives the rest."""
    failed = bucket.external_ids(*keys)
    assert {row.external_id for row in city.rows(ImportFailure)} == failed
    imported = {row.external_id for row in city.rows(Document)}
    assert imported == bucket.external_ids(*bucket.holds) - failed
    assert city.disagreements() == []
    bucket.behaves()
    assert run(city, bucket).counts.imported == len(failed)
    assert_whole(city, bucket)


def key_of(exchange: Exchange) -> str:
    """The key that is downloaded, empty for any other request."""
    path = urlsplit(exchange.path)
    if exchange.method != "GET" or "list-type=" in path.query:
        return ""
    return unquote(path.path).partition("/")[2].partition("/")[2]


def says(exchange: Exchange, status: int, code: str) -> None:
    exchange.status = status
    exchange.answer_headers = {"content-type": "application/xml"}
    exchange.body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()


def spoil(exchange: Exchange) -> None:
    """Another byte, under the checksum of the true ones."""
    if exchange.status == 200 and exchange.body:
        checksum = zlib.crc32(exchange.body).to_bytes(4, "big")
        exchange.answer_headers["x-amz-checksum-crc32"] = base64.b64encode(checksum).decode()
        exchange.body = bytes([exchange.body[0] ^ 1]) + exchange.body[1:]


def test_throttling_now_and_then_is_recovered_from(city: City, bucket: Bucket) -> None:
    bucket.fill(OBJECTS)
    asked: dict[str, int] = {}

    def throttle(exchange: Exchange) -> None:
        asked[exchange.path] = asked.get(exchange.path, 0) + 1
        if asked[exchange.path] == 1 and (not key_of(exchange) or key_of(exchange) < "0010"):
            says(exchange, 503, "SlowDown")

    bucket.behaves(throttle)
    summary = run(city, bucket)
    assert (summary.incomplete, summary.counts.imported) == (None, OBJECTS)
    assert max(asked.values()) > 1
    assert_whole(city, bucket)


def test_throttling_of_one_object_for_good_is_the_failure_of_that_one(city: City, bucket: Bucket) -> None:
    bucket.fill(OBJECTS)

    def throttle(exchange: Exchange) -> None:
        if key_of(exchange) == "0007.txt":
            says(exchange, 503, "SlowDown")

    bucket.behaves(throttle)
    assert run(city, bucket).counts.failed == 1
    assert_only_failures(city, bucket, "0007.txt")


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_bodies_that_are_cut_once_are_recovered_from(city: City, bucket: Bucket, reset: bool) -> None:
    bucket.fill(OBJECTS)
    cut: set[str] = set()

    def cut_once(exchange: Exchange) -> None:
        key = key_of(exchange)
        if key and key < "0010" and key not in cut:
            cut.add(key)
            exchange.cut_after, exchange.reset = len(exchange.body) // 2, reset

    bucket.behaves(after=cut_once)
    summary = run(city, bucket)
    assert (len(cut), summary.counts.imported, summary.counts.failed) == (10, OBJECTS, 0)
    assert_whole(city, bucket)


def test_bodies_that_are_always_cut_are_failures_of_their_documents(city: City, bucket: Bucket) -> None:
    bucket.fill(OBJECTS)

    def always_cut(exchange: Exchange) -> None:
        if key_of(exchange) in ("0003.txt", "0030.txt"):
            exchange.cut_after = 0

    bucket.behaves(after=always_cut)
    assert run(city, bucket).counts.failed == 2
    assert_only_failures(city, bucket, "0003.txt", "0030.txt")


def test_bodies_spoilt_under_a_declared_checksum_are_not_imported(city: City, bucket: Bucket) -> None:
    bucket.fill(OBJECTS)

    def spoil_one(exchange: Exchange) -> None:
        if key_of(exchange) == "0011.txt":
            spoil(exchange)

    bucket.behaves(after=spoil_one)
    assert run(city, bucket).counts.failed == 1
    assert_only_failures(city, bucket, "0011.txt")


def test_what_changes_or_goes_between_listing_and_download_is_reported(city: City, bucket: Bucket) -> None:
    bucket.fill(OBJECTS)

    def interfere(exchange: Exchange) -> None:
        key = key_of(exchange)
        if key == "0005.txt" and bucket.holds[key] != b"changed":
            bucket.put({key: b"changed"})
        if key == "0006.txt" and key in bucket.holds:
            bucket.server.client().delete_object(Bucket=bucket.name, Key=key)
            del bucket.holds[key]

    bucket.behaves(interfere)
    assert run(city, bucket).counts.failed == 2
    reasons = {row.external_id: row.reason for row in city.rows(ImportFailure)}
    assert reasons.keys() == bucket.external_ids("0005.txt", "0006.txt")
    assert "changed since it was listed" in reasons[f"s3://{bucket.name}/0005.txt"]
    assert "gone since it was listed" in reasons[f"s3://{bucket.name}/0006.txt"]
    bucket.behaves()
    assert run(city, bucket).counts.imported == 1
    assert_whole(city, bucket)


def list_half(exchange: Exchange) -> None:
    """Makes the first half of a listing its first page; the second is refused, or cut short."""
    if (
        exchange.method != "GET"
        or "list-type=" not in exchange.path
        or "continuation-token=" in exchange.path
    ):
        return
    entries = re.findall(rb"<Contents>.*?</Contents>", exchange.body, re.DOTALL)
    for entry in entries[HALF:]:
        exchange.body = exchange.body.replace(entry, b"")
    more = b"<NextContinuationToken>more</NextContinuationToken></ListBucketResult>"
    exchange.body = exchange.body.replace(b"<IsTruncated>false", b"<IsTruncated>true").replace(
        b"</ListBucketResult>", more
    )
    exchange.answer_headers["content-length"] = str(len(exchange.body))


def refuse_second_page(exchange: Exchange) -> None:
    if "continuation-token=" in exchange.path:
        says(exchange, 403, "AccessDenied")


def cut_second_page(exchange: Exchange) -> None:
    if "continuation-token=" in exchange.path:
        exchange.status = 200
        exchange.answer_headers = {"content-type": "application/xml"}
        exchange.body = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><Cont'


@pytest.mark.parametrize("second_page", [refuse_second_page, cut_second_page])
def test_a_listing_that_breaks_off_half_way_counts_for_what_it_showed(
    city: City, bucket: Bucket, second_page: Callable[[Exchange], None]
) -> None:
    bucket.fill(OBJECTS)
    bucket.behaves(second_page, list_half)
    summary = run(city, bucket)
    assert summary.incomplete is not None
    assert (summary.counts.listed, summary.counts.imported) == (HALF, HALF)
    assert city.watermark() is None
    bucket.behaves()
    assert run(city, bucket).counts.imported == OBJECTS - HALF
    assert_whole(city, bucket)


SOURCES = """sources:
  - name: archive
    connector: amazon_s3
    config:
      bucket_name: {bucket_name}
      endpoint_url: {endpoint_url}
      access_key_id: {access_key_id}
      secret_access_key: {{env: ARCHIVE_SECRET}}
"""


def test_the_exit_codes_say_what_came_of_it(
    citysort: Command, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(OBJECTS)
    (tmp_path / "sources.yaml").write_text(SOURCES.format(**bucket.settings()))
    monkeypatch.setenv("ARCHIVE_SECRET", bucket.server.secret_key)

    def imports() -> tuple[int, dict[str, Any], str]:
        ran = citysort("import", "archive", "--json")
        assert "Traceback" not in ran.out + ran.err
        assert bucket.server.secret_key not in ran.out + ran.err
        return ran.code, json.loads(ran.out.splitlines()[-1]), ran.err

    applied = citysort("sources", "apply", "sources.yaml")
    assert applied.code == 0, applied.err

    bucket.behaves(refuse_second_page, list_half)
    code, outcome, said = imports()
    assert (code, outcome["imported"], outcome["failed"]) == (3, HALF, 0)
    assert "could not be listed completely" in said

    def spoil_one(exchange: Exchange) -> None:
        if key_of(exchange) == "0035.txt":
            spoil(exchange)

    bucket.behaves(after=spoil_one)
    code, outcome, _ = imports()
    assert (code, outcome["imported"], outcome["skipped"], outcome["failed"]) == (
        1,
        OBJECTS - HALF - 1,
        HALF,
        1,
    )
    assert {one["external_id"] for one in outcome["errors"]} == bucket.external_ids("0035.txt")

    bucket.behaves()
    code, outcome, _ = imports()
    assert (code, outcome["imported"], outcome["skipped"], outcome["failed"]) == (0, 1, OBJECTS - 1, 0)
    assert outcome["errors"] == []
    assert citysort("verify").code == 0
