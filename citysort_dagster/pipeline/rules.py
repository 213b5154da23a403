"""The rules by which documents are classified and routed, as read from `rules.yaml`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from citysort_dagster.quoting import dotted
from citysort_dagster.yaml_lines import YamlError, read_yaml

PACKAGED = Path(__file__).with_name("rules.yaml")

FieldName = Literal["applicant_name", "address", "date", "parcel_number", "case_number", "amount", "email"]
Urgency = Literal["low", "normal", "high", "urgent"]
URGENCIES: tuple[Urgency, ...] = ("low", "normal", "high", "urgent")
OTHER = "other"


class RulesError(Exception):
    """The rules cannot be used as they stand: one sentence with the file and the line."""


def normalized(text: str) -> str:
    """Text as phrases are compared in it: no difference of case, of width, of kinds of space, quotes
    and hyphens."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.translate(_SAME)
    return " ".join(text.split())


_SAME = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u02bc`\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"),
}


def label_key(label: str) -> str:
    """A label as labels are compared: without remarks in brackets and punctuation."""
    label = re.sub(r"\([^()]{0,60}\)", " ", normalized(label).replace("_", " "))
    label = re.sub(r"['\s]s\b", "s", label)
    return " ".join(re.sub(r"[\W_]+", " ", label).split())


def _phrase(text: str) -> str:
    if not re.search(r"\w", text):
        raise ValueError("a phrase needs at least one letter or digit")
    return normalized(text)


def _label(text: str) -> str:
    if not label_key(text):
        raise ValueError("a label needs at least one letter or digit")
    return label_key(text)


Phrase = Annotated[str, AfterValidator(_phrase)]
Label = Annotated[str, AfterValidator(_label)]
TypeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Weights(_Frozen):
    """How much a phrase counts as evidence."""

    strong: float = Field(gt=0, le=100)
    weak: float = Field(gt=0, le=100)


class DocumentType(_Frozen):
    """One kind of document: what tells it, whose it is, and until when."""

    department: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    sla_days: int = Field(ge=0, le=3650, description="Calendar days.")
    urgency: Urgency = "normal"
    required_fields: tuple[FieldName, ...] = ()
    strong: tuple[Phrase, ...] = ()
    weak: tuple[Phrase, ...] = ()


class Rules(_Frozen):
    """All rules. There is always a document type `other`."""

    confidence_threshold: float = Field(ge=0, le=1)
    weights: Weights
    document_types: dict[TypeName, DocumentType]
    urgency: dict[Urgency, tuple[Phrase, ...]] = Field(default_factory=dict)
    labels: dict[FieldName, tuple[Label, ...]] = Field(default_factory=dict)

    @cached_property
    def fields_by_label(self) -> Mapping[str, tuple[FieldName, int]]:
        """The field that a label stands for, and how telling the label is (0 most)."""
        found: dict[str, tuple[FieldName, int]] = {}
        for field, labels in self.labels.items():
            for rank, label in enumerate(labels):
                found.setdefault(label, (field, rank))
        return MappingProxyType(found)


def load_rules(path: Path | None = None) -> Rules:
    """The rules in this file, by default the packaged ones.

    Raises RulesError with one sentence: the file, the line, what is wrong there.
    """
    path = path or PACKAGED
    try:
        data, line_of = read_yaml(path)
    except YamlError as error:
        where = f"{path}, line {error.line}" if error.line else str(path)
        raise RulesError(f"{where}: {error.message}") from None
    if not isinstance(data, dict):
        raise RulesError(
            f"{path}: the rules are a mapping with confidence_threshold, document_types and so on"
        )
    try:
        rules = Rules.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        steps = tuple(step for step in problem["loc"] if step != "[key]")
        name = dotted(steps)
        message = problem["msg"].removeprefix("Value error, ")
        raise RulesError(f"{path}, line {line_of(steps)}: {name}: {message}") from None
    if OTHER not in rules.document_types:
        line = line_of(("document_types",))
        raise RulesError(
            f"{path}, line {line}: document_types needs {OTHER!r}, for all that fits nowhere else"
        )
    return rules
