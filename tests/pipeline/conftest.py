"""One extractor for the tests that only read, and a way to read bytes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citysort_dagster.pipeline.extract import Extraction, TextExtractor
from citysort_dagster.pipeline.rules import Rules, load_rules

Read = Callable[[bytes, str], Extraction]


@pytest.fixture(scope="module")
def extractor() -> Iterator[TextExtractor]:
    with TextExtractor(workers=1) as extractor:
        yield extractor


@pytest.fixture
def read(extractor: TextExtractor, tmp_path: Path) -> Read:
    """Reads bytes as a document of this file name."""

    def read(content: bytes, filename: str) -> Extraction:
        path = tmp_path / "stored"
        path.write_bytes(content)
        [(document_id, extraction)] = extractor.extract([("the id", path, filename)])
        assert document_id == "the id"
        return extraction

    return read


@pytest.fixture(scope="session")
def rules() -> Rules:
    return load_rules()
