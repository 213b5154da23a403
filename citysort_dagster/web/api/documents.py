"""Endpoints of the HTTP API about documents."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from citysort_dagster.document_list import DocumentFilter, Status, find_document
from citysort_dagster.document_search import search_documents
from citysort_dagster.installation import Installation
from citysort_dagster.lineage import lineage
from citysort_dagster.reload import running_url
from citysort_dagster.review import Correction, CorrectionInvalid, review
from citysort_dagster.review import reprocess as put_back
from citysort_dagster.store.models import DocumentText
from citysort_dagster.web.access import Operator, Viewer
from citysort_dagster.web.dependencies import TheInstallation, TheRules
from citysort_dagster.web.downloads import ANY_BYTES, attachment
from citysort_dagster.web.problems import Problem

router = APIRouter(prefix="/api", tags=["documents"])

PREVIEW_CHARACTERS = 20_000

Words = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
Day = Annotated[date, Field(ge=date(1900, 1, 1), le=date(2999, 12, 31))]
DocumentId = Annotated[
    str,
    Path(
        description="The id of a document, a UUID.",
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    ),
]


class Document(BaseModel):
    """One version of a document. Times are UTC."""

    id: str
    source: str
    connector_type: str
    external_id: str = Field(description="What the source itself calls the document.")
    version: str
    filename: str
    content_type: str | None
    size: int = Field(description="Bytes.")
    sha256: str
    source_url: str | None
    source_modified_at: datetime | None
    partition: str
    run_id: str
    imported_at: datetime
    supersedes: str | None = Field(description="The id of the version before this one.")
    superseded_by: str | None = Field(description="The id of the version after this one.")
    status: str = Field(description="ingested, routed, needs_review or failed.")
    stage: str = Field(description="The last stage passed: imported, extracted, classified or queued.")
    doc_type: str | None
    confidence: float | None = Field(description="From 0 to 1; 1 where a person has decided.")
    urgency: str | None
    department: str | None
    fields: dict[str, Any] = Field(description="What was read in the document, by the name of the field.")
    review_reasons: list[str]
    due_date: date | None
    decision: dict[str, Any] | None = Field(description="What a person decided, and who.")


class DocumentPage(BaseModel):
    """Documents, those imported last first."""

    documents: list[Document]
    next: str | None = Field(description="The cursor of the page that follows; null on the last.")


class ExtractedText(BaseModel):
    """What is known of a document's text, and its beginning."""

    characters: int
    media_type: str | None
    pages: int | None
    truncated: bool = Field(description="There was more than could be kept.")
    problem: str | None = Field(description="Why a person has to look.")
    preview: str


class Version(BaseModel):
    """One of the versions of a document that were imported."""

    id: str
    version: str
    imported_at: datetime
    sha256: str
    supersedes: str | None
    superseded_by: str | None


class DocumentDetail(Document):
    """A document with its text, its versions and where it is found in Dagster."""

    revision: int = Field(description="Names the document as it is now; a review says which one it has seen.")
    source_metadata: dict[str, Any]
    source_is_configured: bool
    asset_key: str
    links: dict[str, str]
    text: ExtractedText | None
    versions: list[Version]


class AuditEvent(BaseModel):
    """Something that happened to a document."""

    id: int
    at: datetime
    event: str
    actor: str
    run_id: str | None
    details: dict[str, Any]


class AuditTrail(BaseModel):
    """All that happened to a document, in order."""

    events: list[AuditEvent]


class Review(BaseModel, extra="forbid"):
    """A person's decision on a document."""

    action: Literal["approve", "correct"]
    revision: int = Field(ge=0, description="The document as the person has seen it.")
    doc_type: Words | None = None
    department: Words | None = Field(None, description="Without one, that of the type, if the type changes.")
    fields: dict[str, str] | None = Field(
        None, description="Values by field; an empty one removes the field."
    )


class Reprocess(BaseModel, extra="forbid"):
    """How a document is to be processed again."""

    revision: int | None = Field(None, ge=0, description="Only if the document is still this one.")
    forget: bool = Field(False, description="Forget what people decided on it.")


def _chosen(
    q: Annotated[
        Words | None, Query(description="Words of the name, the id or the text; all of them.")
    ] = None,
    source: Words | None = None,
    department: Words | None = None,
    type: Annotated[Words | None, Query(description="A document type, such as foi_request.")] = None,
    status: Status | None = None,
    partition: Words | None = None,
    run: Annotated[Words | None, Query(description="Imported by this run.")] = None,
    date_from: Annotated[
        Day | None, Query(alias="from", description="Imported on this day (UTC) or later.")
    ] = None,
    date_to: Annotated[
        Day | None, Query(alias="to", description="Imported on this day (UTC) or earlier.")
    ] = None,
    current: Annotated[bool, Query(description="Without versions that later ones supersede.")] = False,
) -> DocumentFilter:
    return DocumentFilter(
        source, department, type, status, partition, run, date_from, date_to, current, q or None
    )


@router.get("/documents")
def list_documents(
    caller: Viewer,
    installation: TheInstallation,
    chosen: Annotated[DocumentFilter, Depends(_chosen)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[Words | None, Query(description="`next` of the page before.")] = None,
) -> DocumentPage:
    """Documents page by page, those imported last first; pages stay as they are while others arrive."""
    page = search_documents(installation.database, chosen, limit, cursor)
    return DocumentPage.model_validate(page._asdict())


@router.get("/documents/{document_id}")
def show_document(caller: Viewer, installation: TheInstallation, document_id: DocumentId) -> DocumentDetail:
    """A document: where it came from, what it says, and where it went."""
    return detail(installation, document_id)


@router.get(
    "/documents/{document_id}/content",
    response_class=Response,
    responses={
        200: {"content": {ANY_BYTES: {}}, "description": "The file."},
        304: {"description": "The same."},
    },
)
def download_document(
    request: Request, caller: Viewer, installation: TheInstallation, document_id: DocumentId
) -> Response:
    """The document's file as it was imported, for saving. Its ETag is its SHA-256."""
    return attachment(request, installation.files, find_document(installation.database, document_id))


@router.get("/documents/{document_id}/audit")
def audit_trail(caller: Viewer, installation: TheInstallation, document_id: DocumentId) -> AuditTrail:
    """All that happened to a document, in order: what, when, by whom."""
    document = find_document(installation.database, document_id)
    return AuditTrail.model_validate({"events": lineage(installation.database, document)["events"]})


@router.post("/documents/{document_id}/review")
def review_document(
    caller: Operator,
    installation: TheInstallation,
    rules: TheRules,
    document_id: DocumentId,
    decision: Review,
) -> DocumentDetail:
    """Approve a document as it is, or correct its type, department or fields; either way it then is in
    the queue of its department. 409 when it is no longer the one that was seen."""
    correction = None
    if decision.action == "correct":
        correction = Correction(decision.doc_type, decision.department, decision.fields)
    elif (decision.doc_type, decision.department, decision.fields) != (None, None, None):
        raise Problem(422, "Not understood", "To approve is to change nothing: `correct` takes other values.")
    try:
        review(installation.database, rules, document_id, decision.revision, caller.actor, correction)
    except CorrectionInvalid as error:
        raise Problem(
            422,
            "Not a possible correction",
            str(error),
            errors=[{"field": error.field, "message": str(error)}],
        ) from None
    return detail(installation, document_id)


@router.post("/documents/{document_id}/reprocess", status_code=202)
def reprocess_document(
    caller: Operator, installation: TheInstallation, document_id: DocumentId, how: Reprocess | None = None
) -> DocumentDetail:
    """Have a document read, classified and routed again, within minutes. What people decided holds,
    unless it is to be forgotten."""
    how = how or Reprocess(revision=None, forget=False)
    put_back(installation.database, document_id, caller.actor, how.revision, how.forget)
    return detail(installation, document_id)


def detail(installation: Installation, document_id: str) -> DocumentDetail:
    """All that is known of a document. Raises UnknownDocument, DatabaseError."""
    document = find_document(installation.database, document_id)
    known = lineage(installation.database, document, running_url(installation.settings))
    if known["text"] is not None:
        known["text"]["preview"] = text_preview(installation, document_id)
    return DocumentDetail.model_validate(
        {**known, "revision": known["events"][-1]["id"] if known["events"] else 0}
    )


def text_preview(installation: Installation, document_id: str) -> str:
    """The beginning of a document's text, empty when there is none. Raises DatabaseError."""
    with installation.database.read() as connection:
        beginning = sa.func.substr(DocumentText.text, 1, PREVIEW_CHARACTERS)
        text = connection.execute(
            sa.select(beginning).where(DocumentText.document_id == document_id)
        ).scalar()
    return text or ""
