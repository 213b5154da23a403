"""What Dagster loads: an asset, resource, checks, sensor and schedule for each source, and the
ingestion pipeline behind them. Built from the documents database, without asking any source."""

from collections.abc import Iterator

import dagster as dg

from citysort_dagster.automation import (
    COMMON_SENSORS,
    INGESTION_JOB,
    SOURCE_TAG,
    build_news_sensor,
    build_retry_sensor,
    build_source_schedule,
    import_job_name,
)
from citysort_dagster.ingestion_assets import INGESTION, build_ingestion_assets
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import name_process
from citysort_dagster.reconciliation_asset import (
    reconciliation,
    reconciliation_job,
    weekly_reconciliation,
)
from citysort_dagster.source_assets import (
    asset_key,
    build_broken_source_asset,
    build_source_asset,
    build_source_resource,
    resource_key,
)
from citysort_dagster.source_configs import SourceConfig, load_sources
from connectors.base import ConfigurationError


@dg.resource(config_schema={}, description="The documents database and the file store.")
def installation_resource(context: dg.InitResourceContext) -> Iterator[Installation]:
    """Opens the installation for one run. Every run needs it: this is where its process names itself."""
    if context.instance is not None and context.run is not None:
        name_process(context.instance, context.run)
    with open_installation() as installation:
        yield installation


def build_source(source: SourceConfig, partitions: dg.PartitionsDefinition[str]) -> dg.Definitions:
    """All that Dagster shows of one source. Its sensor and schedule exist while it is enabled."""
    asset = build_source_asset(source, partitions)
    job = dg.define_asset_job(
        import_job_name(source.name),
        selection=dg.AssetSelection.assets(asset),
        tags={SOURCE_TAG: source.name},
        description=f"Imports the source {source.name}.",
    )
    return dg.Definitions(
        assets=[asset],
        jobs=[job],
        resources={resource_key(source.name): build_source_resource(source)},
        sensors=[build_news_sensor(source)] if source.enabled else [],
        schedules=[build_source_schedule(source)] if source.enabled and source.schedule else [],
    )


def build_definitions() -> dg.Definitions:
    """The definitions for the sources as they are configured now.

    A source that cannot be shown becomes an asset that says why; the others are not affected.
    """
    with open_installation() as installation:
        sources = load_sources(installation.database)
        partitions = installation.calendar.definition()
    parts = []
    jobs = {}
    for source in sources:
        try:
            part = build_source(source, partitions)
            parts.append(part)
            jobs[source.name] = next(iter(part.jobs or ()))
        except (ConfigurationError, dg.DagsterError) as error:
            parts.append(dg.Definitions(assets=[build_broken_source_asset(source, partitions, str(error))]))
    ingestion = build_ingestion_assets(partitions, [asset_key(source.name) for source in sources])
    common = dg.Definitions(
        assets=[*ingestion, reconciliation],
        jobs=[
            reconciliation_job,
            dg.define_asset_job(
                INGESTION_JOB,
                selection=dg.AssetSelection.assets(*INGESTION),
                description="Takes documents from text to a department's queue, or to review.",
            ),
        ],
        resources={"installation": installation_resource},
        schedules=[weekly_reconciliation],
        sensors=[
            *COMMON_SENSORS,
            *([build_retry_sensor(jobs)] if jobs else []),
            dg.AutomationConditionSensorDefinition(
                "ingestion_automation",
                target=dg.AssetSelection.assets(*INGESTION),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=30,
                description="Carries documents on to the queues after any source has changed.",
            ),
        ],
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(common, *parts)


defs = build_definitions()
