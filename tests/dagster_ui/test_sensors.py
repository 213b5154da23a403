"""What happens by itself: schedules, sensors, and the pipeline behind the sources."""

from __future__ import annotations

from functools import partial

from citysort_dagster.store.models import AuditEvent, Document
from tests.dagster_ui.conftest import Busy, Webhook
from tests.dagster_ui.graphql import wait_for


def test_news_is_carried_to_the_queues(city: Busy) -> None:
    """A document for an old partition and one for the present; nobody touches anything."""

    def queued() -> dict[str, Document]:
        found = {row.external_id: row for row in city.documents("letters") if row.stage == "queued"}
        return found if {"first.txt", "late.txt", "new.txt"} <= set(found) else {}

    letters = wait_for("the letters in the queues", queued)
    assert letters["late.txt"].partition == "2025-03-01"
    assert letters["new.txt"].partition == city.calendar.keys[-1]
    for letter in letters.values():
        run = city.ui.run(letter.run_id)
        assert run["status"] == "SUCCESS" and run["tags"]["dagster/sensor_name"] == "news_of_letters"
        assert letter.doc_type == "building_permit" and letter.department == "Building Department"
        events = city.rows(AuditEvent, where=[AuditEvent.document_id == letter.id])
        told = [event.event for event in sorted(events, key=lambda event: event.id)]
        assert told[:3] == ["imported", "text extracted", "classified"]
        assert told[3] in ("routed", "sent to review")
        for event in events[1:]:
            tags = city.ui.run(event.run_id)["tags"]
            assert tags["dagster/from_automation_condition"] == "true"


def test_the_schedule_ticks(city: Busy) -> None:
    def refreshed() -> list[str]:
        return [run_id for tick in city.ui.ticks("schedule_ticking") for run_id in tick["runIds"]]

    run_id = wait_for("the schedule", refreshed)[-1]
    # Once is enough, and each minute would be a lot.
    city.ui.stop_schedule("schedule_ticking")
    run = city.ui.ended(run_id)
    assert run["status"] == "SUCCESS" and run["pipelineName"] == "import_ticking"
    assert run["tags"]["dagster/schedule_name"] == "schedule_ticking"
    assert "refresh: true" in run["runConfigYaml"]
    assert city.ui.materialized(run_id)[city.calendar.keys[-1]]["run_imported"] == 0


def test_a_failed_document_is_tried_again(city: Busy) -> None:
    """Its date lies before the watermark, so no listing for news meets it."""
    mended = wait_for(
        "the mended document", lambda: [row for row in city.documents("flaky") if row.external_id == "empty"]
    )
    assert [row.partition for row in mended] == ["2025-03-01"]
    run = city.ui.ended(mended[0].run_id)
    assert run["status"] == "SUCCESS" and run["tags"]["dagster/sensor_name"] == "retry_failed_documents"
    assert run["tags"]["citysort/source"] == "flaky"
    assert city.failures("flaky") == []


def test_a_new_source_is_taken_up(city: Busy) -> None:
    names = {
        "/".join(node["assetKey"]["path"])
        for node in city.ui.ask("{ assetNodes { assetKey { path } } }")["assetNodes"]
    }
    assert "sources/newcomer" in names
    wait_for("the documents of the new source", lambda: len(city.documents("newcomer")) == 36)
    (run_id,) = {row.run_id for row in city.documents("newcomer")}
    assert city.ui.run(run_id)["tags"]["dagster/sensor_name"] == "news_of_newcomer"


def test_failures_are_told(city: Busy, failures_told: Webhook) -> None:
    run_id = city.runs["misconfigured"]
    (told,) = wait_for(
        "the webhook", lambda: [message for message in failures_told.told if message["run_id"] == run_id]
    )
    assert told["path"] == f"/hooks/{failures_told.token}"
    assert told["source"] == "misconfigured" and told["partitions"] == "2025-01-01"
    assert "the environment variable that it names is not set" in told["reason"]
    (event,) = wait_for("the audit event", lambda: city.rows(AuditEvent, where=[AuditEvent.run_id == run_id]))
    assert event.event == "run failed" and event.source == "misconfigured"
    assert event.details["webhook"] == "answered 204" and event.details["reason"] == told["reason"]


def test_no_sensor_fails(city: Busy) -> None:
    common = ["retry_failed_documents", "ingest_what_was_left_behind", "freshness_of_sources", "failed_runs"]
    names = [
        f"news_of_{source}" for source in ("permits", "letters", "flaky", "scans", "registry", "ticking")
    ]
    for name in [*names, *common, "ingestion_automation"]:
        ticks = wait_for(f"a tick of {name}", partial(city.ui.ticks, name))
        assert [tick["error"] for tick in ticks if tick["error"]] == []
