"""Secrets of sources, and the webhook's token, after all that has happened: nowhere."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from citysort_dagster.secrets import KEY_FILE
from sandbox.postgresql import PostgreSQLServer
from sandbox.s3 import S3Server
from tests.dagster_ui.conftest import Busy, Webhook
from tests.dagster_ui.graphql import wait_for

EVERYTHING = """{
  runsOrError(limit: 1000) { ... on Runs { results { runId runConfigYaml tags { key value } } } }
  repositoriesOrError { ... on RepositoryConnection { nodes {
    allTopLevelResourceDetails { name description resourceType
      configFields { name description configType { description } } configuredValues { key value type } }
    assetNodes { assetKey { path } description metadataEntries { label description } }
    sensors { name description } schedules { name description }
  } } }
  instance { info }
}"""


def test_no_secret_is_shown_or_stored(
    city: Busy, postgresql_server: PostgreSQLServer, s3_server: S3Server, failures_told: Webhook
) -> None:
    wait_for("the webhook", lambda: failures_told.told)
    for name in ("scans", "distant"):
        wait_for(f"documents of {name}", partial(city.documents, name))
        city.ui.ticks(f"news_of_{name}")
    for run in city.ui.ask(EVERYTHING)["runsOrError"]["results"]:
        city.ui.events(run["runId"])
    secrets = {
        "password": postgresql_server.password,
        "secret access key": s3_server.secret_key,
        "token of the webhook": failures_told.token,
        "key": (city.settings.data_dir / KEY_FILE).read_text().strip(),
    }
    answers = "\n".join(city.ui.answers)
    assert "source_registry" in answers
    assert [name for name, secret in secrets.items() if secret in answers] == []

    files = [
        Path(folder, name)
        for folder, _, names in os.walk(city.settings.data_dir)
        for name in names
        if name != KEY_FILE
    ]
    assert any(file.suffix == ".db" for file in files)
    found: list[tuple[str, str]] = []
    # Dagster is at work: a log of SQLite that goes meanwhile is in its database then, which is read later.
    for file in sorted(files, key=lambda file: file.suffix == ".db"):
        with suppress(FileNotFoundError):
            content = file.read_bytes()
            found += [(name, str(file)) for name, secret in secrets.items() if secret.encode() in content]
    assert found == []
