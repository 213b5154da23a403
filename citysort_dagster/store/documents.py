"""Queries on documents on their way through the ingestion pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from citysort_dagster.store.document_words import remember_words
from citysort_dagster.store.models import Document, DocumentText
from citysort_dagster.store.sync_log import audit, now

# Named one by one, an index finds them among a million others.
_BEFORE_A_QUEUE = ("imported", "extracted", "classified")


def pending(
    connection: sa.Connection,
    stage: str,
    partitions: tuple[str | None, str | None],
    after: str,
    count: int,
    characters: int,
) -> Sequence[sa.Row[Any]]:
    """The next documents that have passed this stage and no later one, of the partitions from the first
    of these keys on, before the second; None is without bound.

    In order of id, beginning after the id `after`; with as many characters of their text, where there is one.
    """
    first, following = partitions
    return connection.execute(
        sa.select(
            Document, sa.func.substr(DocumentText.text, 1, characters).label("text"), DocumentText.problem
        )
        .join(DocumentText, DocumentText.document_id == Document.id, isouter=True)
        .where(
            Document.stage == stage,
            sa.true() if first is None else Document.partition >= first,
            sa.true() if following is None else Document.partition < following,
            Document.id > after,
        )
        .order_by(Document.id)
        .limit(count)
    ).all()


def pending_partitions(connection: sa.Connection, imported_before: datetime) -> Mapping[str, int]:
    """How many documents imported before that time have not reached a queue, by partition.

    Those that a clock ahead of the present one dated are among them.
    """
    rows = connection.execute(
        sa.select(Document.partition, sa.func.count())
        .where(
            Document.stage.in_(_BEFORE_A_QUEUE),
            sa.or_(Document.imported_at < imported_before, Document.imported_at > now()),
        )
        .group_by(Document.partition)
    )
    return dict(rows.tuples().all())


def save_texts(
    connection: sa.Connection,
    run_id: str,
    texts: Sequence[Mapping[str, Any]],
    words: Mapping[str, Sequence[str]],
) -> int:
    """Stores extracted texts, and the words by which their documents are found, by document id.

    Returns how many documents they moved on; another run may have been there first.
    """
    moved = [
        text for text in texts if _move(connection, text["document_id"], "imported", {"stage": "extracted"})
    ]
    if moved:
        connection.execute(sa.insert(DocumentText), moved)
        remember_words(connection, {text["document_id"]: words[text["document_id"]] for text in moved})
        audit(
            connection,
            [
                {
                    "event": "text extracted" if text["problem"] is None else "text not extracted",
                    "document_id": text["document_id"],
                    "run_id": run_id,
                    "details": {
                        "characters": len(text["text"]),
                        "media_type": text["media_type"],
                        "problem": text["problem"],
                    },
                }
                for text in moved
            ],
        )
    return len(moved)


def decide(
    connection: sa.Connection,
    run_id: str,
    former_stage: str,
    decisions: Sequence[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]],
) -> int:
    """Writes decisions on documents (id, event, new values, details) and returns how many counted:
    those whose document was still at the former stage."""
    counted = [
        (document_id, event, details)
        for document_id, event, values, details in decisions
        if _move(connection, document_id, former_stage, values)
    ]
    audit(
        connection,
        [
            {"event": event, "document_id": document_id, "run_id": run_id, "details": details}
            for document_id, event, details in counted
        ],
    )
    return len(counted)


def _move(connection: sa.Connection, document_id: str, former_stage: str, values: Mapping[str, Any]) -> bool:
    return (
        connection.execute(
            sa.update(Document)
            .where(Document.id == document_id, Document.stage == former_stage)
            .values(**values)
        ).rowcount
        == 1
    )
