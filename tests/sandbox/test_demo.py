"""The demo as a newcomer runs it, and the command that changes its systems."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from connectors.registry import CONNECTOR_TYPES
from sandbox import command
from sandbox.demo import DOCUMENTS, city
from sandbox.systems import SYSTEMS

pytestmark = pytest.mark.timeout(900)


def run(command: str, *arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CITYSORT_")}
    environment["CITYSORT_DATA_DIR"] = str(data)
    return subprocess.run(
        [str(Path(sys.executable).with_name(command)), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_demo_brings_every_document_to_a_queue_and_finds_nothing_new_the_second_time(
    tmp_path: Path,
) -> None:
    first = run("citysort", "demo", "--once", data=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    for name in SYSTEMS:
        assert name in first.stdout
    (total,) = re.findall(r"^all +(\d+) +(\d+)", first.stdout, re.MULTILINE)
    assert sum(map(int, total)) == DOCUMENTS

    def imported() -> dict[str, int]:
        with sqlite3.connect(tmp_path / "citysort.db") as connection:
            return dict(connection.execute("SELECT source, count(*) FROM documents GROUP BY source"))

    before = imported()
    assert sum(before.values()) == DOCUMENTS
    verified = run("citysort", "verify", "--json", data=tmp_path)
    assert json.loads(verified.stdout) == []

    second = run("citysort", "demo", "--once", data=tmp_path)
    assert second.returncode == 0, second.stderr
    after = imported()
    # The server that plays Google Cloud Storage numbers its objects anew: new versions, superseding the former.
    assert {name: count for name, count in after.items() if name != "planning_bucket"} == {
        name: count for name, count in before.items() if name != "planning_bucket"
    }


def test_every_connector_has_a_system(tmp_path: Path) -> None:
    with city(tmp_path, date(2026, 11, 20)) as systems:
        assert {system.source["connector"] for system in systems} == set(CONNECTOR_TYPES)


def test_documents_of_a_running_city_can_be_added_replaced_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sandbox(*arguments: str) -> tuple[int, str, str]:
        """The command in this process: its exit code, what it said and what it complained of."""
        monkeypatch.setattr("sys.argv", ["sandbox", *arguments])
        capsys.readouterr()
        code = command.main()
        return code, *capsys.readouterr()

    folder = tmp_path / "city"
    folder.mkdir()
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Clerk")
    monkeypatch.setattr("sandbox.demo.SYSTEMS", {"resident_requests": SYSTEMS["resident_requests"]})
    monkeypatch.setattr("sandbox.demo.DOCUMENTS", 20)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path))
    assert "no demo is running" in run("sandbox", "list", "resident_requests", data=tmp_path).stderr
    with city(folder, date(2026, 11, 20)):
        assert (folder / "sandbox.json").stat().st_mode & 0o077 == 0
        listing = run("sandbox", "list", "resident_requests", data=tmp_path)
        assert listing.returncode == 0, listing.stderr
        before = listing.stdout.splitlines()
        code, added, complaint = sandbox("add", "resident_requests", str(letter))
        assert code == 0, complaint
        id_ = added.split()[-1]
        assert sandbox("replace", "resident_requests", id_, str(letter))[0] == 0
        assert sandbox("add", "resident_requests")[0] == 0
        listed = sandbox("list", "resident_requests")[1].splitlines()
        assert len(listed) == len(before) + 2
        assert any(line.startswith(id_) for line in listed)
        assert sandbox("remove", "resident_requests", id_)[0] == 0
        assert sandbox("misbehave", "resident_requests", "throttle")[0] == 0
        assert sandbox("misbehave", "resident_requests", "throttle", "--retry-after", "soon") == (
            2,
            "",
            "sandbox: resident_requests: there is no retry_after 'soon'\n",
        )
        assert sandbox("behave", "resident_requests")[0] == 0
        assert sandbox("add", "nothing") == (
            2,
            "",
            "sandbox: there is no simulated system nothing; there are: resident_requests\n",
        )
