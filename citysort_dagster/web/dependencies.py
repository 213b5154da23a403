"""What every endpoint may ask for."""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated

import dagster as dg
from fastapi import Depends, Request

from citysort_dagster.installation import Installation
from citysort_dagster.instance import open_instance
from citysort_dagster.pipeline.rules import PACKAGED, Rules, load_rules


def _installation(request: Request) -> Installation:
    found: Installation = request.app.state.installation
    return found


TheInstallation = Annotated[Installation, Depends(_installation)]
"""The installation that this server serves: `def endpoint(installation: TheInstallation)`."""


class LazyInstance:
    """The Dagster instance of an installation, opened when first asked for: most pages do without."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._opening = Lock()
        self._stack = ExitStack()
        self._opened: dg.DagsterInstance | None = None

    def get(self) -> dg.DagsterInstance:
        """The instance, always the same one."""
        with self._opening:
            if self._opened is None:
                self._opened = self._stack.enter_context(open_instance(self._installation.settings))
            return self._opened

    def close(self) -> None:
        """Lets go of it."""
        with self._opening:
            self._stack.close()
            self._opened = None


def _instance(request: Request) -> dg.DagsterInstance:
    lazy: LazyInstance = request.app.state.instance
    return lazy.get()


TheInstance = Annotated[dg.DagsterInstance, Depends(_instance)]
"""The Dagster instance that runs are launched in and looked up in."""


def _rules(installation: TheInstallation) -> Rules:
    path = installation.settings.rules_file or PACKAGED
    try:
        saved_at = path.stat().st_mtime_ns
    except OSError:
        saved_at = 0
    return _rules_as_saved(path, saved_at)


@lru_cache(maxsize=1)
def _rules_as_saved(path: Path, _saved_at: int) -> Rules:
    return load_rules(path)


TheRules = Annotated[Rules, Depends(_rules)]
"""The rules of document types and departments, as the file holds them now."""
