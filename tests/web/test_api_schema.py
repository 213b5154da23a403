"""The API against its own description: whatever fits it is answered as it says, and so is what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from citysort_dagster.installation import open_installation
from citysort_dagster.web.app import create_app
from tests.web.console import Console, make_archive, running

LAUNCHING = r"/import$"
"""Each of these starts a process: other tests launch what is real."""

EXAMPLES = 25
"""Of each operation, always the same ones."""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console with a source, for whoever has its token."""
    folder: Path = tmp_path_factory.mktemp("described")
    (folder / "allowed").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CITYSORT_DATA_DIR", str(folder / "data"))
        patch.setenv("CITYSORT_ALLOWED_FOLDER", str(folder / "allowed"))
        for name in ("CITYSORT_DATABASE_URL", "CITYSORT_FILES_URL", "CITYSORT_SECRET_KEY"):
            patch.delenv(name, raising=False)
        with open_installation() as installation, running(installation, folder) as console:
            admin = console.as_role("admin")
            config = make_archive(folder / "allowed" / "archive.db", {"one.txt": b"text"})
            admin.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": config})
            yield admin


def test_every_answer_is_as_described(described: Console) -> None:
    description = create_app(described.installation).openapi()
    schema = schemathesis.openapi.from_dict(description).exclude(path_regex=LAUNCHING)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 20
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def answers_as_described(case: Case[Any]) -> None:
            case.call_and_validate(
                base_url=described.url,
                headers={"Authorization": f"Bearer {described.token}"},
                timeout=60,
                # What a configuration may hold depends on its connector, which no schema of ours says.
                excluded_checks=[positive_data_acceptance],
            )

        answers_as_described()
