"""The demo: a small city on this machine, imported and routed, with the Dagster UI left running."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timezone
from pathlib import Path

import sqlalchemy as sa
import yaml

from citysort_dagster import up
from citysort_dagster.cli.imports import import_now
from citysort_dagster.cli.terminal import print_table, result, say
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.server_process import ServerError
from citysort_dagster.settings import load_settings
from citysort_dagster.source_configs import apply
from citysort_dagster.store.models import Document, ImportFailure
from sandbox.documents import generate
from sandbox.systems import NEED_A_SERVER, SYSTEMS, RunningSystem

DATA_DIR = "data/demo"
DOCUMENTS = 300
CONTROL_FILE = "sandbox.json"


def run(host: str, port: int, once: bool, console_port: int | None = None) -> None:
    """Starts the city's systems, imports them, takes the documents to the queues, prints what arrived
    where, and serves the UI until Ctrl-C unless `once`.

    Lives in a data folder of its own, `data/demo`, unless CITYSORT_DATA_DIR names another. Raises
    what the parts it starts raise, each in one sentence.
    """
    use_demo_folder()
    folder = load_settings().data_dir / "city"
    folder.mkdir(mode=0o700, exist_ok=True)
    founded = _founding_day(folder)
    # The city is little more than a year old: partitions of the years before it would only take time.
    os.environ.setdefault("CITYSORT_PARTITIONS_START", f"{founded.year - 1}-01-01")
    # The city's systems are on this machine: its sources can be configured in the console as well.
    os.environ.setdefault("CITYSORT_ALLOWED_NETWORKS", "127.0.0.0/8, ::1/128")
    os.environ.setdefault("CITYSORT_ALLOWED_FOLDER", str(folder))
    settings = load_settings()
    if not once:
        up.check_can_run(settings, host, port, console_port)
    with city(folder, founded) as systems:
        sources = folder / "sources.yaml"
        with open_installation() as installation:
            apply(sources, installation.database, prune=True)
        for system in systems:
            name = system.source["name"]
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
            result("See a new document arrive by itself: sandbox add resident_requests")
            up.run(settings, host, port, console_port)


def use_demo_folder() -> None:
    """Has the settings name the demo's own data folder, unless they name one already."""
    os.environ.setdefault("CITYSORT_DATA_DIR", DATA_DIR)


@contextmanager
def city(folder: Path, founded: date) -> Iterator[Sequence[RunningSystem]]:
    """The city's systems, running and filled. Leaves in the folder `sources.yaml`, which describes them,
    and, while they run, `sandbox.json`, by which the command `sandbox` reaches them."""
    documents = generate(DOCUMENTS, today=founded)
    systems: list[RunningSystem] = []
    control = folder / CONTROL_FILE
    with ExitStack() as stack:
        for number, (name, start) in enumerate(SYSTEMS.items()):
            share = documents[number :: len(SYSTEMS)]
            say(f"Starting {name} with {len(share)} documents …")
            try:
                systems.append(stack.enter_context(start(share, folder)))
            except ServerError:
                if name not in NEED_A_SERVER:
                    raise
                say(f"{name} is left out: its database server is not installed")
        for system in systems:
            os.environ.update(system.secrets)
        entries = {"sources": [dict(system.source) for system in systems]}
        (folder / "sources.yaml").write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")
        stack.callback(control.unlink, missing_ok=True)
        control.touch(mode=0o600)
        control.write_text(
            json.dumps({system.source["name"]: system.control for system in systems if system.control})
        )
        yield systems


def _founding_day(folder: Path) -> date:
    """The day this city was made (UTC): running the demo again finds the same documents."""
    archive = folder / "archive.db"
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
