"""Imports launched from the UI: what a run shows, and what it refuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from citysort_dagster.document_list import find_document
from citysort_dagster.lineage import lineage
from citysort_dagster.store.models import Document
from tests.dagster_ui.conftest import CHECKS, Busy, Sources
from tests.dagster_ui.graphql import asset_path


def test_removing_a_source_ends_the_runs_that_wait_for_it(city: Busy) -> None:
    run_id = city.runs["leaving"]
    assert city.ui.ended(run_id)["status"] == "CANCELED"
    messages = [event["message"] for event in city.ui.events(run_id)]
    assert "Source leaving: it has been removed, nothing was imported." in messages


def test_one_partition_and_its_documents(city: Busy) -> None:
    run_id = city.runs["one partition"]
    assert city.ui.ended(run_id)["status"] == "SUCCESS"

    ((partition, metadata),) = city.ui.materialized(run_id).items()
    documents = city.rows(Document, where=[Document.run_id == run_id])
    assert partition == "2025-03-01"
    assert {document.partition for document in documents} == {"2025-03-01"}
    assert {document.external_id for document in documents} == {f"2025-03-01-{n}" for n in range(3)}
    figures = {"listed": 3, "imported": 3, "skipped": 0, "failed": 0, "bytes": sum(d.size for d in documents)}
    assert figures.items() <= metadata.items()
    assert {f"run_{name}": value for name, value in figures.items()}.items() <= metadata.items()
    assert metadata["source_documents"] >= 3 and metadata["run_seconds"] > 0
    for document in documents:
        assert document.id in metadata["documents"]
    assert run_id in metadata["documents"]

    checked = [event["evaluation"] for event in city.ui.events(run_id) if "evaluation" in event]
    assert sorted(check["checkName"] for check in checked) == list(CHECKS)
    assert all(check["success"] for check in checked)


def test_from_a_document_back_to_its_run(city: Busy) -> None:
    run_id = city.runs["one partition"]
    city.ui.ended(run_id)
    (found,) = city.rows(
        Document.id, where=[Document.run_id == run_id, Document.external_id == "2025-03-01-1"]
    )
    told = lineage(city.database, find_document(city.database, found.id), city.ui.url)
    assert told["links"]["run"] == f"{city.ui.url}/runs/{run_id}"
    assert told["events"][0]["event"] == "imported" and told["events"][0]["run_id"] == run_id
    run = city.ui.run(told["run_id"])
    assert run["tags"]["dagster/partition"] == told["partition"]
    assert ["/".join(asset["path"]) for asset in run["assetSelection"]] == [told["asset_key"]]


def test_the_asset_shows_its_source(city: Busy) -> None:
    asset = city.ui.ask(
        """query Asset($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
          groupName kinds description owners { ... on TeamAssetOwner { team } } tags { key value }
          backfillPolicy { policyType }
          assetChecksOrError { ... on AssetChecks { checks { name canExecuteIndividually } } }
        } } }""",
        key=asset_path("permits"),
    )["assetNodeOrError"]
    assert asset["groupName"] == "sources" and asset["kinds"] == ["sqlite"]
    assert asset["owners"] == [{"team": "permits"}]
    tags = {tag["key"]: tag["value"] for tag in asset["tags"]}
    assert tags["floor"] == "2" and tags["citysort/connector"] == "sqlite"
    assert "`permits`" in asset["description"]
    assert asset["backfillPolicy"]["policyType"] == "SINGLE_RUN"
    checks = asset["assetChecksOrError"]["checks"]
    assert {check["name"]: check["canExecuteIndividually"] for check in checks} == dict.fromkeys(
        CHECKS, "CAN_EXECUTE"
    )


def test_checks_alone_import_nothing(city: Busy) -> None:
    run_id = city.ui.start_checks("permits", CHECKS)
    assert city.ui.ended(run_id)["status"] == "SUCCESS"
    assert city.ui.materialized(run_id) == {}
    checked = [event["evaluation"] for event in city.ui.events(run_id) if "evaluation" in event]
    assert sorted(check["checkName"] for check in checked) == list(CHECKS)


def test_limit_and_reimport(city: Busy, sources: Sources) -> None:
    """A content that has changed while neither date nor size did is found by `reimport` only."""
    city.ui.ended(city.runs["one partition"])
    with closing(sqlite3.connect(sources.permits.path)) as connection, connection:
        connection.execute("UPDATE documents SET content = upper(content) WHERE id = '2025-03-01-1'")
    limited = city.ui.start("permits", "2025-02-01", "2025-03-01", config={"limit": 1, "reimport": True})
    reimported = city.ui.start("permits", "2025-03-01", config={"reimport": True})

    assert city.ui.ended(limited)["status"] == "SUCCESS"
    ((partition, cut_short),) = city.ui.materialized(limited).items()
    assert partition == "2025-03-01"
    assert cut_short["cut_short_by_limit"] is True
    assert cut_short["run_listed"] == 1

    assert city.ui.ended(reimported)["status"] == "SUCCESS"
    assert city.ui.materialized(reimported)["2025-03-01"]["listed"] == 3
    versions = city.rows(
        Document.sha256,
        where=[Document.source == "permits", Document.external_id == "2025-03-01-1"],
    )
    assert len(versions) == len(set(versions)) == 2


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (
            "resting",
            "Source resting: it is disabled, nothing was imported; `citysort sources enable resting`",
        ),
        (
            "misconfigured",
            "Source misconfigured: setting password: the environment variable that it names is not set.",
        ),
        ("unknown partition", "Source permits: there is no partition 2025-03-02; the monthly partitions run"),
    ],
)
def test_a_run_that_cannot_be_says_why(city: Busy, run: str, sentence: str) -> None:
    run_id = city.runs[run]
    ended = city.ui.ended(run_id)
    assert ended["status"] == "FAILURE"
    failure = city.ui.failure(run_id)
    assert sentence in failure and "\n" not in failure
    assert city.ui.materialized(run_id) == {}
    assert city.rows(Document.id, where=[Document.run_id == run_id]) == []
    assert city.ui.tagged(**{"dagster/root_run_id": run_id}) == []


def test_no_connection_can_be_redirected(city: Busy) -> None:
    """Whoever may launch a run must not be able to send credentials elsewhere, or read other files."""
    for key in ("source_registry", "installation"):
        for config in ({"host": "example.org"}, {"files_root": "/etc"}):
            answer = city.ui.launch(
                "registry", "2025-03-01", run_config={"resources": {key: {"config": config}}}
            )
            assert answer["__typename"] == "RunConfigValidationInvalid", answer
    answer = city.ui.launch("permits", "2025-03-01", config={"filepath": "/etc/passwd"})
    assert answer["__typename"] == "RunConfigValidationInvalid", answer
