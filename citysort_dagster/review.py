"""What people decide on documents: approve, correct, have them processed again.

Each decision is one transaction with an audit event that says who changed what from what to what.
It names the revision of the document that its maker has seen, the number of the document's last
audit event: where somebody else, or the pipeline, was quicker, nothing is changed.

A decision holds. Whoever decided has looked at exactly these bytes, so rules that change later
cannot overrule them: processing a document again reads its text anew and looks for fields anew, but
keeps the type, the department and the fields that a person set, and does not ask for a review again.
A later version of the document has other bytes; it is a document of its own that starts afresh.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import sqlalchemy as sa

from citysort_dagster.document_list import UnknownDocument, as_values, plain
from citysort_dagster.pipeline.classify import Classification
from citysort_dagster.pipeline.route import Routing, due_date
from citysort_dagster.pipeline.rules import URGENCIES, FieldName, Rules
from citysort_dagster.store.database import Database
from citysort_dagster.store.document_words import forget_words
from citysort_dagster.store.models import AuditEvent, Document, DocumentText
from citysort_dagster.store.sync_log import audit, is_storable, storable_text

FIELDS = (*get_args(FieldName), "currency")
LONGEST_FIELD = 500

APPROVED, CORRECTED, REPROCESS = "approved", "corrected", "sent back to processing"


class ReviewConflict(Exception):
    """The document is no longer what the person has seen, or there is nothing to decide; one sentence."""


class CorrectionInvalid(ValueError):
    """A correction that cannot be: one sentence. `field` is the part of it that is meant."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Correction:
    """What is to be changed; None leaves it as it is.

    A type without a department brings its own department with it. An empty field is removed.
    """

    doc_type: str | None = None
    department: str | None = None
    fields: Mapping[str, str] | None = None


def departments(rules: Rules) -> Sequence[str]:
    """The departments that documents are routed to, by name."""
    return sorted({document_type.department for document_type in rules.document_types.values()})


def waiting(database: Database) -> Mapping[str, int]:
    """How many documents wait for review, by department. Raises DatabaseError."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(sa.func.coalesce(Document.department, ""), sa.func.count())
            .where(*_is_waiting(None))
            .group_by(Document.department)
            .order_by(Document.department)
        )
        return dict(rows.tuples().all())


def queue(database: Database, department: str | None, limit: int) -> Sequence[dict[str, Any]]:
    """The documents that wait for the review of a department, or of all: the most urgent first, then
    those that are due first. Raises DatabaseError."""
    urgency = sa.case(
        {name: rank for rank, name in enumerate(reversed(URGENCIES))},
        value=Document.urgency,
        else_=len(URGENCIES),
    )
    with database.read() as connection:
        rows = connection.execute(
            sa.select(Document)
            .where(*_is_waiting(department))
            .order_by(urgency, Document.due_date, Document.id)
            .limit(limit)
        )
        return [as_values(row) for row in rows]


def _is_waiting(department: str | None) -> list[sa.ColumnElement[bool]]:
    conditions = [Document.status == "needs_review", Document.superseded_by.is_(None)]
    if department is not None:
        conditions.append(Document.department == department)
    return conditions


def review(
    database: Database,
    rules: Rules,
    document_id: str,
    revision: int,
    actor: str,
    correction: Correction | None = None,
) -> dict[str, Any]:
    """Approves a document as it is, or corrects it; either way it then is in its department's queue.

    Returns the document as it is now. A document that waits for review can be approved, any that
    has been processed can be corrected. With another type the due date becomes that of the type.
    Raises UnknownDocument, ReviewConflict, CorrectionInvalid, DatabaseError.
    """
    if correction is not None:
        _check(correction, rules)
    reference = uuid.uuid4().hex

    def decide(connection: sa.Connection) -> dict[str, Any]:
        document, last = _lock(connection, document_id)
        if last is not None and last.details.get("reference") == reference:
            return as_values(document)  # done, but the database's answer was lost
        _require_latest(last, revision)
        if document.stage != "queued":
            raise ReviewConflict("This document is being processed at the moment: look again in a minute.")
        if document.superseded_by is not None:
            raise ReviewConflict("A later version has taken the place of this document: decide on that one.")
        changes, set_fields = _changes(document, correction, rules)
        if not changes and document.status != "needs_review":
            raise ReviewConflict("This document does not wait for review, and this changes nothing of it.")
        former = document.decision or {"fields": {}}
        decision = {
            "doc_type": changes.get("doc_type", document.doc_type),
            "department": changes.get("department", document.department),
            "fields": {**former["fields"], **set_fields},
            "by": actor,
        }
        after = {**changes, "status": "routed"}
        before = {name: getattr(document, name) for name in after if getattr(document, name) != after[name]}
        values = {**after, "confidence": 1.0, "review_reasons": [], "decision": decision}
        connection.execute(sa.update(Document).where(Document.id == document_id).values(**values))
        details = {
            "before": _plain(before),
            "after": _plain({name: after[name] for name in before}),
            "reasons": document.review_reasons,
            "reference": reference,
        }
        _audit(connection, document, CORRECTED if changes else APPROVED, actor, details)
        return _document(connection, document_id)

    return database.write(decide)


def reprocess(
    database: Database, document_id: str, actor: str, revision: int | None = None, forget: bool = False
) -> dict[str, Any]:
    """Puts a document back to the beginning of the ingestion pipeline, which takes it up within minutes.

    What a person decided holds, unless it is to be forgotten. Without a revision, whatever happened
    to the document meanwhile. Raises UnknownDocument, ReviewConflict, DatabaseError.
    """

    def put_back(connection: sa.Connection) -> dict[str, Any]:
        document, last = _lock(connection, document_id)
        if revision is not None:
            _require_latest(last, revision)
        if document.stage != "queued":
            raise ReviewConflict("This document is being processed already.")
        values: dict[str, Any] = {"stage": "imported", "status": "ingested", "review_reasons": []}
        if forget:
            values["decision"] = None
        connection.execute(sa.update(Document).where(Document.id == document_id).values(**values))
        connection.execute(sa.delete(DocumentText).where(DocumentText.document_id == document_id))
        forget_words(connection, [document_id])
        forgotten = document.decision if forget else None
        _audit(connection, document, REPROCESS, actor, {"forgotten": forgotten} if forgotten else {})
        return _document(connection, document_id)

    return database.write(put_back)


def uphold(decision: Mapping[str, Any], found: Classification, rules: Rules) -> Classification:
    """The classification with what a person decided in place of what was found."""
    fields: dict[str, str] = {**found.fields, **decision["fields"]}
    kept = {name: value for name, value in fields.items() if value}
    document_type = rules.document_types.get(decision["doc_type"])
    required = document_type.required_fields if document_type else ()
    return Classification(
        decision["doc_type"],
        decision["department"],
        1.0,
        found.urgency,
        kept,
        tuple(name for name in required if not kept.get(name)),
    )


def routed_by(decision: Mapping[str, Any], routing: Routing) -> Routing:
    """The routing of a document that a person has decided on: into the queue that they chose."""
    return routing._replace(status="routed", department=decision["department"], reasons=[])


def _check(correction: Correction, rules: Rules) -> None:
    if correction.doc_type is not None and correction.doc_type not in rules.document_types:
        raise CorrectionInvalid(
            "doc_type",
            f"There is no document type {correction.doc_type!r}; the rules name those that there are.",
        )
    if correction.department is not None and correction.department not in departments(rules):
        raise CorrectionInvalid(
            "department",
            f"There is no department {correction.department!r}; the rules name those that there are.",
        )
    for name, value in (correction.fields or {}).items():
        if name not in FIELDS:
            raise CorrectionInvalid(
                f"fields.{storable_text(name)}",
                f"There is no field {name!r}; there are: {', '.join(FIELDS)}.",
            )
        if len(value) > LONGEST_FIELD or any(character < " " for character in value):
            raise CorrectionInvalid(
                f"fields.{name}",
                f"The {name.replace('_', ' ')} may have {LONGEST_FIELD} characters at most, on one line.",
            )
        if not is_storable(value):  # JSON can name half a character, which no page could show
            raise CorrectionInvalid(f"fields.{name}", f"The {name.replace('_', ' ')} is not text.")


def _changes(
    document: sa.Row[Any], correction: Correction | None, rules: Rules
) -> tuple[dict[str, Any], dict[str, str | None]]:
    """The columns to which a correction gives other values, and the fields that it sets or removes."""
    if correction is None:
        return {}, {}
    wanted: dict[str, Any] = {}
    if correction.doc_type not in (None, document.doc_type):
        document_type = rules.document_types[str(correction.doc_type)]
        wanted["doc_type"] = correction.doc_type
        wanted["department"] = document_type.department
        wanted["due_date"] = due_date(document_type, document.imported_at, document.source_modified_at)
    if correction.department is not None:
        wanted["department"] = correction.department
    stripped = {name: value.strip() or None for name, value in (correction.fields or {}).items()}
    set_fields = {name: value for name, value in stripped.items() if value != document.fields.get(name)}
    if set_fields:
        wanted["fields"] = {name: value for name, value in {**document.fields, **set_fields}.items() if value}
    return {name: value for name, value in wanted.items() if value != getattr(document, name)}, set_fields


def _lock(connection: sa.Connection, document_id: str) -> tuple[sa.Row[Any], sa.Row[Any] | None]:
    """A document that nobody else changes until the transaction ends, and its last audit event."""
    document = connection.execute(
        sa.select(Document).where(Document.id == document_id).with_for_update()
    ).first()
    if document is None:
        raise UnknownDocument(f"there is no document {document_id}")
    last = connection.execute(
        sa.select(AuditEvent)
        .where(AuditEvent.document_id == document_id)
        .order_by(AuditEvent.id.desc())
        .limit(1)
    ).first()
    return document, last


def _require_latest(last: sa.Row[Any] | None, revision: int) -> None:
    if last is not None and last.id != revision:
        raise ReviewConflict(
            f"The document has changed since you looked at it: {last.event} by {last.actor} on"
            f" {last.at:%Y-%m-%d at %H:%M} UTC. Look at it again before you decide."
        )


def _audit(
    connection: sa.Connection, document: sa.Row[Any], event: str, actor: str, details: Mapping[str, Any]
) -> None:
    happened = {"event": event, "document_id": document.id, "source": document.source, "details": details}
    audit(connection, [happened], actor)


def _document(connection: sa.Connection, document_id: str) -> dict[str, Any]:
    return as_values(connection.execute(sa.select(Document).where(Document.id == document_id)).one())


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items()}
