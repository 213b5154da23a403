"""The demo: a small city on this machine, imported and routed, with the Dagster UI left running."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date, datetime, timezone
from pathlib import Path

import sqlalchemy as sa

from citysort_dagster import up
from citysort_dagster.cli.imports import import_now
from citysort_dagster.cli.terminal import print_table, result, say
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.settings import load_settings
from citysort_dagster.source_configs import apply
from citysort_dagster.store.models import Document, ImportFailure
from sandbox.city import (
    ARCHIVE_SOURCE,
    BUCKET_SOURCE,
    build_archive,
    demo_sources_yaml,
    divide,
    fill_bucket,
)
from sandbox.documents import generate
from sandbox.s3 import s3_server

DATA_DIR = "data/demo"
BUCKET = "permits"


def run(host: str, port: int, once: bool) -> None:
    """Makes the city, imports its sources, takes the documents to the queues, prints what arrived
    where, and serves the UI until Ctrl-C unless `once`.

    Lives in a data folder of its own, `data/demo`, unless CITYSORT_DATA_DIR names another. Raises
    what the parts it starts raise, each in one sentence.
    """
    os.environ.setdefault("CITYSORT_DATA_DIR", DATA_DIR)
    archive = load_settings().data_dir / "city" / "archive.db"
    founded = _founding_day(archive)
    # The city is little more than a year old: partitions of the years before it would only take time.
    os.environ.setdefault("CITYSORT_PARTITIONS_START", f"{founded.year - 1}-01-01")
    settings = load_settings()
    if not once:
        up.check_can_run(settings, host, port)
    with ExitStack() as stack:
        say("Starting an S3 server on this machine …")
        server = stack.enter_context(s3_server())
        os.environ.update({"DEMO_S3_KEY_ID": server.access_key, "DEMO_S3_SECRET": server.secret_key})
        documents = generate(today=founded)
        in_archive, in_bucket = divide(documents)
        say(
            f"Making a city: {len(in_archive)} documents in a SQLite archive, {len(in_bucket)} in an S3 bucket …"
        )
        if not archive.exists():
            build_archive(archive, in_archive)
        server.create_bucket(BUCKET)
        fill_bucket(server.client(), BUCKET, in_bucket)
        sources = settings.data_dir / "city" / "sources.yaml"
        sources.write_text(demo_sources_yaml(archive, server.endpoint_url, BUCKET), encoding="utf-8")
        with open_installation() as installation:
            apply(sources, installation.database)
        for name in (ARCHIVE_SOURCE, BUCKET_SOURCE):
            say(f"Materializing sources/{name} …")
            outcome = import_now(name)
            for sentence in (outcome.incomplete, outcome.failure):
                if sentence:
                    say(sentence)
        say("Materializing the pipeline: text, classification, department queues …")
        from citysort_dagster import launch

        failure = launch.process().failure
        if failure:
            say(failure)
        with open_installation() as installation:
            _print_arrivals(installation)
        result("")
        result(f"The sources as configured: {_shown(sources)}")
        result(f"More: CITYSORT_DATA_DIR={_shown(settings.data_dir)} citysort documents list")
        if not once:
            up.run(settings, host, port)


def _founding_day(archive: Path) -> date:
    """The day this city was made (UTC): running the demo again finds the same documents."""
    made_at = datetime.fromtimestamp(archive.stat().st_mtime, timezone.utc) if archive.exists() else None
    return (made_at or datetime.now(timezone.utc)).date()


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_arrivals(installation: Installation) -> None:
    current = Document.superseded_by.is_(None)
    with installation.database.read() as connection:
        sources = connection.execute(
            sa.select(Document.source, Document.connector_type, sa.func.count(), sa.func.sum(Document.size))
            .where(current)
            .group_by(Document.source, Document.connector_type)
            .order_by(Document.source)
        ).all()
        failures = dict(
            connection.execute(
                sa.select(ImportFailure.source, sa.func.count()).group_by(ImportFailure.source)
            )
            .tuples()
            .all()
        )
        departments = connection.execute(
            sa.select(
                Document.department,
                sa.func.count().filter(Document.status == "routed"),
                sa.func.count().filter(Document.status == "needs_review"),
                sa.func.count().filter(Document.urgency == "urgent"),
                sa.func.min(Document.due_date),
            )
            .where(current)
            .group_by(Document.department)
            .order_by(Document.department)
        ).all()
    result("")
    result("What arrived")
    print_table(
        ("source", "connector", "documents", "KB", "not imported"),
        [(*row[:3], round(row[3] / 1000), failures.get(row[0], 0)) for row in sources],
    )
    result("")
    result("Where it went")
    print_table(
        ("department", "routed", "for review", "urgent", "first due"),
        [*departments, _total(departments)],
    )


def _total(departments: Sequence[sa.Row[tuple[str | None, int, int, int, date | None]]]) -> Sequence[object]:
    return ("all", *(sum(row[column] for row in departments) for column in (1, 2, 3)), "")
