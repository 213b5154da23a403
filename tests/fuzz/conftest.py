"""The command line on installations that are thrown away, quick enough for hundreds of examples."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from citysort_dagster.cli import main

PROMISED = {0, 1, 2, 3}


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Installation:
    """A folder with a data folder, and a command line for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"

    def run(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
        """Runs a command and holds it to what is promised of every one."""
        former_folder, former = Path.cwd(), dict(os.environ)
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        for name in [name for name in os.environ if name.startswith("CITYSORT_")]:
            del os.environ[name]
        os.environ.update({"CITYSORT_DATA_DIR": str(self.data_dir), **(environment or {})})
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(list(arguments))
                out.flush()
        finally:
            os.chdir(former_folder)
            os.environ.clear()
            os.environ.update(former)
        printed = out.buffer.getvalue().decode()
        ended = Ended(code, printed, err.getvalue())
        assert code in PROMISED, (arguments, ended)
        assert not re.search("Traceback|defect|^unexpected", ended.err), (arguments, ended)
        if code == 2:
            assert ended.err.startswith("citysort: "), (arguments, ended)
            assert ended.out == "" or arguments[:1] == ["import"], (arguments, ended)
        return ended


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without sources."""
    yield Installation(tmp_path_factory.mktemp("fuzz"))
