"""Tokens of the HTTP API and browser sessions: made, shown once, looked up by their hash, revoked."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from citysort_dagster.store.database import Database
from citysort_dagster.store.models import ApiToken, Session
from citysort_dagster.store.sync_log import audit, now


class Role(enum.IntEnum):
    """What a caller may do; each role may do what those before it may."""

    viewer = 1
    """Look at everything but secrets."""
    operator = 2
    """Test, import, review."""
    admin = 3
    """Configure sources."""


ROLES = tuple(Role.__members__)
SESSION_LASTS = timedelta(hours=12)
NOTED_EVERY = timedelta(minutes=1)
"""When a token was last used is kept this exactly, so that reading need not write every time."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,59}")


class TokenError(Exception):
    """A token cannot be made or revoked; one sentence."""


class Token(NamedTuple):
    """What is known of a token; the token itself is not."""

    id: int
    name: str
    role: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = (
    ApiToken.id,
    ApiToken.name,
    ApiToken.role,
    ApiToken.created_at,
    ApiToken.last_used_at,
    ApiToken.revoked_at,
)


def create(database: Database, name: str, role: str, actor: str) -> str:
    """Makes a token and returns it: nobody can show it again. Raises TokenError, DatabaseError."""
    if not _NAME.fullmatch(name):
        raise TokenError(
            "the name of a token consists of up to 60 lower-case letters, digits and . _ @ -,"
            " and begins with a letter or digit"
        )
    if role not in ROLES:
        raise TokenError(f"there is no such role; there are: {', '.join(ROLES)}")
    token = f"citysort_{secrets.token_urlsafe(32)}"

    def work(connection: sa.Connection) -> None:
        found = connection.execute(sa.select(ApiToken.hash).where(ApiToken.name == name)).scalar()
        if found == _hash(token):
            return  # a commit whose answer was lost
        if found is not None:
            raise TokenError(
                f"there is, or was, a token {name}: choose another name, so that audit events stay clear"
            )
        connection.execute(
            sa.insert(ApiToken).values(name=name, hash=_hash(token), role=role, created_at=now())
        )
        audit(connection, [{"event": "token created", "details": {"token": name, "role": role}}], actor)

    database.write(work)
    return token


def revoke(database: Database, name: str, actor: str) -> None:
    """Makes a token, and the sessions it opened, good for nothing. Raises TokenError, DatabaseError."""

    def work(connection: sa.Connection) -> None:
        row = connection.execute(sa.select(*_COLUMNS).where(ApiToken.name == name)).first()
        if row is None:
            # Not quoted: some give the token itself here.
            raise TokenError("there is no token of that name; `citysort token list` shows those there are")
        if row.revoked_at is None:
            connection.execute(sa.update(ApiToken).where(ApiToken.id == row.id).values(revoked_at=now()))
            audit(connection, [{"event": "token revoked", "details": {"token": name}}], actor)
        connection.execute(sa.delete(Session).where(Session.token_id == row.id))

    database.write(work)


def tokens(database: Database) -> list[Token]:
    """Every token there is or was, by name. Raises DatabaseError."""
    with database.read() as connection:
        return [Token(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(ApiToken.name))]


def exist(database: Database) -> bool:
    """Whether a token was ever made. A revoked one counts: revoking the last opens nothing."""
    with database.read() as connection:
        return connection.execute(sa.select(ApiToken.id).limit(1)).first() is not None


def by_token(database: Database, token: str) -> Token | None:
    """The token if it is good. Raises DatabaseError."""
    wanted = _hash(token)
    with database.read() as connection:
        row = connection.execute(
            sa.select(ApiToken.hash, *_COLUMNS).where(ApiToken.hash == wanted, ApiToken.revoked_at.is_(None))
        ).first()
    if row is None or not hmac.compare_digest(row.hash, wanted):
        return None
    found = Token(*row[1:])
    if found.last_used_at is None or now() - found.last_used_at > NOTED_EVERY:
        database.write(
            lambda connection: connection.execute(
                sa.update(ApiToken).where(ApiToken.id == found.id).values(last_used_at=now())
            )
        )
    return found


def open_session(database: Database, token: Token) -> str:
    """The cookie of a new browser session of whoever has this token. Raises DatabaseError."""
    cookie = secrets.token_urlsafe(32)

    def work(connection: sa.Connection) -> None:
        at = now()
        connection.execute(
            sa.delete(Session).where((Session.expires_at < at) | (Session.hash == _hash(cookie)))
        )
        connection.execute(
            sa.insert(Session).values(
                hash=_hash(cookie), token_id=token.id, created_at=at, expires_at=at + SESSION_LASTS
            )
        )
        audit(connection, [{"event": "signed in", "details": {}}], token.name)

    database.write(work)
    return cookie


def by_session(database: Database, cookie: str) -> Token | None:
    """The token that a living session was opened with, if it is still good. Raises DatabaseError."""
    if not cookie:
        return None
    wanted = _hash(cookie)
    with database.read() as connection:
        row = connection.execute(
            sa.select(Session.hash, *_COLUMNS)
            .join(ApiToken, ApiToken.id == Session.token_id)
            .where(Session.hash == wanted, Session.expires_at > now(), ApiToken.revoked_at.is_(None))
        ).first()
    if row is None or not hmac.compare_digest(row.hash, wanted):
        return None
    return Token(*row[1:])


def close_session(database: Database, cookie: str) -> None:
    """Ends a session; one that is not there has ended already. Raises DatabaseError."""
    database.write(
        lambda connection: connection.execute(sa.delete(Session).where(Session.hash == _hash(cookie)))
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
