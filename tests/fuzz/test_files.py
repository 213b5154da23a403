"""`sources.yaml` and `rules.yaml` after any slip: they do, or one sentence a problem says where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from citysort_dagster.pipeline.classify import classify
from citysort_dagster.pipeline.rules import PACKAGED, RulesError, load_rules
from tests.fuzz.conftest import Installation
from tests.fuzz.mutations import other_values, slips, written

EXAMPLES = Path(__file__).parents[2] / "sources.example.yaml"
SOURCES = EXAMPLES.read_text()
FULL: dict[str, Any] = {
    "sources": [
        {
            "name": "permits",
            "connector": "amazon_s3",
            "config": {
                "bucket_name": "permits",
                "region": "us-east-1",
                "access_key_id": {"env": "FUZZ_KEY_ID"},
                "secret_access_key": {"env": "FUZZ_KEY"},
                "allowed_types": ["pdf", "docx"],
                "max_size_mb": 100,
                "requester_pays": False,
            },
            "schedule": "*/15 * * * *",
            "enabled": True,
            "description": "Building permits",
            "owners": ["team:permits", "clerk@city.example"],
            "tags": {"floor": "2"},
            "group": "permits",
            "partitions_per_run": 12,
        },
        {
            "name": "courts",
            "connector": "postgresql",
            "config": {
                "host": "localhost",
                "port": 5432,
                "database": "courts",
                "username": "reader",
                "query": "SELECT * FROM filings",
                "id_column": "id",
                "content_column": "content",
                "timezone": "America/Chicago",
            },
        },
    ]
}
RULES = PACKAGED.read_text()
RULES_DATA = yaml.safe_load(RULES)
LETTER = (
    "Building permit application\nApplicant: Mia Okafor\nParcel number: 12-345-678\nEstimated cost: $ 12,500"
)


def apply(installation: Installation, content: bytes) -> None:
    file = installation.folder / "sources.yaml"
    file.write_bytes(content)
    ended = installation.run(["sources", "apply", "sources.yaml"])
    if ended.code:
        assert ended.code == 2, ended
        assert all(line.startswith(f"citysort: {file.name}, line ") for line in ended.err.splitlines()), ended
    installation.run(["sources", "list", "--json"])


@settings(max_examples=100)
@given(other_values(FULL))
def test_sources_with_other_values(installation: Installation, data: Any) -> None:
    apply(installation, written(data))


@settings(max_examples=80)
@given(st.one_of(slips(SOURCES), slips(written(FULL).decode())))
def test_sources_with_slips(installation: Installation, content: bytes) -> None:
    apply(installation, content)


def use_rules(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        rules = load_rules(file)
    except RulesError as error:
        assert str(error).startswith(str(file))
        assert len(str(error)) < 2_000
        return
    found = classify(LETTER, "letter.txt", rules)
    assert found.doc_type in rules.document_types
    assert 0 <= found.confidence <= 1


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules") / "rules.yaml"


@settings(max_examples=120)
@given(other_values(RULES_DATA))
def test_rules_with_other_values(rules_file: Path, data: Any) -> None:
    use_rules(rules_file, written(data))


@settings(max_examples=60)
@given(slips(RULES))
def test_rules_with_slips(rules_file: Path, content: bytes) -> None:
    use_rules(rules_file, content)


NO_YAML = [
    b"\xff\xfe",
    b"a: *b",
    b"[" * 5_000,
    b"{a: " * 5_000,
    b"a: !!bool maybe",
    b"a: !!timestamp soon",
    b"a: !!int ''",
    b"a: !!float ''",
    b'a: "\\UFFFFFFFF"',
    b"%YAML 1." + b"1" * 5_000 + b"\n---\na: b",
]


@pytest.mark.parametrize("content", [b"", b"- a", b"? {a: b}\n: c", *NO_YAML])
def test_rules_that_are_none(rules_file: Path, content: bytes) -> None:
    rules_file.write_bytes(content)
    with pytest.raises(RulesError):
        load_rules(rules_file)


@pytest.mark.parametrize("content", NO_YAML)
def test_sources_that_are_no_yaml(installation: Installation, content: bytes) -> None:
    apply(installation, content)


def test_rules_that_cannot_be_used_stop_the_run_with_a_sentence(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    (tmp_path / "letters.db").touch()
    (tmp_path / "sources.yaml").write_text(
        "sources: [{name: letters, connector: sqlite, config: {filepath: letters.db,"
        " query: SELECT 1 AS id, id_column: id, content_column: id}}]"
    )
    (tmp_path / "rules.yaml").write_text("confidence_threshold: [")
    environment = {"CITYSORT_RULES_FILE": "rules.yaml"}
    assert installation.run(["sources", "apply", "sources.yaml"]).code == 0
    assert installation.run(["import", "letters"]).code == 0
    ended = installation.run(["process"], environment)
    assert ended.code == 1
    assert "rules.yaml, line 1: " in ended.err
