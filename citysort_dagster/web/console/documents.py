"""Pages of the console: the documents, and one document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated
from urllib.parse import quote, urlencode, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from citysort_dagster.api_tokens import Role
from citysort_dagster.document_list import DocumentFilter, find_document
from citysort_dagster.document_search import (
    CursorInvalid,
    DocumentPage,
    count_documents,
    excerpts,
    search_documents,
    source_names,
)
from citysort_dagster.installation import Installation
from citysort_dagster.lineage import lineage
from citysort_dagster.reload import running_url
from citysort_dagster.review import ReviewConflict, departments, reprocess
from citysort_dagster.web.access import Caller, Operator, Viewer
from citysort_dagster.web.api.documents import DocumentId, text_preview
from citysort_dagster.web.dependencies import TheInstallation, TheRules
from citysort_dagster.web.systems import system_of
from citysort_dagster.web.templating import page

router = APIRouter(include_in_schema=False)

PAGE = 50
MOST_COUNTED = 1_000
STATUSES = {
    "needs_review": "Needs review",
    "routed": "Routed",
    "ingested": "In processing",
    "failed": "Failed",
}
FILTERS = ("q", "source", "department", "type", "status", "from", "to", "all")


@router.get("/documents")
def show_documents(
    request: Request, caller: Viewer, installation: TheInstallation, rules: TheRules
) -> HTMLResponse:
    """The documents that a search finds, page by page. What makes no sense in the address is ignored,
    except for dates, of which the page says so."""
    asked = {
        name: request.query_params.get(name, "").replace("\0", "")[:200] for name in (*FILTERS, "cursor")
    }
    errors: dict[str, str] = {}
    chosen = DocumentFilter(
        source=asked["source"] or None,
        department=asked["department"] or None,
        doc_type=asked["type"] or None,
        status=asked["status"] if asked["status"] in STATUSES else None,
        imported_from=_day(asked, "from", errors),
        imported_to=_day(asked, "to", errors),
        current=not asked["all"],
        words=asked["q"].strip() or None,
    )
    found = DocumentPage([], None)
    count = 0
    if not errors:
        try:
            found = search_documents(installation.database, chosen, PAGE, asked["cursor"] or None)
        except CursorInvalid:
            asked["cursor"] = ""
            found = search_documents(installation.database, chosen, PAGE)
        count = count_documents(installation.database, chosen, MOST_COUNTED + 1)
    return page(
        request,
        "documents.html",
        asked=asked,
        errors=errors,
        documents=found.documents,
        excerpts=excerpts(
            installation.database, [document["id"] for document in found.documents], asked["q"]
        ),
        next=found.next,
        query=urlencode({name: asked[name] for name in FILTERS if asked[name]}),
        filtered=any(asked[name] for name in FILTERS),
        count=_counted(count, bool(any(asked[name] for name in FILTERS if name != "all"))),
        sources=[(name, name) for name in source_names(installation.database)],
        departments=[(name, name) for name in departments(rules)],
        types=list(rules.document_types),
        statuses=list(STATUSES.items()),
        dagster_url=running_url(installation.settings),
    )


@router.get("/documents/{document_id}")
def show_document(
    request: Request, caller: Viewer, installation: TheInstallation, document_id: str, again: str = ""
) -> HTMLResponse:
    """All that is known of a document; the beginning of its id is enough."""
    message = None
    if again:
        message = {"kind": "ok", "text": "The document will be processed again within minutes."}
    return _document_page(request, caller, installation, document_id, message)


@router.post("/documents/{document_id}/reprocess")
def process_again(
    request: Request,
    caller: Operator,
    installation: TheInstallation,
    document_id: DocumentId,
    revision: Annotated[int, Form(ge=0)],
) -> Response:
    """Puts a document back to the beginning of the pipeline."""
    try:
        reprocess(installation.database, document_id, caller.actor, revision)
    except ReviewConflict as conflict:
        message = {"kind": "bad", "text": str(conflict)}
        response = _document_page(request, caller, installation, document_id, message)
        response.status_code = 409
        return response
    return RedirectResponse(f"/documents/{document_id}?again=yes", status_code=303)


def _document_page(
    request: Request,
    caller: Caller,
    installation: Installation,
    document_id: str,
    message: Mapping[str, str] | None,
) -> HTMLResponse:
    url = running_url(installation.settings)
    document = lineage(installation.database, find_document(installation.database, document_id), url)
    return page(
        request,
        "document.html",
        document=document,
        system=system_of(document["connector_type"]).title,
        revision=document["events"][-1]["id"] if document["events"] else 0,
        preview=text_preview(installation, document["id"]),
        link=safe_link(document["source_url"]),
        may_decide=caller.role >= Role.operator,
        message=message,
        dagster_url=url,
    )


def safe_link(address: str | None) -> str | None:
    """An address that a page may link to: of the web, not a script; else None."""
    try:
        parts = urlsplit(address or "")
    except ValueError:
        return None
    return (
        quote(address, safe=":/?#[]@!$&'()*+,;=%-._~")
        if address and parts.scheme in ("http", "https")
        else None
    )


def _counted(count: int, filtered: bool) -> str:
    number = f"More than {MOST_COUNTED:,}" if count > MOST_COUNTED else f"{count:,}"
    return f"{number} {'document' if count == 1 else 'documents'}{' found' if filtered else ''}"


def _day(asked: dict[str, str], name: str, errors: dict[str, str]) -> date | None:
    if not asked[name]:
        return None
    try:
        day = date.fromisoformat(asked[name])
    except ValueError:
        day = None
    if day is None or not 1900 <= day.year < 3000:
        errors[name] = f"{asked[name]} is not a date like 2026-05-31."
        asked[name] = ""
        return None
    return day
