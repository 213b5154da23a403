"""What a connector warns of stands in the log and in the metadata of the run, and is printed by the command."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
import yaml

from citysort_dagster import launch, source_configs
from citysort_dagster.cli.imports import report_import
from citysort_dagster.installation import open_installation
from citysort_dagster.instance import open_instance
from sandbox.salesforce import SimulatedSalesforce

MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
SENTENCE = "lacks the permission Query All Files"


def test_files_that_a_user_may_not_see(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-09-01")
    with SimulatedSalesforce() as city, open_installation() as installation:
        city.add("permit.txt", b"A permit.")
        city.query_all_files = False
        monkeypatch.setenv("CITY_SECRET", city.client_secret)
        config = {
            "instance_url": city.url(),
            "client_id": city.client_id,
            "client_secret": {"env": "CITY_SECRET"},
        }
        source = {"name": "crm", "connector": "salesforce", "config": config}
        (working_folder / "sources.yaml").write_text(yaml.safe_dump({"sources": [source]}))
        source_configs.apply(working_folder / "sources.yaml", installation.database)
        outcome = launch.import_source("crm")
        assert (outcome.imported, outcome.failure) == (1, None)
        assert report_import(outcome, as_json=False) == report_import(outcome, as_json=True) == 0
        printed = capsys.readouterr()
        assert SENTENCE in printed.err
        assert SENTENCE in json.loads(printed.out.partition("\n")[2])["warnings"][0]
        with open_instance(installation.settings) as instance:
            logged = instance.all_logs(outcome.run_id)
            told = instance.all_logs(outcome.run_id, MATERIALIZATION)
    assert any(SENTENCE in entry.user_message for entry in logged)
    warnings = [
        one.asset_materialization.metadata["warnings"].text
        for one in told
        if one.asset_materialization is not None and "warnings" in one.asset_materialization.metadata
    ]
    assert len(warnings) == 1
    assert SENTENCE in str(warnings[0])
