"""Runs benchmarks: `python -m benchmarks [NAME...] [--rounds N] [--write]`."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.measure import conditions
from benchmarks.readme import write

BENCHMARKS = ("s3", "sql", "sync_log", "listing", "large_file", "extraction", "startup")


def main() -> int:
    """Prints a table for each benchmark, and says which targets were missed. Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender; the best counts")
    parser.add_argument("--write", action="store_true", help="renew the tables and plots of the README")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    print(f"{conditions()}\n", flush=True)  # noqa: T201 - what a command says
    for name in options.names or BENCHMARKS:
        for table_name, table in importlib.import_module(f"benchmarks.{name}").run(options.rounds):
            print(table.text(), flush=True)  # noqa: T201
            if options.write:
                write(table_name, table, conditions())
    return 0


if __name__ == "__main__":
    sys.exit(main())
