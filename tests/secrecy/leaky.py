"""A connector that fails in every way that nobody foresaw, each time with its password in the text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import BinaryIO, Literal

from pydantic import Field

from connectors.base import ConnectionStatus, Connector, Download, ExternalDocument, Window, secret


class Leaky(Connector):
    """One document, and a failure where `fails` says."""

    connector_type = "leaky"
    kind = "python"

    fails: Literal["list at once", "list", "list on", "download", "close"] = Field(
        description="Where it fails."
    )
    password: str | None = secret("What it says in each error.")

    def _fail(self) -> None:
        try:
            raise ValueError(f"https://user:{self.password}@host")
        except ValueError as error:
            raise RuntimeError(f"the password is {self.password}") from error

    def test_connection(self) -> ConnectionStatus:
        self._fail()
        return ConnectionStatus(True, "never")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        if self.fails == "list at once":
            self._fail()
        return self._listed()

    def _listed(self) -> Iterator[ExternalDocument]:
        if self.fails == "list":
            self._fail()
        yield ExternalDocument("1", "1", "letter.txt", datetime(2026, 1, 1, tzinfo=timezone.utc))
        if self.fails == "list on":
            self._fail()

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        if self.fails == "download":
            self._fail()
        into.write(b"Building permit application. Applicant: Mia Okafor.")
        return Download()

    def close(self) -> None:
        if self.fails == "close":
            self._fail()
