"""What a clerk would say about a document, and what no document can do to the one who reads it."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citysort_dagster.pipeline.classify import (
    classify,
    extract_fields,
    looks_like_name,
    parse_amount,
    parse_date,
)
from citysort_dagster.pipeline.rules import OTHER, URGENCIES, Rules, load_rules

RULES = load_rules()

SAMPLES = {
    "building_permit": """\
APPLICATION FOR RESIDENTIAL BUILDING PERMIT

1. Applicant: Ruth Ellen Kowalski          Phone: (555) 010-4477
2. Project address: 4418 W. Prairie Avenue, Unit 2
3. Parcel no.: 17-203-0045
4. Estimated cost of construction: $38,400
Contractor: Bauer & Sons. Scope of work: second floor addition of 420 sq ft, new roof.
Date of application: 03/09/2026
""",
    "business_license": """\
Business License Application

Legal name of business | Two Rivers Coffee Roasters LLC
Business address | 210 Depot Street, Suite 4
Applicant | Samuel Okonkwo
E-mail | sam@tworivers.example
License fee | 125.00 USD

The business license is valid for one year and is not transferable.
""",
    "foi_request": """\
Subject: Public records request
From: Dana Whitfield <dana.whitfield@mail.example>
To: clerk@city.example
Date: Mon, 2 Mar 2026 09:14:00 -0600

Dear City Clerk,

under the Freedom of Information Act I request electronic copies of all snow removal contracts since 2022.
If anything is withheld, please name the exemption.

Sincerely,

Dana Whitfield
""",
    "zoning_variance": """\
# Zoning Variance Application

| Case No. | ZV-2026-014 |
| --- | --- |
| Applicant | Ana Lucía Ferreira |
| Subject property | 77 Mill Race Road |
| Parcel ID | 22-110-903 |
| Zoning district | R-2 |

Variance requested: side setback of 3 ft instead of 8 ft. Hardship: the lot is 35 ft wide.
The Zoning Board of Appeals will hear the case at a public hearing.
""",
    "complaint": """\
CODE ENFORCEMENT COMPLAINT FORM
Complaint no.: CE-2026-00311
Complainant
Helen Abernathy
Address of violation
903 Sycamore Boulevard
Nature of complaint: tall grass, trash and a junk vehicle. Rats were seen by the neighbors.
""",
    "benefits_application": """\
{
 "form": "Application for Benefits",
 "program": "SNAP food assistance",
 "applicant_name": "José Luis Marín",
 "home_address": "15 Ropewalk Alley, Apt 3",
 "household_size": "4",
 "monthly_household_income": "$1,912.40",
 "email": "jl.marin@mail.example"
}
""",
    "court_filing": """\
IN THE MUNICIPAL COURT
Docket No. 26-CV-00127

Riverside Apartments LLC, Plaintiff, v. Carla Mendes, Defendant

MOTION TO DISMISS

COMES NOW the Defendant, by counsel, and moves the Court to dismiss the complaint.
Filed: April 3, 2026
""",
    "other": """\
The Falls Bulletin, the newsletter of your city

News from City Hall. Leaf pickup starts Monday. The library stays open until nine. The council's agenda for
Thursday is posted in the council chambers.
""",
}

EXPECTED: dict[str, dict[str, str]] = {
    "building_permit": {
        "applicant_name": "Ruth Ellen Kowalski",
        "address": "4418 W. Prairie Avenue, Unit 2",
        "parcel_number": "17-203-0045",
        "date": "2026-03-09",
    },
    "business_license": {
        "applicant_name": "Samuel Okonkwo",
        "address": "210 Depot Street, Suite 4",
        "email": "sam@tworivers.example",
        "amount": "125.00",
        "currency": "USD",
    },
    "foi_request": {
        "applicant_name": "Dana Whitfield",
        "email": "dana.whitfield@mail.example",
        "date": "2026-03-02",
    },
    "zoning_variance": {
        "applicant_name": "Ana Lucía Ferreira",
        "address": "77 Mill Race Road",
        "parcel_number": "22-110-903",
        "case_number": "ZV-2026-014",
    },
    "complaint": {
        "applicant_name": "Helen Abernathy",
        "address": "903 Sycamore Boulevard",
        "case_number": "CE-2026-00311",
    },
    "benefits_application": {
        "applicant_name": "José Luis Marín",
        "address": "15 Ropewalk Alley, Apt 3",
        "email": "jl.marin@mail.example",
    },
    "court_filing": {"case_number": "26-CV-00127", "date": "2026-04-03"},
    "other": {},
}


@pytest.mark.parametrize("doc_type", SAMPLES)
def test_a_typical_document_of_each_type(doc_type: str) -> None:
    found = classify(SAMPLES[doc_type], "scan0001.pdf", RULES)
    assert found.doc_type == doc_type
    assert found.department == RULES.document_types[doc_type].department
    assert found.confidence >= RULES.confidence_threshold
    assert found.missing_fields == ()
    assert {name: found.fields.get(name) for name in EXPECTED[doc_type]} == EXPECTED[doc_type]


def test_every_type_has_a_sample() -> None:
    assert SAMPLES.keys() == EXPECTED.keys() == RULES.document_types.keys()


# Confidence


def test_without_evidence_it_is_other_and_uncertain() -> None:
    for text in ("", "   ", "Bread, milk, eggs.", "😀" * 50):
        found = classify(text, "untitled", RULES)
        assert (found.doc_type, found.department, found.confidence) == (OTHER, "General Intake", 0.0)


def test_confidence_follows_its_formula() -> None:
    far = "filler " * 100
    one = classify(f"{far} zoning variance", "x", RULES)
    assert one.doc_type == "zoning_variance"  # strong "variance" and "zoning variance", weak "zoning"
    assert one.confidence == round(1 - 2**-3.5, 4)
    two = classify(f"{far} zoning variance; business license", "x", RULES)
    assert two.confidence == round((1 - 2**-3.5) * 49 / (49 + 9), 4)


def test_a_tie_is_never_certain() -> None:
    found = classify("business license, records request. " + "filler " * 100, "x", RULES)
    assert found.confidence <= 0.5


def test_the_title_and_the_file_name_count_twice() -> None:
    far = "filler " * 100
    below = classify(f"{far} business license", "x", RULES).confidence
    assert classify(f"business license {far}", "x", RULES).confidence > below
    assert classify(far, "business_license_2026.pdf", RULES).confidence > below


def test_words_are_whole_words_in_any_case_and_spacing() -> None:
    far = "filler " * 100
    assert classify(f"{far} BUSINESS\n  License", "x", RULES).doc_type == "business_license"
    assert classify(f"{far} agribusiness licenses", "x", RULES).doc_type == OTHER
    assert classify(f"{far} SNAPshot snapped", "x", RULES).confidence == 0


PHRASES = [
    (name, phrase)
    for name, kind in RULES.document_types.items()
    for phrase in (*kind.strong, *kind.weak)
]  # fmt: skip


@given(st.lists(st.sampled_from(PHRASES), max_size=12), st.data())
def test_more_evidence_for_the_type_found_never_lowers_the_confidence(
    chosen: list[tuple[str, str]], data: st.DataObject
) -> None:
    text = "filler " * 100 + " . ".join(phrase for _, phrase in chosen)
    before = classify(text, "x", RULES)
    added = data.draw(st.sampled_from([phrase for name, phrase in PHRASES if name == before.doc_type]))
    of_others = [phrase for name, phrase in PHRASES if name != before.doc_type]
    after = classify(f"{text} . {added}", "x", RULES)
    if not any(phrase in added for phrase in of_others):
        assert after.doc_type == before.doc_type
        assert after.confidence >= before.confidence


ANY_TEXT = st.one_of(
    st.text(max_size=2000),
    st.lists(
        st.one_of(
            st.sampled_from([phrase for _, phrase in PHRASES] + list(RULES.fields_by_label)),
            st.sampled_from([":", "|", "\n", "\t", "   ", "$", "12", "1/2/2026", "@", "-", "*", '"', ",", "\x00"]),
            st.text(max_size=10),
        ),
        max_size=60,
    ).map("".join),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT, st.text(max_size=300))
def test_no_text_breaks_it(text: str, filename: str) -> None:
    found = classify(text, filename, RULES)
    assert 0 <= found.confidence <= 1
    assert found.doc_type in RULES.document_types
    assert found.department == RULES.document_types[found.doc_type].department
    assert found.urgency in URGENCIES
    assert set(found.missing_fields) == set(RULES.document_types[found.doc_type].required_fields) - set(
        found.fields
    )
    for name, value in found.fields.items():
        assert name in {*RULES.labels, "currency"}
        assert 0 < len(value) <= 200
    if "date" in found.fields:
        date.fromisoformat(found.fields["date"])
    if "amount" in found.fields:
        assert float(found.fields["amount"]) >= 0


@pytest.mark.parametrize(
    "piece",
    [
        "a\n", "a|", "a: ", "applicant: ", "applicant\n", "applicant|date\n", "1", "1 A ", "12 Main ", "a@", "a@a.",
        "$1,", " ", "(", "1/1/", "March 1\n", "parcel no ", "parcel -", "sincerely\n", "\ufdfa", "*:", '":', "|-",
        "A-1-", "A-11-111", "1,234,", "\t", "applicant's ", "Subject: x\n", "'s",
    ],
)  # fmt: skip
def test_no_pattern_is_slow_on_any_text(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    assert classify(text, piece * 50, RULES).confidence <= 1
    assert classify("From: a\n" + text, "x", RULES).confidence <= 1


# Urgency


@pytest.mark.parametrize(
    ("text", "urgency"),
    [
        ("Gas leak reported in the basement", "urgent"),
        ("Notice of eviction hearing", "urgent"),
        ("There is an emergency on Canal Street", "high"),
        ("I called the non-emergency line", "low"),
        ("The porch is a hazard", "high"),
        ("Nothing happens here", "low"),
    ],
)
def test_urgency_by_words(text: str, urgency: str) -> None:
    assert classify("filler " * 100 + text, "x", RULES).urgency == urgency


def test_urgency_never_falls_below_that_of_the_type() -> None:
    assert classify(SAMPLES["court_filing"], "x", RULES).urgency == "high"
    assert classify(SAMPLES["building_permit"], "x", RULES).urgency == "normal"


# Fields


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            "Applicant: Jane Doe Date: 03/04/2026 Phone: 555-1234",
            {"applicant_name": "Jane Doe", "date": "2026-03-04"},
        ),
        (
            "Applicant Name: Jane Doe    Address: 12 Oak St\tParcel: 1-2",
            {"applicant_name": "Jane Doe", "address": "12 Oak St", "parcel_number": "1-2"},
        ),
        (
            "APPLICANT   JANE DOE\nADDRESS   12 MAIN STREET",
            {"applicant_name": "JANE DOE", "address": "12 MAIN STREET"},
        ),
        (
            "Applicant\n\nJane Doe\nProperty Address:\n12 Main St.",
            {"applicant_name": "Jane Doe", "address": "12 Main St."},
        ),
        ("| Applicant | Jane Doe | Date | 3/4/26 |", {"applicant_name": "Jane Doe", "date": "2026-03-04"}),
        (
            "Applicant | Address | Parcel\n--- | --- | ---\nJane Doe | 5 Oak Ave | 77-1",
            {"applicant_name": "Jane Doe", "address": "5 Oak Ave", "parcel_number": "77-1"},
        ),
        ("- **Applicant's Name:** Jane Doe", {"applicant_name": "Jane Doe"}),
        (
            '{\n "applicant_name": "Jane Doe",\n "amount": 1250.5\n}',
            {"applicant_name": "Jane Doe", "amount": "1250.50"},
        ),
        ("Applicant shall pay.\nApplicant María de la Cruz", {"applicant_name": "María de la Cruz"}),
        ("Name: A\nApplicant: Jane Doe", {"applicant_name": "Jane Doe"}),
        ("Applicant: N/A", {}),
        ("Applicant: ____________\nAddress: see attached", {}),
        ("Applicant:\nAddress: 1 Oak St", {"address": "1 Oak St"}),
        ("Date of birth: 1/2/1980\nDate of hearing March 4, 2026", {}),
        ("Springfield, March 4, 2026", {"date": "2026-03-04"}),
        ("Total fee: 1.250,00 €", {"amount": "1250.00", "currency": "€"}),
        (
            "The fee of $45.50 is due for 12 Oak Street, APN 12-345-678.",
            {"amount": "45.50", "currency": "$", "address": "12 Oak Street", "parcel_number": "12-345-678"},
        ),
        (
            "March 4, 2026\n\nDear Sir,\nplease help.\n\nYours sincerely,\n\nJane Doe\njane@mail.example",
            {"date": "2026-03-04", "applicant_name": "Jane Doe", "email": "jane@mail.example"},
        ),
        ("Your case BP-2026-00012 is closed.", {"case_number": "BP-2026-00012"}),
    ],
)
def test_fields(text: str, fields: dict[str, str], rules: Rules) -> None:
    assert extract_fields(text, rules) == fields


def test_the_letter_counts_before_the_mail_that_brings_it(rules: Rules) -> None:
    head = "Subject: Permit\nFrom: Desk <desk@city.example>\nDate: Fri, 6 Mar 2026 10:00:00 +0000\n\n"
    assert extract_fields(f"{head}March 4, 2026\njane@mail.example", rules) == {
        "date": "2026-03-04",
        "email": "jane@mail.example",
    }
    assert extract_fields(f"{head}Hello", rules) == {"date": "2026-03-06", "email": "desk@city.example"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-04", date(2026, 3, 4)),
        ("2026-03-04T10:00:00Z", date(2026, 3, 4)),
        ("3/4/2026", date(2026, 3, 4)),
        ("13/4/2026", date(2026, 4, 13)),
        ("4.3.2026", date(2026, 3, 4)),
        ("3-4-26", date(2026, 3, 4)),
        ("1/2/99", date(1999, 1, 2)),
        ("March 4, 2026", date(2026, 3, 4)),
        ("Mar. 4th 2026", date(2026, 3, 4)),
        ("the 4th of March 2026", date(2026, 3, 4)),
        ("Wed, 4 Mar 2026 10:00:00 -0600", date(2026, 3, 4)),
        ("2026-13-45, or 2026-03-04", date(2026, 3, 4)),
        ("30 February 2026", None),
        ("4 Smarch 2026", None),
        ("1/1/3026", None),
        ("no date", None),
    ],
)
def test_dates(text: str, expected: date | None) -> None:
    assert parse_date(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$12,500.00", ("12500.00", "$")),
        ("$12,500", ("12500.00", "$")),
        ("12500", ("12500.00", "")),
        ("€ 1.250,5", ("1250.50", "€")),
        ("1 250,00 EUR", ("1250.00", "EUR")),
        ("USD 1,250,000.99", ("1250000.99", "USD")),
        ("about $45.5 or so", ("45.50", "$")),
        ("123456789012", ("123456789012.00", "")),
        ("$1" + "0" * 50, None),
        ("1234567890123.45", None),
        ("none", None),
    ],
)
def test_amounts(text: str, expected: tuple[str, str] | None) -> None:
    assert parse_amount(text) == expected


@pytest.mark.parametrize(
    "name", ["Jane Doe", "María José de la Cruz", "J. R. O'Neil-Smith", "JANE DOE", "山田 太郎"]
)
def test_names(name: str) -> None:
    assert looks_like_name(name)


@pytest.mark.parametrize(
    "other", ["", "Jane", "shall pay", "Please call 555", "Is It?", "Signed:", "A B C D E F G"]
)
def test_what_is_no_name(other: str) -> None:
    assert not looks_like_name(other)
