"""A library panics, as those written in Rust do: PyO3 raises what is no Exception."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import BinaryIO, ClassVar

from citysort_dagster.import_batch import ImportRequest
from citysort_dagster.importer import Importer
from citysort_dagster.store.models import Document, ImportFailure
from connectors.base import Download, ExternalDocument, Window
from tests.importer.conftest import SOURCE, City
from tests.robustness.archive_connector import Archive, ArchiveConnector, Mishaps, Version


class Panic(BaseException):
    """https://pyo3.rs/main/doc/pyo3/panic/struct.PanicException.html"""


class PanickingConnector(ArchiveConnector):
    """Panics over every batch, and over one document."""

    batched_bytes: ClassVar[int] = 1_000

    def download_batch(
        self, documents: Sequence[ExternalDocument]
    ) -> Iterator[tuple[ExternalDocument, bytes]]:
        raise Panic

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        if document.external_id == "3":
            raise Panic
        return super().download_document(document, into)


def test_a_panic_is_the_failure_of_the_document_that_it_came_over(city: City) -> None:
    archive = Archive({str(number): Version("v1", b"content", None) for number in range(20)})
    request = ImportRequest(SOURCE, str(uuid.uuid4()), Window(), city.calendar.keys)
    connector = PanickingConnector().reads(archive, Mishaps())
    importer = Importer(request, connector, city.database, city.files, city.calendar)
    for _ in importer.run():
        pass
    assert (importer.summary.counts.imported, importer.summary.counts.failed) == (19, 1)
    assert len(city.rows(Document)) == 19
    (failure,) = city.rows(ImportFailure)
    assert failure.external_id == "3"
    assert failure.reason.startswith("unexpected Panic in ")
    assert city.disagreements() == []
