"""Renews the sections of the README that hold results."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.tables import Table

FOLDER = Path(__file__).parent


def write(name: str, table: Table, conditions: str) -> None:
    """Puts a table in its section, which is added when it is new, and its plot beside the README."""
    (FOLDER / "plots").mkdir(exist_ok=True)
    plot = f"plots/{name}.svg"
    (FOLDER / plot).write_text(table.svg())
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{table.markdown(plot)}\n{conditions}\n{end}"
    readme = FOLDER / "README.md"
    text = readme.read_text()
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = known.sub(lambda _: section, text) if known.search(text) else f"{text.rstrip()}\n\n{section}\n"
    readme.write_text(text)
