"""The HTTP API of documents, over real connections."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from citysort_dagster import api_tokens
from citysort_dagster.files import LocalFiles, open_file_store
from citysort_dagster.installation import Installation
from citysort_dagster.pipeline.rules import Rules
from citysort_dagster.review import Correction, review
from citysort_dagster.store.models import DocumentText
from citysort_dagster.web.downloads import disposition
from sandbox.s3 import S3Server
from tests.web.documents.serving import served
from tests.web.documents.town import COMPLAINT, PERMIT, Town


class Api:
    """Somebody who calls the API."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._session.get(f"{self._url}/api/{path}", timeout=30, **options)

    def look(self, path: str) -> requests.Response:
        """A page or an answer of the API."""
        return self._session.get(f"{self._url}/{path}", timeout=30)

    def post(self, path: str, body: Any = None) -> requests.Response:
        return self._session.post(f"{self._url}/api/{path}", json=body, timeout=30)

    def documents(self, **filters: Any) -> Any:
        response = self.get("documents", params=filters)
        assert response.status_code == 200, response.text
        return response.json()


def is_problem(response: requests.Response, status: int) -> Mapping[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    return body


@pytest.fixture(scope="session")
def tokens(town: Town) -> Mapping[str, str]:
    return {role: api_tokens.create(town.database, f"{role}-ann", role, "test") for role in api_tokens.ROLES}


@pytest.fixture
def api(town_url: str, tokens: Mapping[str, str]) -> Api:
    return Api(town_url, tokens["operator"])


@pytest.fixture(scope="session")
def permit(town: Town) -> str:
    document_id = town.bring("Api Permit.txt", PERMIT, "api")
    town.process()
    return document_id


def new_complaint(town: Town, name: str) -> str:
    document_id = town.bring(name, COMPLAINT, "api")
    town.process()
    return document_id


def test_documents_are_listed_and_found(api: Api, permit: str) -> None:
    found = api.documents(q="okafor api", source="api", type="building_permit", status="routed")
    assert [document["id"] for document in found["documents"]] == [permit]
    assert found["next"] is None
    (document,) = found["documents"]
    assert document["fields"]["parcel_number"] == "12-345-678"
    assert "path" not in document
    today = document["imported_at"][:10]
    assert api.documents(source="api", **{"from": today, "to": today})["documents"]
    assert not api.documents(source="api", to="2001-01-01")["documents"]


def test_pages_follow_one_another(api: Api, town: Town) -> None:
    ids = {town.bring(f"{number}.txt", f"api letter {number}", "api-pages") for number in range(5)}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.documents(source="api-pages", limit=2, **cursor)
        seen += [document["id"] for document in page["documents"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == 5
    assert set(seen) == ids


@pytest.mark.parametrize(
    "filters",
    [
        {"limit": "0"},
        {"limit": "1000"},
        {"status": "lost"},
        {"from": "yesterday"},
        {"from": "0001-01-01"},
        {"to": "9999-12-31"},
        {"cursor": "nonsense"},
        {"q": "x" * 201},
        {"source": "a\0b"},
        {"q": "\0"},
    ],
)
def test_filters_that_make_no_sense_are_problems(api: Api, filters: Mapping[str, str]) -> None:
    is_problem(api.get("documents", params=filters), 422)


def test_a_document_is_shown_with_all_that_is_known(api: Api, permit: str, town: Town) -> None:
    document = api.get(f"documents/{permit}").json()
    assert document["text"]["preview"].startswith("BUILDING PERMIT APPLICATION")
    assert document["asset_key"] == "sources/api"
    assert [version["id"] for version in document["versions"]] == [permit]
    assert document["revision"] == town.revision(permit)
    trail = api.get(f"documents/{permit}/audit").json()["events"]
    assert [event["event"] for event in trail] == ["imported", "text extracted", "classified", "routed"]
    assert trail[-1]["id"] == document["revision"]


@pytest.mark.parametrize("ending", ["", "/content", "/audit"])
def test_unknown_and_malformed_ids_are_problems(api: Api, ending: str) -> None:
    is_problem(api.get(f"documents/{uuid.uuid4()}{ending}"), 404)
    for malformed in ("1", "x" * 36, "%00", "..%2F..%2Fetc%2Fpasswd", str(uuid.uuid4()).upper(), "a" * 5_000):
        assert is_problem(api.get(f"documents/{malformed}{ending}"), 422 if "%2F" not in malformed else 404)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("<script>alert(1)</script>.html", b"<script>alert(1)</script>"),
        ("r\u00e9sum\u00e9 \u6771\u4eac\u202e.pdf", b"%PDF-1.4 not really"),
        ('quote" ; filename=evil.exe', b"x"),
        ("large.bin", bytes(range(256)) * 10_000),
    ],
)
def test_a_download_is_the_file_and_runs_nowhere(api: Api, town: Town, name: str, content: bytes) -> None:
    document_id = town.bring(name.replace("/", "_"), content, "downloads")
    response = api.get(f"documents/{document_id}/content")
    assert response.status_code == 200
    assert response.content == content
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["Content-Disposition"].startswith("attachment; ")
    assert response.headers["Content-Type"] in ("application/octet-stream", "application/pdf")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    etag = response.headers["ETag"]
    assert etag == f'"{hashlib.sha256(content).hexdigest()}"'
    again = api.get(f"documents/{document_id}/content", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    town.process()


def test_names_of_downloads_are_told_in_both_ways() -> None:
    assert disposition("r\u00e9sum\u00e9.pdf") == (
        "attachment; filename=\"r_sum_.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf"
    )
    for name in ('a"b\\c\r\nSet-Cookie: x.txt', "\u202egnp.exe", "\ud800", "%41.txt"):
        header = disposition(name)
        assert header.isascii()
        assert header.isprintable()
        assert header.count('"') == 2


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
def test_an_altered_file_is_never_delivered_whole(api: Api, town: Town, size: int) -> None:
    document_id = town.bring(f"altered-{size}.bin", b"x" * size, "downloads")
    stored = town.installation.settings.data_dir / "files" / town.document(document_id).path
    stored.write_bytes(b"x" * (size - 1) + b"y")
    try:
        response = api.get(f"documents/{document_id}/content")
    except requests.exceptions.ChunkedEncodingError:
        assert size > 1_000_000  # cut off before its end
    else:
        assert "not the one that was imported" in is_problem(response, 500)["detail"]
    stored.write_bytes(b"x")
    is_problem(api.get(f"documents/{document_id}/content"), 500)
    stored.unlink()
    is_problem(api.get(f"documents/{document_id}/content"), 503)
    stored.write_bytes(b"x" * size)
    town.process()


def test_a_download_comes_from_a_bucket_as_well(
    town: Town,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokens: Mapping[str, str],
) -> None:
    content = bytes(range(256)) * 8_000
    document_id = town.bring("bucket.bin", content, "downloads")
    s3_server.create_bucket("stored")
    s3_server.client().put_object(Bucket="stored", Key=town.document(document_id).path, Body=content)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_REGION", s3_server.region)
    files = open_file_store("s3://stored", tmp_path / "incoming")
    elsewhere = Installation(town.installation.settings, town.database, files)
    with served(elsewhere) as url:
        response = Api(url, tokens["viewer"]).get(f"documents/{document_id}/content")
    assert response.content == content
    assert isinstance(town.installation.files, LocalFiles)
    town.process()


def test_a_review_over_the_api(api: Api, town: Town) -> None:
    complaint = new_complaint(town, "api-review.txt")
    seen = api.get(f"documents/{complaint}").json()["revision"]
    body = {"action": "correct", "revision": seen, "fields": {"address": "9 Main St"}}
    after = api.post(f"documents/{complaint}/review", body)
    assert after.status_code == 200
    assert after.json()["status"] == "routed"
    assert after.json()["decision"]["by"] == "operator-ann"
    event = api.get(f"documents/{complaint}/audit").json()["events"][-1]
    assert (event["event"], event["actor"]) == ("corrected", "operator-ann")
    conflict = is_problem(api.post(f"documents/{complaint}/review", body), 409)
    assert "corrected by operator-ann" in conflict["detail"]
    later = {"action": "approve", "revision": after.json()["revision"]}
    assert "does not wait" in is_problem(api.post(f"documents/{complaint}/review", later), 409)["detail"]


@contextmanager
def interrupted(town: Town, number: int, happens: Callable[[], object]) -> Iterator[list[str]]:
    """Something happens before the statement of this number, of those that only read; these are given."""
    asked: list[str] = []

    def before(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if len(asked) <= number and not connection.get_execution_options().get("citysort_write"):
            asked.append(statement)
            if len(asked) > number:
                happens()

    sa.event.listen(town.database.engine, "before_cursor_execute", before)
    yield asked
    sa.event.remove(town.database.engine, "before_cursor_execute", before)


@pytest.mark.parametrize("path", ["api/documents/{}", "documents/{}", "review?document={}"])
def test_what_is_shown_is_what_its_revision_names(api: Api, town: Town, rules: Rules, path: str) -> None:
    """Else whoever decides on it would undo, unseen, what somebody else did while it was looked up."""
    complaint = new_complaint(town, f"{uuid.uuid4()}.txt")

    def correct(address: str) -> None:
        correction = Correction(fields={"address": address})
        review(town.database, rules, complaint, town.revision(complaint), "ben", correction)

    for number in count():
        address = f"{number + 1} Main Street"
        with interrupted(town, number, partial(correct, address)) as asked:
            shown = api.look(path.format(complaint)).text
        if len(asked) <= number:
            break
        revision = re.search(r'(?:"revision" value="|"revision":)(\d+)', shown)
        assert revision
        if int(revision[1]) == town.revision(complaint):
            fields = re.search(r'"fields":\{[^}]*|id="field-address"[^>]*|<dt>Address</dt>.*', shown)
            assert fields and address in fields[0], asked
    assert number > 3


@pytest.mark.parametrize("path", ["api/documents/{}", "documents/{}", "review?document={}"])
def test_a_text_that_is_read_at_the_moment_breaks_no_page(api: Api, town: Town, path: str) -> None:
    complaint = new_complaint(town, f"{uuid.uuid4()}.txt")
    text = {"document_id": complaint, "text": "Noise.", "truncated": False}

    def forget(connection: sa.Connection) -> None:
        connection.execute(sa.delete(DocumentText).where(DocumentText.document_id == complaint))

    def keep() -> None:
        town.database.write(lambda connection: connection.execute(sa.insert(DocumentText).values(text)))

    for number in count():
        town.database.write(forget)
        with interrupted(town, number, keep) as asked:
            assert api.look(path.format(complaint)).status_code == 200, asked
        if len(asked) <= number:
            break


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "correct", "doc_type": "poem"},
        {"action": "correct", "department": "Bakery"},
        {"action": "correct", "fields": {"shoe_size": "42"}},
        {"action": "correct", "fields": {"address": "a\0b"}},
        {"action": "correct", "fields": {"address": 1}},
        {"action": "approve", "doc_type": "complaint"},
        {"action": "burn"},
        {"action": "approve", "revision": -1},
        {"action": "approve", "confidence": 1},
        {"action": "correct", "doc_type": "\ud800"},
    ],
)
def test_reviews_that_make_no_sense_are_problems(api: Api, permit: str, changes: Mapping[str, Any]) -> None:
    is_problem(api.post(f"documents/{permit}/review", {"revision": 1, **changes}), 422)


def test_processing_again_over_the_api(api: Api, town: Town) -> None:
    complaint = new_complaint(town, "api-again.txt")
    response = api.post(f"documents/{complaint}/reprocess")
    assert (response.status_code, response.json()["stage"]) == (202, "imported")
    assert response.json()["text"] is None
    is_problem(api.post(f"documents/{complaint}/reprocess", {}), 409)
    is_problem(api.post(f"documents/{uuid.uuid4()}/reprocess"), 404)
    town.process()
    assert town.document(complaint).status == "needs_review"
    is_problem(api.post(f"documents/{complaint}/reprocess", {"revision": 1}), 409)


def test_viewers_look_and_operators_decide(
    town: Town, town_url: str, tokens: Mapping[str, str], permit: str
) -> None:
    viewer = Api(town_url, tokens["viewer"])
    assert viewer.get(f"documents/{permit}").status_code == 200
    for what, body in (("review", {"action": "approve", "revision": 1}), ("reprocess", None)):
        is_problem(viewer.post(f"documents/{permit}/{what}", body), 403)
    nobody = Api(town_url)
    for path in (
        "documents",
        f"documents/{permit}",
        f"documents/{permit}/content",
        f"documents/{permit}/audit",
    ):
        is_problem(nobody.get(path), 401)
    is_problem(nobody.post(f"documents/{permit}/review", {"action": "approve", "revision": 1}), 401)
