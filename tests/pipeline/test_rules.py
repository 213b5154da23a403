"""The packaged rules hold what the city agreed on; wrong ones are named with their line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from citysort_dagster.pipeline.rules import PACKAGED, Rules, RulesError, label_key, load_rules

DEPARTMENTS = {
    "building_permit": "Building Department",
    "business_license": "Finance & Licensing",
    "foi_request": "City Clerk",
    "zoning_variance": "Planning & Zoning",
    "complaint": "Code Enforcement",
    "benefits_application": "Human Services",
    "court_filing": "Municipal Court",
    "other": "General Intake",
}

SMALL = """\
confidence_threshold: 0.5
weights: {strong: 3, weak: 1}
document_types:
  tree_permit:
    department: Parks
    sla_days: 10
    required_fields: [applicant_name]
    strong: [Tree  Removal, "caf\u00e9\u2019s"]
  other:
    department: Front Desk
    sla_days: 3
labels:
  applicant_name: ["Applicant's Name:"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_packaged_rules(rules: Rules) -> None:
    assert rules.confidence_threshold == 0.82
    assert {name: kind.department for name, kind in rules.document_types.items()} == DEPARTMENTS
    for name, kind in rules.document_types.items():
        assert kind.strong
        assert set(kind.strong).isdisjoint(kind.weak), name
        assert len(kind.strong) == len(set(kind.strong))
        assert len(kind.weak) == len(set(kind.weak))


def test_a_label_stands_for_one_field(rules: Rules) -> None:
    labels = [label for field in rules.labels.values() for label in field]
    assert len(labels) == len(set(labels)) == len(rules.fields_by_label)


def test_own_rules(tmp_path: Path) -> None:
    rules = load_rules(written(tmp_path, SMALL))
    assert rules.document_types["tree_permit"].strong == ("tree removal", "café's")
    assert rules.document_types["tree_permit"].urgency == "normal"
    assert rules.fields_by_label == {"applicants name": ("applicant_name", 0)}


def test_rules_do_not_change(rules: Rules) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        rules.confidence_threshold = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("right", "wrong", "line", "part"),
    [
        (
            "sla_days: 10",
            "sla_days: ten",
            6,
            "document_types.tree_permit.sla_days: Input should be a valid integer",
        ),
        ("sla_days: 10", "sla_days: -1", 6, "greater than or equal to 0"),
        ("sla_days: 10", "sla: 10", 4, "document_types.tree_permit.sla_days: Field required"),
        ("    department: Parks\n", "    department: Parks\n    colour: green\n", 6, "colour: Extra inputs"),
        ("[applicant_name]", "[applicant_nam]", 7, "required_fields.0: Input should be 'applicant_name'"),
        ("[Tree  Removal,", "['!',", 8, "a phrase needs at least one letter or digit"),
        ("[Tree  Removal,", "[12,", 8, "strong.0: Input should be a valid string"),
        ("  other:", "  others:", 3, "document_types needs 'other'"),
        ("  tree_permit:", "  Tree Permit:", 4, "String should match pattern"),
        ("threshold: 0.5", "threshold: 82", 1, "less than or equal to 1"),
        ("strong: 3", "strong: 0", 2, "weights.strong: Input should be greater than 0"),
        ("    sla_days: 3\n", "    sla_days: 3\n    sla_days: 4\n", 12, "stands here a second time"),
        ("department: Parks", "department: Parks: x", 5, "mapping values are not allowed here"),
    ],
)
def test_mistakes_are_named_with_their_line(
    right: str, wrong: str, line: int, part: str, tmp_path: Path
) -> None:
    assert right in SMALL
    path = written(tmp_path, SMALL.replace(right, wrong, 1))
    with pytest.raises(RulesError) as caught:
        load_rules(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rules_that_are_no_rules(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="cannot be read"):
        load_rules(tmp_path / "missing.yaml")
    for text in ("", "- a\n", "just text\n"):
        with pytest.raises(RulesError, match="are a mapping"):
            load_rules(written(tmp_path, text))


def test_comments_of_the_packaged_rules_name_every_section() -> None:
    text = PACKAGED.read_text(encoding="utf-8")
    for section in Rules.model_fields:
        assert f"\n{section}:" in text


@pytest.mark.parametrize(
    ("written_as", "key"),
    [
        ("Applicant Name:", "applicant name"),
        ("applicant_name", "applicant name"),
        ("Assessor\u2019s parcel number", "assessors parcel number"),
        ("assessor_s_parcel_number", "assessors parcel number"),
        ("License no. (office use)", "license no"),
        ("**E-mail:**", "e mail"),
        ("OWNER / APPLICANT", "owner applicant"),
    ],
)
def test_labels_are_compared_without_case_and_punctuation(written_as: str, key: str) -> None:
    assert label_key(written_as) == key
