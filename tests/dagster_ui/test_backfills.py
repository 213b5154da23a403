"""Many partitions at once."""

from __future__ import annotations

from citysort_dagster.store.models import Document
from tests.dagster_ui.conftest import MONTHS, Busy, Sources

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def test_a_year_is_one_run(city: Busy) -> None:
    status, (run,) = city.ui.backfilled(city.backfills["year"])
    assert status == "COMPLETED_SUCCESS" and run["status"] == "SUCCESS"
    assert (run["tags"][START], run["tags"][END]) == (MONTHS[0], MONTHS[-1])
    materialized = city.ui.materialized(run["runId"])
    assert sorted(materialized) == MONTHS
    assert {partition["listed"] for partition in materialized.values()} == {3}
    assert {partition["run_listed"] for partition in materialized.values() if "run_listed" in partition} == {
        36
    }
    partitions = [row.partition for row in city.rows(Document, where=[Document.source == "permits"])]
    assert sorted(set(partitions)) == MONTHS


def test_after_a_failure_only_the_rest_runs(city: Busy, sources: Sources) -> None:
    status, (failed,) = city.ui.backfilled(city.backfills["breaks off"])
    assert status == "COMPLETED_FAILED" and failed["status"] == "FAILURE"
    finished = sorted(city.ui.materialized(failed["runId"]))
    rest = [month for month in MONTHS if month not in finished]
    assert finished and rest == MONTHS[: len(rest)]
    assert "it could not be listed completely (PostgreSQL at" in city.ui.failure(failed["runId"])
    imported = [row.partition for row in city.documents("distant")]
    failed_ones = [row.partition for row in city.failures("distant")]
    assert imported and not set(rest[:-1]) & set(imported)
    for month in finished:
        assert imported.count(month) + failed_ones.count(month) == 120

    sources.line.mend()
    status, (again,) = city.ui.backfilled(city.ui.backfill_from_failure(city.backfills["breaks off"]))
    assert status == "COMPLETED_SUCCESS" and again["status"] == "SUCCESS"
    assert (again["tags"][START], again["tags"][END]) == (rest[0], rest[-1])
    assert sorted(city.ui.materialized(again["runId"])) == rest
    imported = [row.partition for row in city.documents("distant")]
    assert {month: imported.count(month) for month in rest} == dict.fromkeys(rest, 120)
    assert len(imported) + len(city.failures("distant")) == 120 * len(MONTHS)
