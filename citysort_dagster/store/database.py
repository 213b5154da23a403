"""The documents database: connections, transactions that are tried again, migrations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

T = TypeVar("T")

HEAD = "0005"
"""The newest migration; a test holds it to what Alembic finds."""

VERSION_TABLE = "citysort_version"
"""What Alembic calls its table by itself is in use where Dagster keeps its storage in the same database."""

_LOCK_WAIT_SECONDS = 60
_RETRY_SECONDS = 120
_MIGRATION_LOCK = 0x63697479
_SQLSTATES_TO_RETRY = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03"}


class DatabaseError(Exception):
    """The documents database cannot be used; one sentence without its address's password."""


class Database:
    """One documents database, SQLite or PostgreSQL, for use by several threads.

    `url` is a SQLAlchemy address with the driver named.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        try:
            self.engine = self._new_engine()
        except (sa.exc.ArgumentError, ValueError, TypeError):
            raise DatabaseError("the address of the documents database asks for what is not known") from None

    def _new_engine(self) -> sa.Engine:
        if not self.is_sqlite:
            engine = sa.create_engine(
                self.url, pool_pre_ping=True, connect_args={"connect_timeout": 10}, hide_parameters=True
            )
            event.listen(engine, "connect", _prepare_postgresql)
            return engine
        connect_args = {"timeout": _LOCK_WAIT_SECONDS}
        engine = sa.create_engine(self.url, connect_args=connect_args, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading, one consistent view. Raises DatabaseError when out of reach."""
        with _for_people(), self.engine.connect() as connection, _given_up_by_ctrl_c(connection):
            yield connection

    def fetch(self, work: Callable[[sa.Connection], T]) -> T:
        """The result of `work`, which only reads; tried again as `write` does."""

        def reading() -> T:
            with self.engine.connect() as connection, _given_up_by_ctrl_c(connection):
                return work(connection)

        return _again(reading)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """The result of `work`, done in one transaction.

        Locked, restarted or deadlocked databases are waited for (two minutes at most), so `work`
        may be called several times, even after a commit whose answer was lost: it must notice what
        is already there. Raises DatabaseError when the database stays out of reach.
        """

        def transaction() -> T:
            with (
                self.engine.connect().execution_options(citysort_write=True) as connection,
                connection.begin(),
                _given_up_by_ctrl_c(connection),
            ):
                return work(connection)

        return _again(transaction)

    def migrate(self) -> None:
        """Brings the tables up to date; safe when several processes start at once.

        Raises DatabaseError when the database is newer than this program, or out of reach.
        """
        with self.read() as connection:
            found = _revision(connection)
        if found == HEAD:
            return
        self.write(self._upgrade)

    def _upgrade(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _rename_version_table(connection)
        found = _revision(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise DatabaseError(
                f"the documents database is at version {found}, newer than this CitySort ({HEAD}): update CitySort"
            )
        from alembic import command
        from alembic.config import Config

        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    def close(self) -> None:
        """Closes the pooled connections."""
        self.engine.dispose()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text("SELECT version_num FROM citysort_version")).scalar()


def _rename_version_table(connection: sa.Connection) -> None:
    """Of a database that was made before the table had a name of its own."""
    there_are = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in there_are and {"alembic_version", "connector_configs"} <= there_are:
        for statement in (
            "CREATE TABLE citysort_version ("
            "version_num VARCHAR(32) NOT NULL, CONSTRAINT citysort_version_pkc PRIMARY KEY (version_num))",
            "INSERT INTO citysort_version SELECT version_num FROM alembic_version",
            "DROP TABLE alembic_version",
        ):
            connection.execute(sa.text(statement))


def _prepare_postgresql(dbapi_connection: Any, _record: Any) -> None:
    # In another zone the first and the last days that there are would be dates that Python does not know.
    dbapi_connection.autocommit = True
    dbapi_connection.execute("SET timezone = 'UTC'")
    dbapi_connection.autocommit = False


def _prepare_sqlite(dbapi_connection: Any, _record: Any) -> None:
    # SQLAlchemy's begin event starts transactions; the driver must not start its own.
    dbapi_connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        dbapi_connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later cannot wait for a lock: take it at once.
    write = connection.get_execution_options().get("citysort_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _again(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, tried again while what ails the database may pass."""
    retrying = Retrying(
        retry=retry_if_exception(_is_passing),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        stop=stop_after_delay(_RETRY_SECONDS),
        reraise=True,
    )
    with _for_people():
        return retrying(attempt)


def _is_passing(error: BaseException) -> bool:
    if not isinstance(error, DBAPIError) or _was_interrupted(error):
        return False
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _SQLSTATES_TO_RETRY:
        return True
    text = str(error.orig).lower()
    return isinstance(error, sa.exc.OperationalError) and any(
        sign in text for sign in ("database is locked", "database is busy", "connection")
    )


@contextmanager
def _for_people() -> Iterator[None]:
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.DataError):  # a mistake of ours, not of the database
        raise
    except sa.exc.DBAPIError as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from None
        reason = " ".join(str(error.orig).split())
        raise DatabaseError(f"the documents database cannot be used: {reason}") from None


@contextmanager
def _given_up_by_ctrl_c(connection: sa.Connection) -> Iterator[None]:
    """Between a command and its answer, a connection can do nothing more, not even roll back."""
    try:
        yield
    except BaseException as error:
        if _was_interrupted(error):
            connection.invalidate()
        raise


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether it came of Ctrl-C: what a driver does in the end may then fail as well."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
