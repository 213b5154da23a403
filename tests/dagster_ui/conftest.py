"""One running CitySort, and a city whose sources do all that sources do. What takes its time is
started at once, so that the tests wait for it together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import yaml

from citysort_dagster import source_configs
from citysort_dagster.files import FileStore, open_file_store
from citysort_dagster.partitions import Calendar
from citysort_dagster.reload import reload_definitions, running_url
from citysort_dagster.server_process import ServerProcess, free_port
from citysort_dagster.settings import Settings
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document, Import, ImportFailure
from citysort_dagster.store.sync_log import now
from citysort_dagster.verify import Disagreement, verify
from sandbox.postgresql import PostgreSQLServer
from sandbox.s3 import S3Server
from tests.dagster_ui.archives import FolderArchive, Line, PostgreSQLArchive, SQLiteArchive, line_to
from tests.dagster_ui.graphql import DagsterUI, wait_for
from tests.warm_workers import warm_start

START = date(2025, 1, 1)
MONTHS = [f"2025-{month:02d}-01" for month in range(1, 13)]
CHECKS = ("fresh", "no_failed_documents", "nothing_twice", "records_agree")
PASSWORD_VARIABLE = "ARCHIVE_PASSWORD"
PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import sys; from citysort_dagster.cli import main; sys.exit(main())"]
LETTER = b"Building permit application. Applicant: Mia Okafor. Parcel number: 12-345-678."


def pytest_itemcollected(item: pytest.Item) -> None:
    # The first of them waits for all that is begun at once.
    item.add_marker(pytest.mark.timeout(900))


@dataclass
class Webhook:
    """Where failures are told. Its path holds a token."""

    url: str
    token: str
    told: list[Mapping[str, Any]] = field(default_factory=list)


@contextmanager
def webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.told.append({**json.loads(body), "path": self.path})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        token = os.urandom(12).hex()
        told = Webhook(f"http://127.0.0.1:{server.server_port}/hooks/{token}", token)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def gone(processes: Sequence[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@dataclass
class City:
    """An installation that may be running, and what the tests know about it."""

    settings: Settings
    environment: Mapping[str, str]
    database: Database
    files: FileStore
    ui: DagsterUI
    calendar: Calendar

    @classmethod
    def found(cls, data_dir: Path, **environment: str) -> City:
        settings = Settings(data_dir=data_dir, partitions_start=START)
        data_dir.mkdir()
        database = Database(settings.sqlalchemy_url)
        database.migrate()
        own = {name: value for name, value in os.environ.items() if not name.startswith("CITYSORT_")}
        return cls(
            settings,
            {
                **own,
                "PYTHONPATH": str(PROJECT),
                "CITYSORT_DATA_DIR": str(data_dir),
                "CITYSORT_PARTITIONS_START": START.isoformat(),
                **environment,
            },
            database,
            open_file_store(str(data_dir / "files"), data_dir / "incoming"),
            DagsterUI(f"http://127.0.0.1:{free_port()}"),
            Calendar(settings.partitions, START),
        )

    def command(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """`citysort` in a process of its own."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            cwd=self.settings.data_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def up(self, **options: Any) -> subprocess.Popen[str]:
        """`citysort up` in a process of its own, once it answers."""
        process = self.command("up", "--port", self.ui.url.rpartition(":")[2], **options)
        wait_for("citysort up", lambda: process.poll() is not None or running_url(self.settings))
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        return process

    @contextmanager
    def running(self) -> Iterator[None]:
        """`citysort up`, until the end of this city."""
        log = self.settings.data_dir / "up.log"
        arguments = ("up", "--port", self.ui.url.rpartition(":")[2])
        process = ServerProcess([*COMMAND, *arguments], log, environment=self.environment)
        try:
            wait_for("citysort up", lambda: process.has_ended() or running_url(self.settings))
            assert not process.has_ended(), log.read_text()
            yield
        finally:
            process.stop()
            self.database.close()

    def apply(self, *sources: Mapping[str, Any]) -> None:
        """Adds these sources to those that are there."""
        file = self.settings.data_dir / "sources.yaml"
        file.write_text(yaml.safe_dump({"sources": list(sources)}))
        source_configs.apply(file, self.database)
        file.unlink()

    def rows(self, *columns: Any, where: Sequence[Any] = ()) -> Sequence[Any]:
        with self.database.read() as connection:
            return connection.execute(sa.select(*columns).where(*where)).all()

    def documents(self, source: str) -> Sequence[Any]:
        return self.rows(Document, where=[Document.source == source])

    def failures(self, source: str) -> Sequence[Any]:
        return self.rows(ImportFailure, where=[ImportFailure.source == source])

    def disagreements(self) -> Sequence[Disagreement]:
        return list(verify(self.database, self.files))

    def quiet(self, *sources: str) -> None:
        """Keeps the news sensors of sources from importing them before the tests do, as they do
        for some minutes after an import has failed."""
        at = now()
        counts = dict.fromkeys(("listed", "imported", "skipped", "failed", "bytes"), 0)
        rows = [
            {"run_id": f"before {source}", "source": source, "started_at": at, "status": "failed", **counts}
            for source in sources
        ]
        self.database.write(lambda connection: connection.execute(sa.insert(Import), rows))


@pytest.fixture(scope="package")
def failures_told() -> Iterator[Webhook]:
    with webhook() as told:
        yield told


@dataclass
class Busy(City):
    """The running city of most tests."""

    runs: dict[str, str] = field(default_factory=dict)
    """The runs that were launched at the beginning."""
    backfills: dict[str, str] = field(default_factory=dict)
    """And the backfills."""


@dataclass
class Sources:
    """Where the documents of the running city lie."""

    permits: SQLiteArchive
    letters: FolderArchive
    flaky: SQLiteArchive
    registry: PostgreSQLArchive
    desk: PostgreSQLArchive
    distant: PostgreSQLArchive
    line: Line


@pytest.fixture(scope="package")
def sources(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: PostgreSQLServer
) -> Iterator[Sources]:
    folder = tmp_path_factory.mktemp("sources")
    with line_to((postgresql_server.host, postgresql_server.port)) as line:
        made = Sources(
            permits=SQLiteArchive(folder / "permits.db"),
            letters=FolderArchive(folder / "letters"),
            flaky=SQLiteArchive(folder / "flaky.db"),
            registry=PostgreSQLArchive(postgresql_server),
            desk=PostgreSQLArchive(postgresql_server),
            distant=PostgreSQLArchive(postgresql_server, line.port),
            line=line,
        )
        for month in MONTHS:
            for number in range(3):
                made.permits.put(f"{month}-{number}", f"{month[:8]}1{number}", LETTER + str(number).encode())
        made.letters.put("first.txt", datetime(2025, 5, 5, tzinfo=timezone.utc), LETTER)
        made.flaky.put("whole", "2025-09-09", LETTER)
        made.flaky.put("empty", "2025-03-03", None)
        for archive in (made.registry, made.desk):
            archive.put(*[(f"entry-{number}", "2025-06-06", LETTER) for number in range(5)])
        made.distant.put(
            *[(f"{month}-{number}", f"{month[:8]}15", LETTER) for month in MONTHS for number in range(120)]
        )
        yield made


@pytest.fixture(scope="package")
def city(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql_server: PostgreSQLServer,
    s3_server: S3Server,
    sources: Sources,
    failures_told: Webhook,
) -> Iterator[Busy]:
    environment = {PASSWORD_VARIABLE: postgresql_server.password, "CITYSORT_WEBHOOK_URL": failures_told.url}
    folder = tmp_path_factory.mktemp("city")
    found = City.found(folder / "data", PYTHONPATH=warm_start(folder), **environment)
    city = Busy(**vars(found))
    s3_server.create_bucket("scans")
    s3_server.client().put_object(Bucket="scans", Key="2025/scan.txt", Body=LETTER)

    def sqlite(name: str, archive: SQLiteArchive | FolderArchive, **more: Any) -> dict[str, Any]:
        return {"name": name, "connector": "sqlite", "config": archive.settings(), **more}

    def postgresql(
        name: str, archive: PostgreSQLArchive, variable: str = PASSWORD_VARIABLE
    ) -> dict[str, Any]:
        return {"name": name, "connector": "postgresql", "config": archive.settings(variable)}

    s3 = {
        "bucket_name": "scans",
        "region": s3_server.region,
        "endpoint_url": s3_server.endpoint_url,
        "access_key_id": s3_server.access_key,
        "secret_access_key": {"env": "NEVER_SET"},
    }
    city.apply(
        sqlite("permits", sources.permits, owners=["team:permits"], tags={"floor": "2"}),
        sqlite("ticking", sources.permits, schedule="* * * * *"),
        sqlite("letters", sources.letters),
        sqlite("flaky", sources.flaky),
        sqlite("resting", sources.permits),
        sqlite("leaving", sources.permits),
        postgresql("registry", sources.registry),
        postgresql("desk", sources.desk),
        postgresql("distant", sources.distant),
        postgresql("misconfigured", sources.registry, "NEVER_SET"),
        {"name": "scans", "connector": "amazon_s3", "config": s3},
    )
    source_configs.set_secret(
        city.database, city.settings, "scans", "secret_access_key", s3_server.secret_key
    )
    city.quiet("permits", "resting", "leaving", "registry", "desk", "distant", "misconfigured")
    with city.running():
        _launch(city)
        _make_news(city, sources)
        city.apply(sqlite("newcomer", sources.permits))
        assert reload_definitions(city.settings) is None
        yield city
        started = family(json.loads((city.settings.data_dir / "up.json").read_bytes())["pid"])
    wait_for("the end of all processes after SIGTERM", lambda: gone(started))


def _launch(city: Busy) -> None:
    launch = city.ui.start
    # Dagster's failure sensors tell of what fails after their first evaluation.
    wait_for("the first tick of failed_runs", lambda: city.ui.ticks("failed_runs"))
    city.runs["resting"] = launch("resting", "2025-01-01")
    source_configs.set_enabled(city.database, "resting", False)
    city.backfills["breaks off"] = city.ui.backfill("distant", MONTHS)
    city.runs["one partition"] = launch("permits", "2025-03-01", checks=CHECKS)
    city.runs["misconfigured"] = launch("misconfigured", "2025-01-01")
    city.runs["unknown partition"] = launch("permits", "2025-03-02")
    city.backfills["year"] = city.ui.backfill("permits", MONTHS)
    # It will be removed while it waits behind all others.
    city.runs["leaving"] = launch("leaving", "2025-01-01", tags={"dagster/priority": "-1"})
    command = city.command("sources", "remove", "leaving")
    _, said = command.communicate()
    assert command.returncode == 0 and "1 imports of leaving that waited in the queue are cancelled" in said


def _make_news(city: Busy, sources: Sources) -> None:
    """Once the news sensors have brought what there was, there is more, and what failed is mended."""
    wait_for("the first letter", lambda: city.documents("letters"))
    sources.letters.put("late.txt", datetime(2025, 3, 7, tzinfo=timezone.utc), LETTER + b" Late.")
    sources.letters.put("new.txt", now(), LETTER + b" New.")
    wait_for("the document that fails", lambda: city.failures("flaky"))
    sources.flaky.execute("UPDATE documents SET content = ? WHERE id = 'empty'", LETTER + b" Mended.")
    due = sa.update(ImportFailure).where(ImportFailure.source == "flaky").values(next_try_at=now())
    city.database.write(lambda connection: connection.execute(due))
