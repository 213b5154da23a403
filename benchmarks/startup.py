"""What Dagster adds: loading the definitions of 50 sources, and a refresh run that finds nothing new."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import Contender, Row, Usage, Work, compare, measure
from benchmarks.tables import Table

SOURCES = 50
DOCUMENTS = 100
JOB = "import_records_00"


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The tables by name."""
    with tempfile.TemporaryDirectory(prefix="citysort-benchmark-") as folder:
        home = Path(folder)
        _configure(home)
        contenders = [
            Contender(f"definitions of {SOURCES} sources", loads_definitions, (folder,)),
            Contender("import dagster", imports_dagster),
        ]
        yield (
            "definitions",
            Table(
                f"Loading the definitions, {SOURCES} sources",
                "After Dagster itself is imported, in a process that imports it anyway. The repository that"
                " Dagster makes of them is included.",
                compare(contenders, 1, rounds),
                most_seconds=1.0,
            ),
        )
        _citysort(home, "import", "records_00")
        yield (
            "refresh",
            Table(
                "A refresh run that finds nothing new: where its seconds go",
                f"One source of {DOCUMENTS} known documents, SQLite storage, the run in the process itself.",
                _phases(folder, rounds),
            ),
        )


def imports_dagster(folder: Path) -> Work:
    """Dagster, imported for the first time in its process."""

    def work() -> int:
        import dagster

        return int(bool(dagster.__version__))

    return work


def loads_definitions(home: str, folder: Path) -> Work:
    """CitySort's definitions, in a process that has imported Dagster."""
    _enter(Path(home))
    import dagster as dg

    def work() -> int:
        from citysort_dagster.definitions import defs

        repository = dg.Definitions.get_repository_def(defs)
        return len(repository.schedule_defs) >= SOURCES

    return work


def refreshes(home: str, folder: Path) -> Work:
    """A refresh run, from nothing imported; prints when each phase ended."""
    _enter(Path(home))

    def work() -> int:
        moments = [("", time.time())]

        import dagster as dg

        moments.append(("import Dagster", time.time()))
        from citysort_dagster.definitions import defs
        from citysort_dagster.source_assets import asset_key

        job = defs.resolve_job_def(JOB)
        moments.append((f"load the definitions of {SOURCES} sources", time.time()))
        op = asset_key("records_00").to_python_identifier()
        with dg.DagsterInstance.get() as instance:
            moments.append(("open Dagster's storage", time.time()))
            result = job.execute_in_process(
                instance=instance,
                run_config={
                    "ops": {op: {"config": {"refresh": True}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                partition_key=None,
                tags=_present_partition(),
                raise_on_error=False,
            )
            ended = time.time()
            records = instance.all_logs(result.run_id)
        steps = {
            record.dagster_event.event_type_value: record.timestamp
            for record in records
            if record.dagster_event
        }
        moments.append(("create the run, until its step starts", steps["STEP_START"]))
        moments.append(("the import and its checks", steps["STEP_SUCCESS"]))
        moments.append(("end the run", ended))
        shown = [f"{name}\t{moment - before}" for (_, before), (name, moment) in pairwise(moments)]
        (Path(home) / "phases").write_text("\n".join(shown))
        return int(result.success)

    return work


def _phases(home: str, rounds: int) -> list[Row]:
    best: list[Row] = []
    for _ in range(rounds):
        usage = measure(Contender("refresh", refreshes, (home,)))
        if usage.done != 1:
            raise RuntimeError("the refresh run failed")
        if not best or (best[0].usage is not None and usage.seconds < best[0].usage.seconds):
            phases = [line.split("\t") for line in (Path(home) / "phases").read_text().splitlines()]
            best = [Row("all of it", usage)]
            best += [Row(name, Usage(1, float(seconds), None, None)) for name, seconds in phases]
    return best


def _present_partition() -> dict[str, str]:
    from citysort_dagster.automation import partition_range_tags
    from citysort_dagster.installation import open_installation

    with open_installation() as installation:
        return dict(partition_range_tags(installation.calendar.keys[-1:]))


def _configure(home: Path) -> None:
    documents = home / "documents"
    documents.mkdir()
    for number in range(DOCUMENTS):
        (documents / f"{number:03}.txt").write_text(f"letter {number}")
    index = home / "index.db"
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(index)) as connection, connection:
        connection.execute("CREATE TABLE documents (id integer PRIMARY KEY, path text)")
        rows = [(number, f"{number:03}.txt") for number in range(DOCUMENTS)]
        connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
    sources: list[dict[str, Any]] = [
        {
            "name": f"records_{number:02}",
            "connector": "sqlite",
            "config": {
                "filepath": str(index),
                "query": "SELECT id, path FROM documents",
                "id_column": "id",
                "file_path_column": "path",
                "files_root": str(documents),
            },
            "schedule": "*/15 * * * *",
        }
        for number in range(SOURCES)
    ]
    (home / "sources.yaml").write_text(yaml.safe_dump({"sources": sources}))
    _citysort(home, "sources", "apply", str(home / "sources.yaml"))


def _citysort(home: Path, *arguments: str) -> None:
    program = "from citysort_dagster.cli import main; main()"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"CITYSORT_DATA_DIR": str(home / "data")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"citysort {' '.join(arguments)} failed: {done.stdout[-500:]}{done.stderr[-500:]}")


def _enter(home: Path) -> None:
    os.environ["CITYSORT_DATA_DIR"] = str(home / "data")
    os.environ["DAGSTER_HOME"] = str(home / "data" / "dagster")
