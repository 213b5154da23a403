"""Refreshes of a source that tells what has changed, as sensors request them and runs make them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner

from citysort_dagster import source_configs
from citysort_dagster.automation import build_news_sensor, import_job_name
from citysort_dagster.cli import app
from citysort_dagster.definitions import build_definitions
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import open_instance
from citysort_dagster.source_assets import SourceConnector
from citysort_dagster.source_configs import known_source
from citysort_dagster.store.models import Document, Import, SourceCheckpoint, SyncLogEntry
from sandbox.sharepoint import SimulatedSharePoint

SOURCE = "permit_site"
MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
JUNE = datetime(2025, 6, 15, 12, tzinfo=timezone.utc)


@pytest.fixture
def site() -> Iterator[SimulatedSharePoint]:
    with SimulatedSharePoint() as system:
        for number in range(10):
            system.add(f"{number}.txt", b"A permit.", modified_at=JUNE + timedelta(days=number))
        yield system


@pytest.fixture
def installation(
    working_folder: Path, site: SimulatedSharePoint, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    monkeypatch.setenv("SITE_SECRET", site.client_secret)
    config = {
        "site_url": site.site_url,
        "tenant_id": site.tenant_id,
        "client_id": site.client_id,
        "client_secret": {"env": "SITE_SECRET"},
        "authority_url": site.url("login"),
        "graph_url": site.url(),
        "ca_file": str(site.ca_file),
        "library_name": "Documents",
    }
    file = working_folder / "sources.yaml"
    file.write_text(
        yaml.safe_dump({"sources": [{"name": SOURCE, "connector": "sharepoint", "config": config}]})
    )
    with open_installation() as opened:
        source_configs.apply(file, opened.database)
        yield opened


def ask(installation: Installation) -> dg.RunRequest | None:
    """What the sensor requests, None when there is nothing new."""
    sensor = build_news_sensor(known_source(installation.database, SOURCE))
    with open_instance(installation.settings) as instance:
        answer = sensor(dg.build_sensor_context(instance))
    assert isinstance(answer, dg.SensorResult)
    requests = answer.run_requests or ()
    assert requests or "Nothing new." in str(answer.skip_reason)
    return requests[0] if requests else None


def run(installation: Installation, request: dg.RunRequest | None) -> dict[str, dict[str, object]]:
    """What the run that a sensor requested tells of each partition."""
    assert request is not None
    with open_instance(installation.settings) as instance:
        job = build_definitions().resolve_job_def(import_job_name(SOURCE))
        result = job.execute_in_process(
            instance=instance, run_config=request.run_config, tags=dict(request.tags)
        )
        assert result.success
        told = [one.asset_materialization for one in instance.all_logs(result.run_id, MATERIALIZATION)]
        return {
            str(one.partition): {name: value.value for name, value in one.metadata.items()}
            for one in told
            if one is not None
        }


def imported(installation: Installation) -> set[str]:
    with installation.database.read() as connection:
        return set(connection.execute(sa.select(Document.filename)).scalars())


def test_a_source_is_listed_whole_once_and_then_asked_what_has_changed(
    installation: Installation, site: SimulatedSharePoint
) -> None:
    told = run(installation, ask(installation))
    assert set(told) == set(installation.calendar.keys)
    assert len(imported(installation)) == 10
    site.forget_requests()
    for _ in range(2):
        assert ask(installation) is None
    assert (site.requests["drives"], site.requests["delta"]) == (0, 2)

    site.add("moved here.txt", b"An old permit.", modified_at=datetime(2025, 2, 2, tzinfo=timezone.utc))
    told = run(installation, ask(installation))
    assert list(told) == ["2025-02-01"]
    assert (told["2025-02-01"]["run_listed"], told["2025-02-01"]["run_imported"]) == (1, 1)
    assert "moved here.txt" in imported(installation)
    assert ask(installation) is None
    with installation.database.read() as connection:
        last = connection.execute(sa.select(Import).order_by(Import.started_at.desc())).first()
    assert last is not None
    assert (last.status, last.window_start, last.listed) == ("complete", None, 1)


def test_a_look_at_what_is_known_moves_the_checkpoint_on(
    installation: Installation, site: SimulatedSharePoint
) -> None:
    """Else every further look would list it again."""
    run(installation, ask(installation))
    for document in list(site.documents.values()):
        site.replace(document.id, document.content)  # another version, the same hash
    before = checkpoint(installation)
    assert ask(installation) is None
    assert checkpoint(installation) != before
    with SourceConnector(SOURCE).open(installation) as connector:
        assert list(connector.list_changes(checkpoint(installation))) == []


def test_a_site_that_forgot_is_listed_whole_and_reconciled(
    installation: Installation, site: SimulatedSharePoint
) -> None:
    run(installation, ask(installation))
    gone = next(iter(site.documents))
    site.remove(gone)
    site.forget_changes()
    site.add("new.txt", b"A new permit.", modified_at=JUNE)
    told = run(installation, ask(installation))
    (totals,) = (metadata for metadata in told.values() if "run_listed" in metadata)
    assert (totals["started_over"], totals["run_imported"], totals["run_gone"]) == (True, 1, 1)
    with installation.database.read() as connection:
        marked = connection.execute(
            sa.select(SyncLogEntry.external_id).where(SyncLogEntry.gone_at.is_not(None))
        ).scalars()
        assert [one.rpartition("/")[2] for one in marked] == [gone]
    assert ask(installation) is None


def test_a_site_that_forgot_while_nothing_is_new_is_reconciled_too(
    installation: Installation, site: SimulatedSharePoint
) -> None:
    run(installation, ask(installation))
    site.forget_changes()
    (told,) = run(installation, ask(installation)).values()
    assert (told["started_over"], told["run_gone"], told["run_listed"]) == (True, 0, 10)
    assert ask(installation) is None


def test_where_a_listing_has_come_to_is_shown_nowhere(
    installation: Installation, site: SimulatedSharePoint, tmp_path: Path
) -> None:
    run(installation, ask(installation))
    token = checkpoint(installation).partition("token='")[2].partition("'")[0]
    assert len(token) > 20
    for arguments in (["sources", "show", SOURCE], ["sources", "show", SOURCE, "--json"]):
        shown = CliRunner().invoke(app, arguments)
        assert shown.exit_code == 0
        assert token not in shown.output
    for file in (tmp_path / "data").rglob("*"):
        # Dagster's own databases and logs, and all else but the documents database.
        if file.is_file() and not file.name.startswith("citysort.db"):
            assert token.encode() not in file.read_bytes(), file


def checkpoint(installation: Installation) -> str:
    with installation.database.read() as connection:
        return str(connection.execute(sa.select(SourceCheckpoint.checkpoint)).scalar_one())
