"""Pages of the console: the documents that wait for a person, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from citysort_dagster.api_tokens import Role
from citysort_dagster.document_list import UnknownDocument, find_document
from citysort_dagster.installation import Installation
from citysort_dagster.lineage import lineage
from citysort_dagster.pipeline.rules import Rules
from citysort_dagster.reload import running_url
from citysort_dagster.review import (
    CORRECTED,
    FIELDS,
    Correction,
    CorrectionInvalid,
    ReviewConflict,
    departments,
    queue,
    review,
    waiting,
)
from citysort_dagster.web.access import Caller, Operator, Viewer
from citysort_dagster.web.api.documents import DocumentId, text_preview
from citysort_dagster.web.dependencies import TheInstallation, TheRules
from citysort_dagster.web.problems import Problem
from citysort_dagster.web.templating import page

router = APIRouter(include_in_schema=False)

NEARBY = 200
"""Documents of a queue among which the next and the previous one are found."""


@router.get("/review")
def show_review(
    request: Request,
    caller: Viewer,
    installation: TheInstallation,
    rules: TheRules,
    department: str = "",
    document: str = "",
    done: str = "",
) -> HTMLResponse:
    """The next document of a queue, or one that is asked for."""
    message = _message(installation, done) if done else None
    return _review_page(request, caller, installation, rules, _queue(department), document, message)


async def _sent(request: Request) -> FormData:
    return await request.form(max_files=0, max_fields=50)


@router.post("/review/{document_id}")
def decide(
    request: Request,
    caller: Operator,
    installation: TheInstallation,
    rules: TheRules,
    document_id: DocumentId,
    sent: Annotated[FormData, Depends(_sent)],
) -> Response:
    """Approves a document with the values of the form: those that differ are corrections."""
    values = {name: value for name, value in sent.items() if isinstance(value, str)}
    revision = values.get("revision", "")
    if not revision.isdecimal() or len(revision) > 18:
        raise Problem(422, "Not understood", "The form is not complete: load the page again.")
    document = find_document(installation.database, document_id)
    doc_type, department = values.get("doc_type"), values.get("department")
    other_type = doc_type if doc_type != document["doc_type"] else None
    # Only the script of the page shows the department that another type brings. Without it, one that stays as it
    # was has not been chosen.
    chosen = department != document["department"] or (
        other_type is not None and values.get("department_is_shown") == "yes"
    )
    correction = Correction(
        other_type,
        department if chosen else None,
        {name: values[f"field.{name}"] for name in FIELDS if f"field.{name}" in values},
    )
    at = _queue(values.get("queue", ""))
    try:
        review(installation.database, rules, document_id, int(revision), caller.actor, correction)
    except CorrectionInvalid as error:
        message = {"kind": "bad", "text": str(error)}
        asked = {
            "doc_type": doc_type or document["doc_type"],
            "department": department or document["department"],
            "fields": {name: values.get(f"field.{name}", "") for name in FIELDS},
        }
        response = _review_page(
            request, caller, installation, rules, at, document_id, message, asked, {error.field: str(error)}
        )
        response.status_code = 422
        return response
    except ReviewConflict as conflict:
        message = {"kind": "bad", "text": str(conflict)}
        response = _review_page(request, caller, installation, rules, at, document_id, message)
        response.status_code = 409
        return response
    next_id = values.get("next", "")
    return RedirectResponse(_address(at, next_id, done=document_id), status_code=303)


def _review_page(
    request: Request,
    caller: Caller,
    installation: Installation,
    rules: Rules,
    department: str | None,
    document_id: str,
    message: Mapping[str, Any] | None,
    asked: Mapping[str, Any] | None = None,
    errors: Mapping[str, str] | None = None,
) -> HTMLResponse:
    database = installation.database
    counts = waiting(database)
    nearby = queue(database, department, NEARBY)
    ids = [row["id"] for row in nearby]
    document = _asked_for(installation, document_id) if document_id else None
    if document is None and nearby:
        document = nearby[0]
    known = None
    place = None
    if document is not None:
        known = document = lineage(database, document)
        place = ids.index(document["id"]) if document["id"] in ids else None
        asked = asked or {
            "doc_type": document["doc_type"],
            "department": document["department"],
            "fields": {name: document["fields"].get(name, "") for name in FIELDS},
        }
    next_id = ids[place + 1] if place is not None and place + 1 < len(ids) else None
    if place is None and ids:
        next_id = ids[0]
    previous_id = ids[place - 1] if place else None
    document_type = rules.document_types.get(document["doc_type"]) if document else None
    required = document_type.required_fields if document_type else ()
    return page(
        request,
        "review.html",
        document=document,
        revision=known["events"][-1]["id"] if known and known["events"] else 0,
        preview=text_preview(installation, document["id"]) if document else "",
        asked=asked,
        errors=errors or {},
        missing=[name for name in required if document and not document["fields"].get(name)],
        fields=FIELDS,
        types={name: found.department for name, found in rules.document_types.items()},
        departments=departments(rules),
        department=department,
        waiting=counts,
        waiting_here=sum(counts.values()) if department is None else counts.get(department, 0),
        total=sum(counts.values()),
        position=place + 1 if place is not None else None,
        next=_address(department, next_id) if next_id else None,
        next_id=next_id,
        previous=_address(department, previous_id) if previous_id else None,
        may_decide=caller.role >= Role.operator,
        message=message,
        dagster_url=running_url(installation.settings),
    )


def _asked_for(installation: Installation, document_id: str) -> dict[str, Any] | None:
    """A document that is asked for by its id; None for one that is not there."""
    try:
        found = find_document(installation.database, document_id)
    except UnknownDocument:
        return None
    return found if found["stage"] == "queued" else None


def _message(installation: Installation, document_id: str) -> Mapping[str, Any] | None:
    """What has just been decided on a document."""
    document = _asked_for(installation, document_id)
    if document is None or document["status"] != "routed":
        return None
    events = lineage(installation.database, document)["events"]
    what = "Corrected" if events and events[-1]["event"] == CORRECTED else "Approved"
    text = f"{what}: {document['filename']} is in the queue of {document['department']}."
    return {"kind": "ok", "text": text, "document": document["id"]}


def _queue(department: str) -> str | None:
    return department.replace("\0", "")[:200] or None


def _address(department: str | None, document_id: str | None, **more: str) -> str:
    parts = {"department": department, "document": document_id, **more}
    return "/review?" + urlencode({name: value for name, value in parts.items() if value})
