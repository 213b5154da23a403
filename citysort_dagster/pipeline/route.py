"""Where a classified document goes, until when, and whether a person has to look first."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Literal, NamedTuple

from citysort_dagster.days import LAST
from citysort_dagster.pipeline.classify import Classification
from citysort_dagster.pipeline.rules import OTHER, DocumentType, Rules


class Routing(NamedTuple):
    """The decision on a document. `due_date` is in UTC; `reasons` are sentences, none when routed."""

    status: Literal["routed", "needs_review"]
    department: str
    due_date: date
    reasons: list[str]


def route(
    extraction_problem: str | None,
    classification: Classification | None,
    rules: Rules,
    imported_at: datetime,
    modified_at: datetime | None = None,
) -> Routing:
    """Routes to the department's queue, or to review with every reason that speaks for it.

    A document without classification (nothing could be read) is General Intake's. Raises ValueError
    for times without time zone.
    """
    found = rules.document_types.get(classification.doc_type if classification else OTHER)
    document_type = found or rules.document_types[OTHER]
    reasons = [extraction_problem] if extraction_problem else []
    if classification is not None:
        if classification.confidence < rules.confidence_threshold:
            reasons.append(
                f"The type {classification.doc_type} is not certain enough: "
                f"{classification.confidence:g}, and {rules.confidence_threshold:g} is needed."
            )
        reasons += [f"The {name.replace('_', ' ')} is missing." for name in classification.missing_fields]
    elif not reasons:
        reasons.append("The document has not been classified.")
    return Routing(
        status="needs_review" if reasons else "routed",
        department=document_type.department,
        due_date=due_date(document_type, imported_at, modified_at),
        reasons=reasons,
    )


def due_date(document_type: DocumentType, imported_at: datetime, modified_at: datetime | None) -> date:
    """The day of receipt (UTC) plus the SLA days of the document type, calendar days.

    A document is received when it was last modified at its source; one without a date there, or with
    one past `LAST`, when it was imported. Raises ValueError for times without time zone.
    """
    received_at = imported_at if modified_at is None or modified_at.date() > LAST else modified_at
    if received_at.tzinfo is None:
        raise ValueError("the time of receipt needs a time zone")
    return received_at.astimezone(timezone.utc).date() + timedelta(days=document_type.sla_days)
