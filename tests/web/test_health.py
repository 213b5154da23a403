"""What those who watch over CitySort are told."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.web.console import Console


def samples(console: Console) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = console("GET", "/metrics")
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_figures_for_prometheus(any_console: Console, archive: dict[str, Any]) -> None:
    console = any_console
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    source = ("source", "archive")
    before = samples(console)
    assert before["citysort_source_state", (source, ("state", "never_synced"))] == 1
    assert ("citysort_source_last_sync_timestamp_seconds", (source,)) not in before
    done = console.well("POST", "/api/sources/archive/import", {"wait": True, "limit": None})
    assert done["status"] == "succeeded"
    after = samples(console)
    assert after["citysort_documents", (source, ("status", "ingested"))] == 2
    assert after["citysort_source_failed_documents", (source,)] == 1
    assert after["citysort_imports", (source, ("status", "complete"))] == 1
    assert after["citysort_source_last_sync_timestamp_seconds", (source,)] > 1_700_000_000
    assert after["citysort_source_enabled", (("connector", "sqlite"), source)] == 1


def test_alive_and_ready(console: Console) -> None:
    assert console.well("GET", "/api/health") == {"status": "ok"}
    assert console.well("GET", "/api/ready") == {"status": "ready"}
    data = console.installation.settings.data_dir
    data.rename(data.with_name("elsewhere"))
    problem = console.refused(503, "GET", "/api/ready")
    assert str(data) not in str(problem), "whoever asks need not be known"
    assert console.well("GET", "/api/health") == {"status": "ok"}
    data.with_name("elsewhere").rename(data)
