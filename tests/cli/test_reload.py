"""A running CitySort takes up what the command line changes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import requests

from citysort_dagster.server_process import free_port
from tests.cli.conftest import Command

YAML = """sources:
  - name: archive
    connector: sqlite
    config: {filepath: archive.db, query: SELECT id FROM filings, id_column: id, content_column: id}
"""
ASSETS = "{ assetNodes { assetKey { path } } }"


def test_a_source_that_is_applied_appears_in_the_running_ui(
    citysort: Command, data_dir: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "archive.db")) as archive:
        archive.execute("CREATE TABLE filings (id INTEGER)")
    (tmp_path / "sources.yaml").write_text(YAML)
    port = free_port()
    program = "import sys; from citysort_dagster.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "up", "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(2)]
        assert f"http://127.0.0.1:{port}" in said[1]

        def assets() -> list[list[str]]:
            answer = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": ASSETS}, timeout=60)
            return [node["assetKey"]["path"] for node in answer.json()["data"]["assetNodes"]]

        assert ["sources", "archive"] not in assets()
        assert citysort.well("sources", "apply", "sources.yaml").err == ""
        assert ["sources", "archive"] in assets()
        assert citysort.well("sources", "remove", "archive").err.startswith("0 documents of archive stay")
        assert ["sources", "archive"] not in assets()
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0
    assert not (data_dir / "up.json").exists()
