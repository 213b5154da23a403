"""What all commands have in common."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from citysort_dagster.cli.terminal import harmless
from citysort_dagster.server_process import free_port
from tests.cli.conftest import Command
from tests.importer.conftest import City

SLOW_MODULES = ("dagster", "kreuzberg", "boto3", "obstore", "connectors", "alembic")
COMMANDS = [
    ["sources", "apply"],
    ["sources", "list"],
    ["sources", "show"],
    ["sources", "test"],
    ["sources", "enable"],
    ["sources", "disable"],
    ["sources", "remove"],
    ["sources", "set-secret"],
    ["import"],
    ["process"],
    ["documents", "list"],
    ["documents", "show"],
    ["documents", "cat"],
    ["documents", "export"],
    ["failures", "list"],
    ["failures", "retry"],
    ["verify"],
    ["serve"],
    ["token", "create"],
    ["token", "list"],
    ["token", "revoke"],
    ["up"],
    ["demo"],
]


def run(*arguments: str) -> subprocess.Popen[bytes]:
    program = (
        "import signal, sys; from citysort_dagster.cli import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def import_long_names(town: City) -> None:
    """So many documents that their listing is more than a pipe holds, 64 KB."""
    for number in range(100):
        town.put(f"{number:04}{'x' * 240}.txt", b"x")
    town.run()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(citysort: Command, command: list[str]) -> None:
    ran = citysort.well(*command, "--help")
    assert ran.out.startswith(f"Usage: citysort {' '.join(command)} ")
    assert ran.err == ""


def test_a_console_that_may_not_be_served_is_not_announced(citysort: Command) -> None:
    ran = citysort("serve", "--port", str(free_port()), "--name", "citysort.example.gov")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "there is no token to know them by" in ran.err


@pytest.mark.parametrize("group", [[], ["sources"], ["documents"], ["failures"], ["token"]])
def test_lists_of_commands_cut_no_sentence_off(citysort: Command, group: list[str]) -> None:
    assert "..." not in citysort.well(*group, "--help").out.partition("Commands:")[2]


def test_without_arguments_all_commands_are_explained(citysort: Command) -> None:
    ran = citysort.well()
    assert {command[0] for command in COMMANDS} <= set(ran.out.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["souces"], "No such command 'souces'."),
        (["sources"], "Missing command."),
        (["sources", "show"], "Missing argument 'NAME'."),
        (["sources", "list", "--jsn"], "No such option: --jsn"),
        (
            ["sources", "show", "x"],
            "there is no source 'x'; none is configured yet, see `citysort sources apply`",
        ),
        (["sources", "apply", "nowhere.yaml"], "nowhere.yaml: the file cannot be read (No such file"),
        (["import", "x"], "there is no source 'x'"),
        (["import", "x", "--from", "yesterday"], "'yesterday' is not a day: write YYYY-MM-DD"),
        (
            ["import", "x", "--from", "2026-02-02", "--to", "2026-02-01"],
            "--from 2026-02-02 is after --to 2026-02-01",
        ),
        (["import", "x", "--limit", "0"], "Input should be greater than or equal to 1"),
        (["documents", "show", "xyz"], "'xyz' is not the id of a document"),
        (["documents", "cat", "abc"], "there is no document whose id begins with abc"),
        (["failures", "retry", "x"], "there is no source 'x'"),
        (["failures", "list", "--source", "x"], "there is no source 'x'"),
        (["documents", "list", "--status", "done"], "ingested, routed, needs_review or failed"),
        (["documents", "export", "x", "--status", "done"], "ingested, routed, needs_review or failed"),
        (["serve", "--host", "203.0.113.1"], "203.0.113.1 is not an address of this machine"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    citysort: Command, arguments: list[str], sentence: str
) -> None:
    ran = citysort(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("citysort: ")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CITYSORT_PARTITIONS", "hourly", "setting CITYSORT_PARTITIONS: "),
        ("CITYSORT_FILES_URL", "ftp://x", "setting CITYSORT_FILES_URL: "),
        ("CITYSORT_DATABASE_URL", "oracle://me:canary@x/y", "setting CITYSORT_DATABASE_URL: must start with"),
        (
            "CITYSORT_DATABASE_URL",
            "postgresql://me:canary@127.0.0.1:1/y",
            "the documents database cannot be used",
        ),
        ("CITYSORT_DATA_DIR", "/dev/null/data", "setting CITYSORT_DATA_DIR: cannot make"),
    ],
)
def test_settings_that_cannot_be_used_are_one_sentence(
    citysort: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setattr("citysort_dagster.store.database._RETRY_SECONDS", 0)
    monkeypatch.setenv(name, value)
    ran = citysort("sources", "list")
    assert ran.code == 2
    assert ran.err.startswith(f"citysort: {sentence}")
    assert "canary" not in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("arguments", [["--help"], ["documents", "list"], ["sources", "list"], ["verify"]])
def test_quick_commands_load_no_slow_library(citysort: Command, arguments: list[str]) -> None:
    citysort.well("sources", "list")  # makes the tables
    program = (
        f"import sys; from citysort_dagster.cli import main; code = main({arguments!r});"
        f"sys.exit(str([name for name in {SLOW_MODULES!r} if name in sys.modules]))"
    )
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert ran.stderr.splitlines()[-1] == "[]"


def test_it_ends_quietly_when_nobody_reads_on(town: City) -> None:
    import_long_names(town)
    for arguments in (["documents", "list", "--json"], ["documents", "list", "--limit", "400"]):
        process = run(*arguments)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate()
        assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    ("shell", "code", "words"),
    [
        ('"$@" >&-', 0, ""),
        ('"$@" 2>&-', 0, ""),
        ('"$@" <&-', 0, ""),
        ('PYTHONIOENCODING=ascii "$@"', 0, ""),
        ('"$@" >/dev/full', 2, "citysort: the result cannot be written: No space left on device"),
    ],
)
def test_streams_that_are_closed_or_full_or_hold_few_characters(
    town: City, shell: str, code: int, words: str
) -> None:
    town.put("Ö—Bescheid 日本.txt")
    town.run()
    command = [sys.executable, "-m", "citysort_dagster.cli", "documents", "list"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *command], capture_output=True, text=True, env=environment
    )
    assert (ran.returncode, ran.stderr.strip()) == (code, words)


def test_ctrl_c_ends_it_with_130(town: City) -> None:
    import_long_names(town)
    process = run("documents", "list", "--json")
    assert process.stdout is not None
    process.stdout.read(1)  # it is under way, and cannot end: its output is more than a pipe holds
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"")


def test_what_a_terminal_would_obey_is_written_out() -> None:
    name = "a\x1b[31m\x07\n\r\u202ecod.exe\u200b\x9b\u2028é😀 [red]x[/red]"
    assert harmless(name) == "a\\x1b[31m\\x07\\n\\r\\u202ecod.exe\\u200b\\x9b\\u2028é😀 [red]x[/red]"


def test_a_data_folder_that_no_address_of_a_database_can_hold(
    citysort: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's file would lie elsewhere: of two such folders the same for both."""
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "a?b"))
    ran = citysort("sources", "list")
    assert (ran.code, ran.err) == (2, "citysort: setting CITYSORT_DATA_DIR: must not hold a question mark\n")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("a")]
