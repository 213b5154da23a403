"""Reading the text of 1,000 mixed documents, beside the same library in a bare pool of processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.measure import Contender, Work, compare
from benchmarks.tables import Table

DOCUMENTS = 1_000
PROCESSES = 2


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The table."""
    from sandbox.documents import generate

    with tempfile.TemporaryDirectory(prefix="citysort-benchmark-") as folder:
        for number, document in enumerate(generate(DOCUMENTS)):
            (Path(folder) / f"{number:04}_{document.name.replace('/', '_')}").write_bytes(document.content)
        contenders = [
            Contender("CitySort, isolated readers", citysort_reads, (folder,)),
            Contender("kreuzberg, pool of processes", kreuzberg_reads, (folder,)),
        ]
        yield (
            "extraction",
            Table(
                f"Text of {DOCUMENTS:,} documents in a dozen formats, {PROCESSES} processes",
                "CitySort limits each document's time and memory and recognizes what it is; the pool does"
                " nothing for a document that crashes it. Peak memory is that of the readers together.",
                compare(contenders, DOCUMENTS, rounds),
                baselines=["kreuzberg, pool of processes"],
                times=1.2,
            ),
        )


def citysort_reads(documents: str, folder: Path) -> Work:
    """The pipeline's extractor."""
    from citysort_dagster.pipeline.extract import TextExtractor

    files = [(path.name, path, path.name) for path in sorted(Path(documents).iterdir())]

    def work() -> int:
        with TextExtractor(workers=PROCESSES) as extractor:
            return sum(1 for _ in extractor.extract(files))

    return work


def kreuzberg_reads(documents: str, folder: Path) -> Work:
    """kreuzberg in a process pool, which starts within the measured time as CitySort's readers do."""
    files = [str(path) for path in sorted(Path(documents).iterdir())]

    def work() -> int:
        with ProcessPoolExecutor(PROCESSES) as pool:
            return sum(1 for _ in pool.map(_read, files))

    return work


def _read(path: str) -> int:
    from kreuzberg import extract_file_sync
    from kreuzberg.exceptions import KreuzbergError

    try:
        return len(extract_file_sync(path).content)
    except KreuzbergError:
        return 0  # scans and damaged files: there is no text
