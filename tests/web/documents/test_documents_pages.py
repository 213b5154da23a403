"""The pages of documents and of review, asked for without a browser: what they refuse, and how."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from citysort_dagster import api_tokens
from citysort_dagster.store.models import Document
from tests.web.documents.conftest import found_town
from tests.web.documents.serving import served
from tests.web.documents.town import COMPLAINT, Town


class Visitor:
    """A browser session, without the browser."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        signed_in = self.post("/sign-in", {"token": token})
        assert signed_in.status_code == 303, signed_in.text

    def get(self, path: str) -> requests.Response:
        return self._session.get(self._url + path, timeout=30, allow_redirects=False)

    def post(
        self, path: str, form: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        return self._session.post(
            self._url + path, data=form, timeout=30, allow_redirects=False, headers=headers
        )

    def hidden(self, path: str) -> dict[str, str]:
        """What the forms of a page send along unseen."""
        page = self.get(path).text
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


@pytest.fixture(scope="module")
def closed_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("pages")
    with found_town(folder, f"sqlite:///{folder / 'citysort.db'}") as town:
        yield town


@pytest.fixture(scope="module")
def visitors(closed_town: Town) -> Iterator[Mapping[str, Visitor]]:
    with served(closed_town.installation) as url:
        yield {
            role: Visitor(url, api_tokens.create(closed_town.database, f"a.{role}", role, "test"))
            for role in api_tokens.ROLES
        }


@pytest.fixture
def operator(visitors: Mapping[str, Visitor]) -> Visitor:
    return visitors["operator"]


@pytest.fixture
def complaint(closed_town: Town) -> str:
    document_id = closed_town.bring(f"{uuid.uuid4()}.txt", COMPLAINT)
    closed_town.process()
    return document_id


def test_a_form_without_its_token_is_refused(operator: Visitor, complaint: str, closed_town: Town) -> None:
    form = operator.hidden(f"/review?document={complaint}")
    assert re.fullmatch("[0-9a-f]{64}", form["csrf_token"])
    for forged in ({}, {"csrf_token": ""}, {"csrf_token": "0" * 64}):
        sent = {"revision": form["revision"], **forged}
        assert operator.post(f"/review/{complaint}", sent).status_code == 403
        assert operator.post(f"/documents/{complaint}/reprocess", sent).status_code == 403
    from_elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert operator.post(f"/review/{complaint}", form, from_elsewhere).status_code == 403
    assert closed_town.document(complaint).status == "needs_review"
    assert operator.post(f"/review/{complaint}", form).status_code == 303
    assert closed_town.document(complaint).status == "routed"


def test_a_viewer_decides_nothing(visitors: Mapping[str, Visitor], complaint: str, closed_town: Town) -> None:
    viewer = visitors["viewer"]
    form = viewer.hidden(f"/review?document={complaint}")
    assert viewer.post(f"/review/{complaint}", form).status_code == 403
    assert viewer.post(f"/documents/{complaint}/reprocess", form).status_code == 403
    assert "Process again" not in viewer.get(f"/documents/{complaint}").text
    assert closed_town.document(complaint).status == "needs_review"


@pytest.mark.parametrize("revision", ["", "x", "-1", "1e3", "9" * 30, "\u0663"])
def test_a_revision_that_is_no_number_is_refused(operator: Visitor, complaint: str, revision: str) -> None:
    form = {**operator.hidden(f"/review?document={complaint}"), "revision": revision}
    assert operator.post(f"/review/{complaint}", form).status_code in (409, 422)
    assert operator.post(f"/documents/{complaint}/reprocess", form).status_code in (409, 422)


@pytest.mark.parametrize(
    "changes",
    [
        {"doc_type": "<script>"},
        {"department": "x" * 5_000},
        {"field.address": "a\0b"},
        {"field.address": "x" * 600},
        {"field.no_such": "x", "doc_type": "no"},
    ],
)
def test_what_makes_no_sense_changes_nothing_but_is_shown(
    operator: Visitor, complaint: str, changes: Mapping[str, str], closed_town: Town
) -> None:
    form = operator.hidden(f"/review?document={complaint}")
    answer = operator.post(f"/review/{complaint}", {**form, **changes})
    assert answer.status_code == 422
    assert "<script>" not in answer.text.partition("</head>")[2]
    assert closed_town.document(complaint).status == "needs_review"


@pytest.mark.parametrize(
    ("is_shown", "department"), [("yes", "Code Enforcement"), ("", "City Clerk"), ("no", "City Clerk")]
)
def test_the_department_that_is_shown_is_meant_and_else_that_of_the_type(
    operator: Visitor, complaint: str, closed_town: Town, is_shown: str, department: str
) -> None:
    form = {
        **operator.hidden(f"/review?document={complaint}"),
        "doc_type": "foi_request",
        "department": "Code Enforcement",
        "department_is_shown": is_shown,
    }
    assert operator.post(f"/review/{complaint}", form).status_code == 303
    after = closed_town.document(complaint)
    assert (after.doc_type, after.department) == ("foi_request", department)


def test_a_document_of_a_department_that_the_rules_name_no_more_can_be_approved(
    operator: Visitor, complaint: str, closed_town: Town
) -> None:
    closed_town.change(complaint, {"department": "Nuisance Office"})
    form = {
        **operator.hidden(f"/review?document={complaint}"),
        "doc_type": "complaint",
        "department": "Nuisance Office",
        "department_is_shown": "yes",
    }
    assert operator.post(f"/review/{complaint}", form).status_code == 303
    after = closed_town.document(complaint)
    assert (after.status, after.department) == ("routed", "Nuisance Office")


def test_a_queue_leads_from_one_document_to_the_next(operator: Visitor, closed_town: Town) -> None:
    ids = {closed_town.bring(f"queue-{number}.txt", COMPLAINT, "queued") for number in range(3)}
    closed_town.process()
    address = "/review?department=Code+Enforcement"
    decided = set()
    while waiting := re.search(r'action="/review/([0-9a-f-]{36})"', operator.get(address).text):
        form = operator.hidden(address)
        answer = operator.post(f"/review/{waiting[1]}", form)
        assert answer.status_code == 303
        assert "department=Code+Enforcement" in answer.headers["Location"]
        decided.add(waiting[1])
        address = answer.headers["Location"]
    assert ids <= decided
    assert "Nothing to review for Code Enforcement" in operator.get(address).text


@pytest.mark.parametrize("path", ["/documents/{}", "/documents/{}/", "/review?document={}"])
@pytest.mark.parametrize(
    "name", ["x", "%00", "..%2f..%2fetc", str(uuid.UUID(int=7)), "<script>alert(1)</script>"]
)
def test_unknown_documents_are_pages_without_scripts(operator: Visitor, path: str, name: str) -> None:
    answer = operator.get(path.format(name))
    assert answer.status_code in (200, 307, 404, 422)
    assert "<script>alert" not in answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_origin_names_the_system_as_people_do_and_leaves_out_what_is_empty(
    operator: Visitor, complaint: str, closed_town: Town
) -> None:
    told = {"library": "Permits", "folder": "", "pages": 0}
    stored = sa.update(Document).where(Document.id == complaint)
    stored = stored.values(connector_type="sharepoint", source_metadata=told)
    closed_town.database.write(lambda connection: connection.execute(stored))
    page = operator.get(f"/documents/{complaint}").text
    assert ">SharePoint" in page
    assert "<dt>Library</dt>" in page and "<dt>Pages</dt>" in page
    assert "<dt>Folder</dt>" not in page
