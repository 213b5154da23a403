"""What must hold of a source after each import, as asset checks; and whether it is fresh."""

from collections.abc import Collection, Iterator
from itertools import islice

import dagster as dg
import sqlalchemy as sa

from citysort_dagster.freshness import freshness
from citysort_dagster.installation import Installation
from citysort_dagster.source_configs import known_source
from citysort_dagster.store.models import Document, ImportFailure
from citysort_dagster.verify import verify_documents

NO_FAILED_DOCUMENTS = "no_failed_documents"
RECORDS_AGREE = "records_agree"
NOTHING_TWICE = "nothing_twice"
FRESH = "fresh"

SHOWN = 20


def source_check_specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of the asset of a source."""
    descriptions = {
        NO_FAILED_DOCUMENTS: "Every listed document could be imported.",
        RECORDS_AGREE: "Sync log, documents and stored files agree, down to the SHA-256. "
        "With an import: for its documents; on demand: for all of the source.",
        NOTHING_TWICE: "No document of the source is there twice.",
        FRESH: "The source was imported when its schedule said.",
    }
    return [
        dg.AssetCheckSpec(name, asset=asset, description=description)
        for name, description in descriptions.items()
    ]


def check_source(
    installation: Installation, source: str, names: Collection[str], import_run_id: str | None
) -> Iterator[dg.AssetCheckResult]:
    """What those of the checks with these names find: of the records, in those of one import, whether it
    brought documents or not; None: in all, which takes as long as the source has documents.

    Raises UnknownSource, DatabaseError.
    """
    configured = known_source(installation.database, source)
    if NO_FAILED_DOCUMENTS in names:
        yield _no_failed_documents(installation, source)
    if RECORDS_AGREE in names:
        yield _records_agree(installation, source, import_run_id)
    if NOTHING_TWICE in names:
        yield _nothing_twice(installation, source)
    if FRESH in names:
        fresh, reason = freshness(configured.schedule, configured.last_sync_at, configured.created_at)
        yield dg.AssetCheckResult(
            check_name=FRESH, passed=fresh, severity=dg.AssetCheckSeverity.WARN, description=reason
        )


def _no_failed_documents(installation: Installation, source: str) -> dg.AssetCheckResult:
    with installation.database.read() as connection:
        failed, refused = connection.execute(
            sa.select(
                sa.func.count().filter(ImportFailure.refused.is_(False)),
                sa.func.count().filter(ImportFailure.refused.is_(True)),
            ).where(ImportFailure.source == source)
        ).one()
    return dg.AssetCheckResult(
        check_name=NO_FAILED_DOCUMENTS,
        passed=failed == 0,
        description=(
            f"{failed} failed, {refused} refused by rule; `citysort failures list --source {source}` names them."
        ),
        metadata={"failed": failed, "refused": refused},
    )


def _records_agree(installation: Installation, source: str, import_run_id: str | None) -> dg.AssetCheckResult:
    found = verify_documents(installation.database, installation.files, source, import_run_id)
    shown = list(islice(found, SHOWN))
    more = sum(1 for _ in found)
    lines = [f"- {one.document_id or one.path}: {one.message}" for one in shown]
    return dg.AssetCheckResult(
        check_name=RECORDS_AGREE,
        passed=not shown,
        description=f"{len(shown) + more} disagreements; `citysort verify` names them all."
        if shown
        else None,
        metadata={"disagreements": len(shown) + more, "examples": dg.MetadataValue.md("\n".join(lines))},
    )


def _nothing_twice(installation: Installation, source: str) -> dg.AssetCheckResult:
    current = sa.and_(Document.source == source, Document.superseded_by.is_(None))
    doubled = (
        sa.select(Document.external_id)
        .where(current)
        .group_by(Document.external_id)
        .having(sa.func.count() > 1)
    )
    with installation.database.read() as connection:
        twice = connection.execute(sa.select(sa.func.count()).select_from(doubled.subquery())).scalar_one()
        documents = connection.execute(sa.select(sa.func.count()).where(current)).scalar_one()
    return dg.AssetCheckResult(
        check_name=NOTHING_TWICE, passed=twice == 0, metadata={"documents": documents, "twice": twice}
    )
