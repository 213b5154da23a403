"""Secrets that nothing else looks like, and a search for them in whatever form they may have taken."""

from __future__ import annotations

import base64
import gzip
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

GZIP = b"\x1f\x8b\x08"
_SQLITE = b"SQLite format 3\0"


def canary() -> str:
    """A secret of letters and digits only, which no encoding of text changes."""
    return f"cnry{secrets.token_hex(12)}"


def forms(secret: str) -> set[bytes]:
    """What to look for in lower case, and, for the last ones, as it stands."""
    raw = secret.encode()
    quoted = quote(secret, safe="").lower().encode()
    return {raw.lower(), quoted, raw.hex().encode(), secret.lower().encode("utf-16-le")}


def base64_forms(secret: str) -> set[bytes]:
    """The middle of the secret in base64, wherever it begins in what was encoded."""
    found = set()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode())
        middle = encoded[4 if offset else 0 : -4]
        found |= {middle, middle.replace(b"+", b"-").replace(b"/", b"_")}
    return found


class Search:
    """Looks for these secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = sorted(set(secrets))
        assert all(len(secret) >= 12 for secret in found), "too short to be told from other text"
        self._forms = [(secret, forms(secret), base64_forms(secret)) for secret in found]

    def in_bytes(self, data: bytes) -> set[str]:
        """The secrets that stand in these bytes in one form or another, packed by gzip or not."""
        if data.startswith(GZIP):
            data += gzip.decompress(data)
        lower = data.lower()
        return {
            secret
            for secret, in_lower, exact in self._forms
            if any(form in lower for form in in_lower) or any(form in data for form in exact)
        }

    def in_text(self, *texts: object) -> set[str]:
        """The secrets in what `str` makes of these."""
        return self.in_bytes("\n".join(map(str, texts)).encode(errors="surrogatepass"))

    def in_folder(self, folder: Path) -> dict[str, set[str]]:
        """The secrets in all files below a folder and in their names, with where they stand."""
        found: dict[str, set[str]] = {}
        for path in sorted(folder.rglob("*")):
            hits = self.in_text(path.name)
            if path.is_file():
                content = path.read_bytes()
                hits |= self.in_bytes(content)
                if content.startswith(_SQLITE):
                    for value in _cells_of_file(path):
                        hits |= self.in_value(value)
            if hits:
                found[str(path.relative_to(folder))] = hits
        return found

    def in_database(self, url: sa.URL) -> set[str]:
        """The secrets in any cell of any table of a PostgreSQL database."""
        hits: set[str] = set()
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            for table in sa.inspect(connection).get_table_names():
                for row in connection.execute(sa.text(f'SELECT t::text FROM "{table}" t')):
                    hits |= self.in_text(row[0])
        engine.dispose()
        return hits

    def in_value(self, value: object) -> set[str]:
        """The secrets in one cell of a table, packed or not."""
        if isinstance(value, str):
            value = value.encode(errors="surrogatepass")
        if not isinstance(value, bytes):
            return set()
        hits = self.in_bytes(value)
        if value[:1] == b"\x78":  # zlib, as Dagster keeps its snapshots
            try:
                hits |= self.in_bytes(zlib.decompress(value))
            except zlib.error:
                return hits
        return hits


def _cells_of_file(path: Path) -> Iterator[object]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f'SELECT * FROM "{table.decode()}"'):
                yield from row
