"""Reconciliation as Dagster sees it: an asset that holds sources against the sync log, every week."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from citysort_dagster.installation import Installation
from citysort_dagster.reconcile import MAX_LOST_SHARE, Reconciliation, reconcile
from citysort_dagster.source_assets import SourceConnector
from citysort_dagster.source_configs import load_sources
from connectors.base import ConnectorError

RECONCILIATION = dg.AssetKey("reconciliation")
RECONCILIATION_JOB = "reconcile"


class ReconciliationConfig(dg.Config):
    """What a person may choose when launching a reconciliation."""

    sources: list[str] = Field(default_factory=list, description="Their names. Empty: every enabled source.")
    max_lost_share: float = Field(
        default=MAX_LOST_SHARE,
        ge=0,
        le=1,
        description="When more than this share of a source's documents is missing at once, none is marked.",
    )


@dg.asset(
    key=RECONCILIATION,
    group_name="records",
    kinds={"python"},
    required_resource_keys={"installation"},
    pool="reconciliation",
    description="Lists every source whole and marks documents that are gone from it with a tombstone. "
    "Nothing is ever removed.",
)
def reconciliation(
    context: dg.AssetExecutionContext, config: ReconciliationConfig
) -> dg.MaterializeResult[None]:
    """Reconciles one source after the other; fails in the end if one of them could not be."""
    installation: Installation = context.resources.installation
    names = config.sources or [
        source.name for source in load_sources(installation.database) if source.enabled
    ]
    found = [_reconcile(context, installation, name, config.max_lost_share) for name in names]
    metadata: dict[str, Any] = {
        "gone": sum(one.gone for one in found if one.refusal is None),
        "returned": sum(one.returned for one in found),
        "missed": sum(one.missed for one in found),
        "sources": dg.MetadataValue.md(_table(found)),
    }
    refused = [f"{one.source}: {one.refusal}" for one in found if one.refusal is not None]
    if refused:
        raise dg.Failure(
            f"Nothing was marked at {'; '.join(refused)}.", metadata=metadata, allow_retries=False
        )
    return dg.MaterializeResult(metadata=metadata)


def _reconcile(
    context: dg.AssetExecutionContext, installation: Installation, name: str, max_lost_share: float
) -> Reconciliation:
    try:
        with SourceConnector(name).open(installation) as connector:
            return reconcile(installation.database, name, connector, context.run.run_id, max_lost_share)
    except (ConnectorError, dg.Failure) as error:
        reason = str(error).removeprefix(f"Source {name}: ").rstrip(".")
        return Reconciliation(name, 0, 0, 0, 0, reason)


def _table(found: Sequence[Reconciliation]) -> str:
    lines = [
        f"| {one.source} | {one.listed} | {one.known} | {one.gone} | {one.returned} | {one.missed} |"
        f" {one.refusal or 'marked'} |"
        for one in found
    ]
    return "\n".join(
        [
            "| source | listed | known | gone | returned | missed | outcome |",
            "|---|--:|--:|--:|--:|--:|---|",
            *lines,
        ]
    )


reconciliation_job = dg.define_asset_job(
    RECONCILIATION_JOB,
    selection=dg.AssetSelection.assets(RECONCILIATION),
    description="Marks documents that are gone from their sources.",
)

weekly_reconciliation = dg.ScheduleDefinition(
    name="weekly_reconciliation",
    job=reconciliation_job,
    cron_schedule="0 3 * * 0",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Sunday at 03:00 UTC.",
)
