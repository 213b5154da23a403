"""Documents that crash, hang or eat memory: the others come through, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from citysort_dagster.pipeline.extract import Extraction, TextExtractor
from citysort_dagster.pipeline.isolation import ReaderUnavailable
from tests.pipeline import documents

ROOT = Path(__file__).parents[2]


def readers(parent: int | None = None) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process(parent).children()
        if "citysort_dagster.pipeline.reader" in process.cmdline()
    ]


class Endless:
    """A document that is never read to its end: a pipe that nobody closes. Knows when a reader has
    opened it, so that a test can act in the middle of the reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def opened(self) -> int:
        """Waits for the reader; the end to write to, to be closed by the caller."""
        return os.open(self.path, os.O_WRONLY)


@pytest.fixture
def endless(tmp_path: Path) -> Endless:
    return Endless(tmp_path / "endless")


def extract_one(extractor: TextExtractor, path: Path) -> Extraction:
    [(_, extraction)] = extractor.extract([("one", path, "form.txt")])
    return extraction


def while_reading(extractor: TextExtractor, endless: Endless, number: signal.Signals) -> Extraction:
    """The extraction of the endless document when its reader gets this signal in the middle of it."""
    results: list[Extraction] = []
    thread = threading.Thread(target=lambda: results.append(extract_one(extractor, endless.path)))
    thread.start()
    descriptor = endless.opened()
    try:
        [reader] = readers()
        while thread.is_alive():  # a signal that comes just before the call that waits is noticed after it
            with contextlib.suppress(psutil.NoSuchProcess):
                reader.send_signal(number)
            thread.join(0.2)
    finally:
        os.close(descriptor)
    return results[0]


def test_a_crash_is_told_and_the_next_document_is_read(endless: Endless, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(documents.pdf())
    with TextExtractor(workers=1) as extractor:
        extraction = while_reading(extractor, endless, signal.SIGKILL)
        assert extraction.problem == "Reading the document made the reading program crash (SIGKILL)."
        assert extraction.text == ""
        assert documents.APPLICANT in extract_one(extractor, good).text


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A program that a shell starts in the background ignores SIGINT, and so does what it starts."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_what_a_dying_reader_says_stays_off_our_terminal(
    endless: Endless, interruptible: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with TextExtractor(workers=1) as extractor:
        problem = while_reading(extractor, endless, signal.SIGINT).problem
    assert problem is not None
    assert "crash" in problem
    assert capfd.readouterr() == ("", "")


def test_a_stopped_reader_is_timed_out(endless: Endless) -> None:
    with TextExtractor(workers=1, timeout_seconds=1) as extractor:
        extraction = while_reading(extractor, endless, signal.SIGSTOP)
        assert extraction.problem == "Reading the document took more than 1 seconds and was stopped."
        assert readers() == []


def test_a_document_that_spoilt_its_reader_is_tried_again_in_a_fresh_one(
    tmp_path: Path, endless: Endless
) -> None:
    good = tmp_path / "good"
    good.write_bytes(documents.pdf())
    with TextExtractor(workers=1) as extractor:
        assert extract_one(extractor, good).problem is None
        results: list[Extraction] = []
        thread = threading.Thread(target=lambda: results.append(extract_one(extractor, endless.path)))
        thread.start()
        first = endless.opened()
        good.replace(endless.path)
        [reader] = readers()
        reader.kill()
        thread.join()
        os.close(first)
    assert results[0].problem is None
    assert documents.APPLICANT in results[0].text


@pytest.mark.parametrize("bomb", [documents.docx_bomb, documents.xlsx_bomb])
def test_a_bomb_is_stopped_at_the_memory_limit(bomb: object, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bomb())  # type: ignore[operator]
    assert path.stat().st_size < 5_000_000
    with TextExtractor(workers=1, memory_mb=300) as extractor:
        extraction = extract_one(extractor, path)
    assert extraction.problem == "Reading the document needed more than 300 MB of memory and was stopped."


def test_a_huge_text_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.write(b"Applicant: Jane Doe\n" * 100_000)
        file.truncate(2_000_000_000)
    with TextExtractor(workers=1, memory_mb=300, max_characters=100_000) as extractor:
        extraction = extract_one(extractor, path)
    assert extraction.problem is None
    assert extraction.truncated
    assert len(extraction.text) == 100_000


def test_two_hundred_good_documents_beside_bad_ones(tmp_path: Path, endless: Endless) -> None:
    def files() -> Iterator[tuple[str, Path, str]]:
        bad = {
            "bomb": documents.docx_bomb(), "empty": b"", "locked": documents.pdf("secret"),
            "torn": documents.docx_file()[:3000], "noise": os.urandom(5000), "nested": b"[" * 100_000,
        }  # fmt: skip
        good = [
            documents.pdf(),
            documents.docx_file(),
            documents.xlsx(),
            documents.eml(),
            documents.text().encode(),
        ]
        yield "endless", endless.path, "form.txt"
        yield "missing", tmp_path / "missing", "form.txt"
        for name, content in bad.items():
            path = tmp_path / name
            path.write_bytes(content)
            yield name, path, name
        for number in range(200):
            path = tmp_path / str(number)
            path.write_bytes(good[number % len(good)])
            yield f"good {number}", path, "form"

    with TextExtractor(workers=2, timeout_seconds=5, memory_mb=300) as extractor:
        results = dict(extractor.extract(files()))
    assert len(results) == 208
    for name, extraction in results.items():
        if name.startswith("good"):
            assert extraction.problem is None
            assert documents.APPLICANT in extraction.text
        elif name != "nested":
            assert extraction.problem is not None
            assert extraction.problem.endswith(".")
    assert "took more than 5 seconds" in str(results["endless"].problem)
    assert "memory" in str(results["bomb"].problem)
    assert "cannot be read" in str(results["missing"].problem)


def test_documents_are_taken_only_when_a_reader_is_free(tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_bytes(documents.text().encode())
    taken = 0

    def files() -> Iterator[tuple[str, Path, str]]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield str(number), path, "form.txt"

    with TextExtractor(workers=2) as extractor:
        for done, _ in enumerate(extractor.extract(files()), 1):
            assert taken <= done + 3
    assert taken == 100


def test_leaving_early_leaves_nothing_at_work(tmp_path: Path, endless: Endless) -> None:
    path = tmp_path / "good"
    path.write_bytes(documents.text().encode())
    with TextExtractor(workers=2) as extractor:
        results = extractor.extract([("good", path, "form.txt"), ("endless", endless.path, "form.txt")])
        assert next(results)[0] == "good"
        with pytest.raises(RuntimeError, match="already at work"):
            next(extractor.extract([]))
        results.close()  # type: ignore[attr-defined]
        assert extract_one(extractor, path).problem is None
    assert readers() == []


def test_readers_know_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITYSORT_SECRET_KEY", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("SOME_PASSWORD", "hush")
    path = tmp_path / "good"
    path.write_bytes(documents.text().encode())
    with TextExtractor(workers=1) as extractor:
        extract_one(extractor, path)
        [reader] = readers()
        assert "hush" not in reader.environ().values()
        assert "PYTHONPATH" in reader.environ()


def test_a_reader_that_cannot_start_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_bytes(documents.text().encode())
    with (
        TextExtractor(workers=1, memory_mb=5) as extractor,
        pytest.raises(ReaderUnavailable, match="cannot be started"),
    ):
        extract_one(extractor, path)
    assert readers() == []


def test_readers_end_with_a_parent_that_is_killed(endless: Endless) -> None:
    program = (
        "import sys; from pathlib import Path; from citysort_dagster.pipeline.extract import TextExtractor\n"
        "list(TextExtractor(workers=1).extract([('one', Path(sys.argv[1]), 'form.txt')]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(endless.path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    descriptor = endless.opened()
    try:
        [reader] = readers(parent.pid)
        parent.kill()
        parent.wait()
        reader.wait(60)
        assert not reader.is_running()
    finally:
        os.close(descriptor)


def test_a_parser_that_lets_no_other_thread_run_ends_by_itself() -> None:
    """Nobody watches it."""
    program = (
        "import re; from citysort_dagster.pipeline.reader import limit_time\n"
        "limit_time(1); re.match('(a+)+b', 'a' * 64)"
    )
    reader = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert reader.returncode == -signal.SIGXCPU


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the limits of a process")
def test_a_reader_has_processor_time_for_one_document_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_bytes(documents.pdf())
    with TextExtractor(workers=1, timeout_seconds=30) as extractor:
        for _ in range(2):
            extract_one(extractor, path)
            [reader] = readers()
            soft, _ = reader.rlimit(psutil.RLIMIT_CPU)
            used = reader.cpu_times()
            assert 20 < soft - used.user - used.system < 33


def test_a_reader_out_of_processor_time_took_too_long(endless: Endless) -> None:
    with TextExtractor(workers=1, timeout_seconds=30) as extractor:
        problem = while_reading(extractor, endless, signal.SIGXCPU).problem
    assert problem == "Reading the document took more than 30 seconds and was stopped."
