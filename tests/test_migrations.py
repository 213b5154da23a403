"""Databases of earlier versions become what a new one is, with all that they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from citysort_dagster.document_list import DocumentFilter, list_documents
from citysort_dagster.store import migrations
from citysort_dagster.store.database import HEAD, Database, DatabaseError

REVISIONS = [f"{number:04}" for number in range(1, int(HEAD) + 1)]
DOCUMENTS = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Makes empty databases of one kind."""
    made: list[Database] = []

    def new() -> Database:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / f'{len(made)}.db'}"
        else:
            server = request.getfixturevalue("postgresql_server")
            url = server.create_database().render_as_string(hide_password=False)
        made.append(Database(url))
        return made[-1]

    yield new
    for database in made:
        database.close()


def at_revision(database: Database, revision: str) -> None:
    """Makes the tables of an earlier version, and its documents."""

    def work(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        texts = {"config_json": "{}", "owners": "[]", "tags": "{}", "group_name": "sources"}
        insert(connection, "connector_configs", name="s", connector_type="sqlite", enabled=True, **texts)
        for number in range(DOCUMENTS):
            own = {name: f"{name}{number}" for name in ("id", "external_id", "path")}
            alike = dict.fromkeys(("version", "sha256", "run_id", "status", "stage"), "x")
            kept = {
                "source_metadata": "{}",
                "fields": "{}",
                "review_reasons": "[]",
                "partition": "2026-01-01",
            }
            named = {"source": "s", "connector_type": "sqlite", "filename": f"Elm {number}.txt", "size": 1}
            insert(connection, "documents", **own, **alike, **kept, **named)
            insert(
                connection, "document_texts", document_id=own["id"], text=f"Straße {number}", truncated=False
            )

    database.write(work)


def insert(connection: sa.Connection, table: str, **values: Any) -> None:
    """Adds a row as that version would have, which knew fewer columns than the models."""
    found = sa.Table(table, sa.MetaData(), autoload_with=connection)
    times = ("imported_at", "created_at", "updated_at")
    now = {name: sa.func.current_timestamp() for name in times if name in found.columns}
    connection.execute(sa.insert(found).values(**now, **values))


def schema(database: Database) -> dict[str, Any]:
    """Everything about the tables that the database tells."""
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            table: (
                sorted(str(sorted(column.items(), key=str)) for column in inspector.get_columns(table)),
                inspector.get_pk_constraint(table),
                sorted(map(str, inspector.get_indexes(table))),
                sorted(map(str, inspector.get_unique_constraints(table))),
                sorted(map(str, inspector.get_foreign_keys(table))),
            )
            for table in inspector.get_table_names()
        }


@pytest.mark.parametrize("revision", REVISIONS)
def test_of_each_revision_and_with_the_former_table_of_versions(
    new_database: Callable[[], Database], revision: str
) -> None:
    fresh, old = new_database(), new_database()
    fresh.migrate()
    at_revision(old, revision)

    def named_as_before(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE alembic_version AS SELECT * FROM citysort_version"))
        connection.execute(sa.text("DROP TABLE citysort_version"))

    old.write(named_as_before)
    old.migrate()
    assert schema(old) == schema(fresh)
    everything = list(list_documents(old, DocumentFilter()))
    assert len(everything) == DOCUMENTS
    if revision < "0004":  # since then whoever writes a text notes its words
        assert len(list(list_documents(old, DocumentFilter(words="strasse elm 1")))) == 1


def test_a_newer_database_and_one_that_dagster_shares(new_database: Callable[[], Database]) -> None:
    database = new_database()

    def of_dagster(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('29b539ebc72a')"))

    database.write(of_dagster)
    database.migrate()
    database.migrate()
    with database.read() as connection:
        assert (
            connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "29b539ebc72a"
        )
    database.write(
        lambda connection: connection.execute(sa.text("UPDATE citysort_version SET version_num = '9999'"))
    )
    with pytest.raises(DatabaseError, match="at version 9999, newer than this CitySort"):
        database.migrate()
