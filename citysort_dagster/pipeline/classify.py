"""What kind of document a text is, how pressing it is, and the fields a clerk would look for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import NamedTuple

from citysort_dagster.pipeline.rules import OTHER, URGENCIES, FieldName, Rules, Urgency, label_key, normalized

MAX_CHARACTERS = 200_000
"""What is looked at of a text; a longer one has told what it is by then."""

TITLE_CHARACTERS = 300


class Classification(NamedTuple):
    """What was found out about a document.

    `confidence` is between 0 and 1. `fields` holds what was found of applicant_name, address, date
    (ISO), parcel_number, case_number, amount (digits and a decimal point), email, and currency as it
    was written beside the amount. `missing_fields` are those the type requires.
    """

    doc_type: str
    department: str
    confidence: float
    urgency: Urgency
    fields: Mapping[str, str]
    missing_fields: tuple[str, ...]


def classify(text: str, filename: str, rules: Rules) -> Classification:
    """Classifies by the evidence of the rules' phrases. Never raises, whatever the text.

    The evidence for a type is the sum of the weights of its phrases that occur, each counted once,
    twice in the title (the first lines, or the file name). With `best` the highest evidence of any
    type and `second` the next,

        confidence = (1 - 2 ** (-best / 2)) * best² / (best² + second²)

    The first factor grows with the evidence (2: 0.50, 5: 0.82, 8: 0.94), the second falls as another
    type comes close (1 without any, 0.96 at a fifth, 0.80 at one half, 0.50 in a tie). Without
    evidence, or in a tie of nothing, the type is `other` with confidence 0.
    """
    text = text[:MAX_CHARACTERS]
    body = normalized(text)[: 2 * MAX_CHARACTERS]  # some characters are normalized to many
    title = normalized(f"{text[:TITLE_CHARACTERS]} {re.sub(r'[_.-]+', ' ', filename)} {filename}")
    evidence = dict.fromkeys(rules.document_types, 0.0)
    for name, document_type in rules.document_types.items():
        for phrases, weight in (
            (document_type.strong, rules.weights.strong),
            (document_type.weak, rules.weights.weak),
        ):
            for phrase in set(phrases):
                if _occurs(phrase, title):
                    evidence[name] += 2 * weight
                elif _occurs(phrase, body):
                    evidence[name] += weight
    ranked = sorted(evidence, key=lambda name: (-evidence[name], name != OTHER))
    doc_type, best = ranked[0], evidence[ranked[0]]
    second = evidence[ranked[1]] if len(ranked) > 1 else 0.0
    if best:
        confidence = (1 - 2 ** (-best / 2)) * best**2 / (best**2 + second**2)
    else:
        doc_type, confidence = OTHER, 0.0
    fields = extract_fields(text, rules)
    found = rules.document_types[doc_type]
    return Classification(
        doc_type=doc_type,
        department=found.department,
        confidence=round(confidence, 4),
        urgency=_urgency(found.urgency, f"{title} {body}", rules),
        fields=fields,
        missing_fields=tuple(name for name in found.required_fields if name not in fields),
    )


def _occurs(phrase: str, text: str) -> bool:
    """Whether the phrase stands in the text as whole words; `emergency` is not in `non-emergency`."""
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        before = text[start - 1] if start else " "
        after = text[end] if end < len(text) else " "
        if not (before.isalnum() or before in "_-") and not (after.isalnum() or after == "_"):
            return True
        start = text.find(phrase, start + 1)
    return False


def _urgency(usual: Urgency, text: str, rules: Rules) -> Urgency:
    for level in reversed(URGENCIES):
        if level == usual or any(_occurs(phrase, text) for phrase in rules.urgency.get(level, ())):
            return level
    return usual


# Fields. A candidate is better the more clearly it is labelled, then the more telling the label is,
# then the earlier it stands.

LABELLED, BELOW, BARE, PATTERN, MAIL_HEADER = range(5)


class _Candidate(NamedTuple):
    clarity: int
    rank: int
    place: int
    field: FieldName
    value: str


def extract_fields(text: str, rules: Rules) -> dict[str, str]:
    """The fields a text tells: from labelled lines and table cells first, by pattern second."""
    lines = [line.strip() for line in text[:MAX_CHARACTERS].splitlines()]
    head, lines = _mail_header(lines)
    fields: dict[str, str] = {}
    for candidate in sorted([*_labelled(lines, rules), *_by_pattern(lines), *_from_mail(head)]):
        if candidate.field not in fields:
            fields.update(_read(candidate))
    return fields


def _mail_header(lines: list[str]) -> tuple[list[str], list[str]]:
    """The header of an e-mail, which tells about the message and not about the matter, and the rest."""
    if not lines or not re.match(r"(Subject|From): ", lines[0]):
        return [], lines
    end = lines.index("") if "" in lines else len(lines)
    if not any(line.startswith("From: ") for line in lines[:end]):
        return [], lines
    return lines[:end], lines[end:]


def _labelled(lines: list[str], rules: Rules) -> Iterator[_Candidate]:
    known = rules.fields_by_label
    for place, line in enumerate(lines):
        if "|" in line:
            yield from _in_table(lines, place, rules)
            continue
        for whole, label, value in _pairs(line, rules):
            yield _Candidate(LABELLED if whole else BARE, label[1], place, label[0], value)
        alone = known.get(label_key(line)) if len(line) <= 80 else None
        if alone:
            below = next((other for other in lines[place + 1 : place + 3] if other), "")
            if below and label_key(below.partition(":")[0][:80]) not in known:
                yield _Candidate(BELOW, alone[1], place, alone[0], below)
        else:
            yield from _bare(line, place, rules)


def _in_table(lines: list[str], place: int, rules: Rules) -> Iterator[_Candidate]:
    """`Applicant | Jane Doe`, or a row of labels over a row of values."""
    known = rules.fields_by_label
    cells = _cells(lines[place])
    rows = [line for line in lines[place + 1 : place + 3] if not re.fullmatch(r"[\s|:-]+", line)]
    below = _cells(rows[0]) if rows else []
    for column, cell in enumerate(cells):
        label = known.get(label_key(cell[:80]))
        if not label:
            continue
        value = cells[column + 1] if column + 1 < len(cells) else ""
        if value and label_key(value[:80]) not in known:
            yield _Candidate(LABELLED, label[1], place, label[0], value)
        elif len(below) == len(cells):
            yield _Candidate(BELOW, label[1], place, label[0], below[column])


def _pairs(line: str, rules: Rules) -> Iterator[tuple[bool, tuple[FieldName, int], str]]:
    """Every known label before a colon with what follows it, up to the next label; and whether the
    label begins the line or follows another value (`Applicant: Jane Doe Date: 3/4/2026`)."""
    line = line[:400]
    colons = [match.end() for match in re.finditer(r"[\w.)\"'*#]\s?:(?=[\s*\"']|$)", line)]
    found: list[tuple[int, int, bool, tuple[FieldName, int] | None]] = []
    begin = 0
    for colon in colons:
        words = list(re.finditer(r"\S+", line[begin : colon - 1]))
        start, whole, label = (words[-1].start() if words else 0), True, None
        for count in range(min(6, len(words)), 0, -1):
            first = words[-count].start()
            label = rules.fields_by_label.get(label_key(line[begin + first : colon - 1]))
            if label:
                before = [word[0] for word in words[:-count]]
                whole = bool(found) or all(re.fullmatch(r"\W{0,5}\w{0,3}\W{0,5}", word) for word in before)
                start = first
                break
        found.append((begin + start, colon, whole, label))
        begin = colon
    starts = [start for start, *_ in found]
    for (_, colon, whole, label), end in zip(found, [*starts[1:], len(line)], strict=False):
        value = re.split(r"\t+| {3,}", line[colon:end].strip())[0]
        if label and value.strip(" \"',*_"):
            yield whole, label, value


def _cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def _bare(line: str, place: int, rules: Rules) -> Iterator[_Candidate]:
    """`Applicant Jane Doe`, as the cells of a table in a PDF come out."""
    words = line[:300].split()
    for count in range(min(5, len(words) - 1), 0, -1):
        label = rules.fields_by_label.get(label_key(" ".join(words[:count])))
        if label:
            yield _Candidate(BARE, label[1], place, label[0], " ".join(words[count:]))
            return


_STREET = re.compile(
    r"\b\d{1,6}[A-Z]?(?:\s[A-Z][\w.'\u2019-]{0,30}){1,4}?\s(?:Street|St|Avenue|Ave|Road|Rd|Drive|Dr|Lane|Ln|Boulevard"
    r"|Blvd|Court|Ct|Place|Pl|Terrace|Way|Circle|Parkway|Pkwy|Highway|Alley|Row|Square)\b\.?"
    r"(?:,?\s(?:Apt|Apartment|Unit|Suite|Ste|#)\.?\s?[\w-]{1,6})?"
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")
_CASE = re.compile(r"(?<![\w-])[A-Z]{1,5}-\d{2,4}-\d{3,7}(?![\w-])")
_PARCEL = re.compile(
    r"\b(?:parcel|apn)(?:\s(?:no\.?|number|id))?[\s:#]{1,3}((?=[\w.-]{0,20}\d)[\w.-]{5,30})", re.I
)
_SUM = re.compile(
    r"\b(?:fee|amount|total|sum|rent|cost|payment|claim|damages)s?\sof\s([$€£]\s?[\d.,]{1,20})", re.I
)
_DATE_LINE = re.compile(r"(?:[^\W\d_]{1,30},\s)?(?:\d|[A-Za-z]{3,9}\.?\s\d)[\w ,./-]{5,25}$")
_CLOSING = re.compile(
    r"(?:sincerely|respectfully|thank you|thanks|(?:kind |best |warm )?regards|yours \w{1,12})[\w ]{0,20},?",
    re.I,
)


def _by_pattern(lines: list[str]) -> Iterator[_Candidate]:
    patterns: tuple[tuple[FieldName, re.Pattern[str]], ...] = (
        ("address", _STREET), ("email", _EMAIL), ("case_number", _CASE), ("parcel_number", _PARCEL), ("amount", _SUM),
    )  # fmt: skip
    found: set[FieldName] = set()
    for place, line in enumerate(lines):
        for field, pattern in patterns:
            if field not in found and (match := pattern.search(line)):
                found.add(field)
                yield _Candidate(PATTERN, 0, place, field, match[match.lastindex or 0].rstrip("."))
        # A letter stands under its date and over its writer.
        if "date" not in found and _DATE_LINE.match(line) and parse_date(line):
            found.add("date")
            yield _Candidate(PATTERN, 0, place, "date", line)
        if len(line) <= 40 and _CLOSING.fullmatch(line):
            signed = next((other for other in lines[place + 1 : place + 5] if other), "")
            if looks_like_name(signed):
                yield _Candidate(PATTERN, 0, place, "applicant_name", signed)


def _from_mail(head: list[str]) -> Iterator[_Candidate]:
    for place, line in enumerate(head):
        name, _, value = line.partition(": ")
        if name == "Date":
            yield _Candidate(MAIL_HEADER, 0, place, "date", value)
        elif name == "From":
            yield _Candidate(MAIL_HEADER, 0, place, "email", value)


def _read(candidate: _Candidate) -> dict[str, str]:
    """The value as it is kept, nothing if it cannot be one."""
    value = " ".join(candidate.value.strip(" \t\"'*,;_|").split())
    field = candidate.field
    if candidate.clarity == BARE and field in ("date", "amount") and not _STARTS.match(value):
        return {}  # `Date of birth`, `Fee schedule 2026`
    if field == "date":
        day = parse_date(value[:60])
        return {"date": day.isoformat()} if day else {}
    if field == "amount":
        amount = parse_amount(value[:60])
        return {"amount": amount[0], **({"currency": amount[1]} if amount[1] else {})} if amount else {}
    if field == "email":
        match = _EMAIL.search(value[:400])
        return {"email": match[0].rstrip(".-'")} if match else {}
    if field in ("case_number", "parcel_number"):
        number = re.match(r"(?:[A-Z]{1,6}\s)?[\w./#-]{1,40}", value)
        return {field: number[0].rstrip(".-/")} if number and re.search(r"\d", number[0]) else {}
    if len(value) > 200 or not re.search(r"[^\W\d_]", value) or label_key(value) in _NOTHING:
        return {}
    if field == "address":
        certain = candidate.clarity == LABELLED or bool(re.match(r"#?\d", value))
    else:
        digits = sum(character.isdigit() for character in value)
        certain = (
            (candidate.clarity == LABELLED or looks_like_name(value)) and "@" not in value and digits <= 2
        )
    return {field: value} if certain else {}


_STARTS = re.compile(r"[$\u20ac\u00a3\u00a5\d]|(?:USD|EUR|GBP|CAD|US\$)\s?\d|[A-Za-z]{3,9}\.?\s\d")

_NOTHING = {
    "",
    "n a",
    "na",
    "none",
    "unknown",
    "tbd",
    "same",
    "same as above",
    "see above",
    "see attached",
    "not applicable",
}


_PARTICLES = {"de", "da", "del", "della", "der", "den", "di", "do", "dos", "du", "la", "le", "van", "von", "y", "e",
              "bin", "al", "el", "&", "and"}  # fmt: skip


def looks_like_name(value: str) -> bool:
    """Two to six words, each with a capital or a particle such as `van`; not a sentence."""
    words = value.split()
    return (
        2 <= len(words) <= 6
        and len(value) <= 80
        and not value.endswith((":", "?", "!"))
        and all(word in _PARTICLES or (word[0].isalpha() and not word[0].islower()) for word in words)
    )


_MONTHS = {month: number for number, months in enumerate(
    ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
     "sep sept september", "oct october", "nov november", "dec december"), 1) for month in months.split()}  # fmt: skip


def parse_date(text: str) -> date | None:
    """The first date in a short text. In 3/4/2026 the month comes first, in 3.4.2026 the day."""
    for match in re.finditer(
        r"(?<!\d)(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)"
        r"|(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s)(?P<y2>\d{4}|\d{2})(?!\d)"
        r"|(?P<d2>\d{1,2})(?:st|nd|rd|th)?\.?\s(?:of\s)?(?P<mon>[A-Za-z]{3,9})\.?,?\s(?P<y3>\d{4})(?!\d))"
        r"|\b(?P<mon2>[A-Za-z]{3,9})\.?\s(?P<d3>\d{1,2})(?:st|nd|rd|th)?,?\s(?P<y4>\d{4})(?!\d)",
        text[:200],
    ):
        part = match.groupdict()
        if part["y"]:
            year, month, day = int(part["y"]), int(part["m"]), int(part["d"])
        elif part["a"]:
            year, month, day = int(part["y2"]), int(part["a"]), int(part["b"])
            year += 2000 if year < 70 else 1900 if year < 100 else 0
            if part["s"] == "." or month > 12:
                month, day = day, month
        else:
            year = int(part["y3"] or part["y4"])
            month = _MONTHS.get((part["mon"] or part["mon2"]).lower(), 0)
            day = int(part["d2"] or part["d3"])
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if 1900 <= found.year <= 2100:
            return found
    return None


def parse_amount(text: str) -> tuple[str, str] | None:
    """The first sum in a short text: digits with a decimal point, and the currency as written.

    A last comma or point with one or two digits behind it is the decimal one: 1,250 is a thousand, 1,25 is not.
    A number of more than twelve digits in a row is none.
    """
    match = re.search(
        r"(US\$|USD|EUR|GBP|CAD|[$€£¥])?\s?(?<!\d)(?<!\d[.,])"
        r"(\d{1,3}(?:[,.' ]\d{3}){1,4}(?:[.,]\d{1,2})?|\d{1,12}(?:[.,]\d{1,2})?)"
        r"(?!\d)\s?(USD|EUR|GBP|CAD|[€£¥])?",
        text[:200],
    )
    if not match:
        return None
    number = match[2]
    decimals = re.search(r"[.,](\d{1,2})$", number)
    whole = re.sub(r"\D", "", number[: decimals.start()] if decimals else number)
    return f"{int(whole)}.{(decimals[1] if decimals else '').ljust(2, '0')}", match[1] or match[3] or ""
