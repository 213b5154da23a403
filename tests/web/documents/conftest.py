"""Towns on each kind of documents database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from citysort_dagster.files import open_file_store
from citysort_dagster.installation import Installation
from citysort_dagster.pipeline.rules import Rules, load_rules
from citysort_dagster.settings import Settings
from citysort_dagster.store.database import Database
from tests.web.documents.serving import served
from tests.web.documents.town import START, Town


@contextmanager
def found_town(folder: Path, url: str) -> Iterator[Town]:
    """A town without documents."""
    data = folder / "data"
    data.mkdir()
    database = Database(url)
    database.migrate()
    settings = Settings(data_dir=data, partitions_start=START)
    files = open_file_store(str(data / "files"), data / "incoming")
    yield Town(Installation(settings, database, files), folder / "source")
    database.close()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One town for all tests on a kind of database; each test brings its own documents."""
    folder = tmp_path_factory.mktemp("town")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'citysort.db'}"
    else:
        server = request.getfixturevalue("postgresql_server")
        url = server.create_database().render_as_string(hide_password=False)
    with found_town(folder, url) as founded:
        yield founded


@pytest.fixture(scope="session")
def rules() -> Rules:
    return load_rules()


@pytest.fixture(scope="session")
def town_url(town: Town) -> Iterator[str]:
    """Where the town's console and API are served."""
    with served(town.installation) as url:
        yield url
