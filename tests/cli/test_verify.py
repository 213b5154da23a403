from __future__ import annotations

from tests.cli.conftest import Command
from tests.importer.conftest import City


def test_agreement_is_exit_code_0_and_disagreement_1(citysort: Command, town: City) -> None:
    town.put("a.txt", b"content")
    town.run()
    ran = citysort.well("verify")
    assert (ran.out, ran.err) == ("", "1 documents checked, no disagreements\n")
    assert citysort.well("verify", "--json").json == []

    (stored,) = (town.data / "files" / path for path in town.stored())
    stored.write_bytes(b"CONTENT")
    assert citysort.well("verify", "--quick", "--json").json == []
    ran = citysort("verify", "--json")
    assert ran.code == 1
    (found,) = ran.json
    assert (found["kind"], found["external_id"]) == ("file", "a.txt")
    ran = citysort("verify")
    assert (ran.code, ran.err) == (1, "1 documents checked, 1 disagreement\n")
    assert ran.out.startswith("file: the stored file has another SHA-256: town_hall, a.txt, ")
