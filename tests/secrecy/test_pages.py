"""A running CitySort with sources that fail in every way: what its pages and its files hold."""

from __future__ import annotations

import gzip
import textwrap
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from citysort_dagster import source_configs
from citysort_dagster.secrets import KEY_FILE
from citysort_dagster.store.models import AuditEvent, ConnectorConfig, Import
from connectors.registry import CONNECTOR_TYPES
from sandbox.postgresql import PostgreSQLServer
from tests.connectors.sql_databases import PostgreSQLDatabase
from tests.dagster_ui.conftest import City, webhook
from tests.dagster_ui.graphql import REPOSITORY, asset_path, wait_for
from tests.secrecy.canaries import Search, canary
from tests.secrecy.crawl import Crawl

pytestmark = pytest.mark.timeout(900)

# Every process of this installation knows one connector more, which says all it knows when it fails.
KNOWS_THE_LEAK = """
    import importlib.machinery, sys

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name != "connectors.registry":
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            execute = spec.loader.exec_module
            def add(module):
                execute(module)
                module.CONNECTOR_TYPES["leaky"] = "tests.secrecy.leaky:Leaky"
            spec.loader.exec_module = add
            return spec

    sys.meta_path.insert(0, Finder())
"""
PAGES = ("/", "/runs", "/assets", "/locations", "/deployment/config", "/deployment/daemons", "/server_info")
OF_A_SOURCE = {
    "assetCheckExecutions",
    "assetNodeOrError",
    "capturedLogs",
    "capturedLogsMetadata",
    "logsForRun",
    "runOrError",
    "sensorOrError",
    "topLevelResourceDetailsOrError",
}
EVERYTHING = 45
"""Fields of the root of the GraphQL schema, at least, that are answered."""


def test_pages_and_files_hold_no_secret(tmp_path: Path, postgresql_server: PostgreSQLServer) -> None:
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(KNOWS_THE_LEAK))
    database = PostgreSQLDatabase(postgresql_server)
    database.create(modified="moment")
    database.insert((1, "letter.txt", "2025-06-15 12:00:00", b"A letter"))
    settings = {
        "query": "SELECT * FROM documents",
        "id_column": "id",
        "filename_column": "name",
        "modified_column": "modified",
        "content_column": "content",
        **database.settings(),
    }
    right = settings.pop("password")
    given = {name: canary() for name in ("LEAK", "AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY")}
    given["RIGHT"] = right
    stored = canary()

    def source(name: str, connector: str, config: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "connector": connector, "config": config, "schedule": "0 0 1 1 *"}

    with webhook() as told, pytest.MonkeyPatch.context() as patch:
        city = City.found(
            tmp_path / "data",
            **given,
            CITYSORT_WEBHOOK_URL=told.url,
            PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}",
        )
        patch.setitem(CONNECTOR_TYPES, "leaky", "tests.secrecy.leaky:Leaky")
        city.apply(
            source("right", "postgresql", {**settings, "password": {"env": "RIGHT"}}),
            source("stored", "postgresql", settings),
            source("leaky", "leaky", {"fails": "list at once", "password": {"env": "LEAK"}}),
            source("leaking", "leaky", {"fails": "download", "password": {"env": "LEAK"}}),
        )
        source_configs.set_secret(city.database, city.settings, "stored", "password", stored)
        names = ("right", "leaking", "stored", "leaky")
        city.quiet(*names)
        process = city.up()
        pages = Pages(city)
        try:
            runs = {name: city.ui.start(name, "2025-06-01") for name in names}
            ended = {name: city.ui.ended(run_id)["status"] for name, run_id in runs.items()}
            assert [name for name, status in ended.items() if status == "SUCCESS"] == ["right", "leaking"]
            assert "unexpected RuntimeError" in city.ui.failure(runs["leaky"])
            pages.look_at_all("right", runs["right"])
            for name in names:
                pages.look_at(name, runs[name])
            assert "unexpected RuntimeError" in pages.look_at_news("leaky")
            wait_for(
                "the audit events of failed runs",
                lambda: len(city.rows(AuditEvent.id, where=[AuditEvent.event == "run failed"])) == 2,
            )
        finally:
            process.terminate()
            out, err = process.communicate()
            city.database.close()

    key = (city.settings.data_dir / KEY_FILE).read_text().strip()
    search = Search([*given.values(), stored, told.token, key])
    assert len(told.told) == 2
    assert search.in_text(out, err, told.told) == {told.token}  # which stands in the path that was asked for
    assert search.in_text(out, err, *({**one, "path": ""} for one in told.told)) == set()
    assert [answer[:200] for answer in pages.answers if search.in_bytes(answer)] == []
    found = search.in_folder(city.settings.data_dir)
    assert found.pop(KEY_FILE) == {key}
    assert found == {}
    open_to_others = [path for path in (tmp_path / "data").rglob("*") if path.stat().st_mode & 0o077]
    # The database was made by this test.
    assert [path.name for path in open_to_others if not path.name.startswith("citysort.db")] == []


class Pages:
    """What a browser can get of a running city. Every answer is kept, in bytes."""

    def __init__(self, city: City) -> None:
        self.answers: list[bytes] = []
        self._city = city
        self._url = city.ui.url
        self._crawl = Crawl(self._ask)

    def _get(self, path: str) -> bytes:
        answer = requests.get(f"{self._url}{path}", timeout=60)
        assert answer.ok, (path, answer)
        self.answers += [answer.content, str(answer.headers).encode()]
        return answer.content

    def _ask(self, query: str, variables: Mapping[str, Any]) -> Any:
        answer = requests.post(
            f"{self._url}/graphql", json={"query": query, "variables": variables}, timeout=120
        )
        self.answers.append(answer.content)
        return answer.json()

    def look_at_all(self, source: str, run_id: str) -> None:
        """Everything that can be asked of the installation, and of one source and a run of it."""
        for page in PAGES:
            self._get(page)
        self._crawl.depth = 3
        self._crawl.arguments = self._arguments(source, run_id)
        answered, refused = self._crawl.run()
        assert refused == {}
        assert len(answered) >= EVERYTHING and answered >= OF_A_SOURCE

    def look_at(self, source: str, run_id: str) -> None:
        """A source, a run of it and all its logs."""
        self._crawl.arguments = self._arguments(source, run_id)
        before = len(self.answers)
        self._crawl.depth = 4
        assert self._crawl.run(OF_A_SOURCE) == (OF_A_SOURCE, {})
        said = b"".join(self.answers[before:])
        assert b"STEP_START" in said and f"source_{source}".encode() in said
        self._get(f"/runs/{run_id}")
        debug = gzip.decompress(self._get(f"/download_debug/{run_id}"))
        assert run_id.encode() in debug
        for stream in ("out", "err"):
            self._get(f"/logs/{'/'.join(self._log_key(run_id))}/{stream}")

    def look_at_news(self, source: str) -> str:
        """What the news sensor of a source says when it is tried in the UI."""
        watermark = {"watermark": datetime(2025, 1, 1, tzinfo=timezone.utc)}
        self._city.database.write(
            lambda connection: [
                connection.execute(sa.delete(Import).where(Import.source == source)),
                connection.execute(sa.update(ConnectorConfig).values(watermark)),
            ]
        )
        answer = self._ask(
            """mutation Try($sensor: SensorSelector!) { sensorDryRun(selectorData: $sensor, cursor: null) {
              __typename
              ... on DryRunInstigationTick { evaluationResult { skipReason error { message stack } } }
              ... on PythonError { message stack }
            } }""",
            {"sensor": {**REPOSITORY, "sensorName": f"news_of_{source}"}},
        )
        return str(answer)

    def _log_key(self, run_id: str) -> list[str]:
        events = self._ask(
            """query Logs($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
              ... on LogsCapturedEvent { fileKey }
            } } } }""",
            {"run": run_id},
        )["data"]["logsForRun"]["events"]
        (captured,) = [event for event in events if event]
        return [run_id, "compute_logs", captured["fileKey"]]

    def _arguments(self, source: str, run_id: str) -> dict[str, Any]:
        asset, job = asset_path(source), f"import_{source}"
        pipeline = {**REPOSITORY, "pipelineName": job}
        news = f"news_of_{source}"
        return {
            "runId": run_id,
            "runIds": [run_id],
            "logKey": self._log_key(run_id),
            "assetKey": asset,
            "assetKeys": [asset],
            "checkName": "records_agree",
            "limit": 50,
            "repositorySelector": REPOSITORY,
            "graphOrError.selector": {**REPOSITORY, "graphName": job},
            "pipelineOrError.params": pipeline,
            "pipeline": pipeline,
            "selector": pipeline,
            "pipelineName": job,
            "mode": "default",
            "sensorSelector": {**REPOSITORY, "sensorName": news},
            "instigationSelector": {**REPOSITORY, "name": news},
            "scheduleSelector": {**REPOSITORY, "scheduleName": f"schedule_{source}"},
            "resourceSelector": {**REPOSITORY, "resourceName": f"source_{source}"},
        }
