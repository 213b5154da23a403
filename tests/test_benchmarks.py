"""Benchmarks still run; how fast anything is, no test says."""

from __future__ import annotations

import pytest

from benchmarks import listing


def test_an_import_of_known_documents_is_measured_beside_its_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "DOCUMENTS", 1_000)
    ((name, table),) = listing.run(1)
    assert name == "listing"
    assert [row.name for row in table.rows] == ["CitySort, import again", "the same connector, listing only"]
    assert all(row.usage is not None for row in table.rows)
