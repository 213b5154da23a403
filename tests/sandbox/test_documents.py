"""The demo city's documents: what they promise, read back by other programs than the ones that wrote them."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import PurePosixPath

import docx
import kreuzberg
import odfdo
import openpyxl
import pptx
import pytest

from sandbox.documents import DAYS, CityDocument, generate
from sandbox.formats import CONTENT_TYPES
from sandbox.templates import DEPARTMENTS, TEMPLATES

TODAY = date(2026, 11, 20)
DOCUMENTS = generate(today=TODAY)
HONEST = [document for document in DOCUMENTS if not document.awkward]
AWKWARD = {document.awkward: document for document in DOCUMENTS if document.awkward}


def ending(document: CityDocument) -> str:
    return document.name.rpartition(".")[2]


def text_of(document: CityDocument) -> str:
    """The extracted text on one line, without the ornaments of Markdown."""
    found = kreuzberg.extract_bytes_sync(document.content, document.content_type).content
    return " ".join(found.split())


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert generate(today=TODAY) == DOCUMENTS


def test_another_seed_gives_other_people() -> None:
    other = generate(seed=7, today=TODAY)
    assert {d.fields.get("email") for d in other}.isdisjoint(
        {d.fields["email"] for d in HONEST if "email" in d.fields}
    )


def test_the_dates_move_with_today_and_nothing_else_decides_them() -> None:
    week_later = generate(today=TODAY + timedelta(days=7))
    assert [d.modified_at - timedelta(days=7) for d in week_later] == [d.modified_at for d in DOCUMENTS]


@pytest.mark.parametrize("count", [20, 57, 120, 400])
def test_as_many_as_asked_for_with_every_awkward_one(count: int) -> None:
    documents = generate(count, today=TODAY)
    assert len(documents) == count
    assert Counter(d.awkward for d in documents if d.awkward) == Counter(
        d.awkward for d in DOCUMENTS if d.awkward
    )


def test_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        generate(19)


def test_every_kind_comes_in_each_of_its_formats() -> None:
    promised = {(template.kind, format_) for template in TEMPLATES for format_ in template.formats}
    assert {(d.kind, ending(d)) for d in HONEST} == promised
    assert {kind for kind, _ in promised} == set(DEPARTMENTS)
    assert {format_ for _, format_ in promised} == set(CONTENT_TYPES)
    assert all(d.content_type == CONTENT_TYPES[ending(d)] for d in HONEST)


def test_dates_are_past_utc_sorted_and_reach_over_fourteen_months() -> None:
    moments = [d.modified_at for d in DOCUMENTS]
    assert moments == sorted(moments)
    assert all(moment.tzinfo is timezone.utc for moment in moments)
    assert moments[-1] < datetime.combine(TODAY, datetime.min.time(), timezone.utc)
    assert moments[0].date() >= TODAY - timedelta(days=DAYS + 2)
    assert len({(moment.year, moment.month) for moment in moments}) >= 14
    assert all(d.fields["date"] <= d.modified_at.date().isoformat() for d in DOCUMENTS if "date" in d.fields)


def test_names_are_unique_except_for_the_pair() -> None:
    names = Counter(d.name.lower() for d in generate(400, today=TODAY))
    assert [name for name, times in names.items() if times > 1] == ["scan0001.pdf"]
    assert names["scan0001.pdf"] == 2


def test_paths_are_unique_and_plain() -> None:
    paths = [f"{d.folder}/{d.name}" for d in DOCUMENTS]
    assert len(set(paths)) == len(paths)
    assert all(
        PurePosixPath(path).parts == (d.folder, d.name) for path, d in zip(paths, DOCUMENTS, strict=True)
    )


def test_no_two_documents_share_their_bytes() -> None:
    assert len({d.content for d in DOCUMENTS}) == len(DOCUMENTS)


def test_some_are_urgent() -> None:
    urgent = [d for d in DOCUMENTS if d.urgent]
    assert {"complaint", "court_filing", "benefits_application"} == {d.kind for d in urgent}
    assert len(urgent) < len(DOCUMENTS) / 5
    texts = " ".join(text_of(d) for d in urgent).lower()
    assert "gas leak" in texts
    assert "eviction hearing" in texts


def test_addresses_lead_nowhere_real() -> None:
    mailboxes = [d.fields["email"] for d in DOCUMENTS if "email" in d.fields]
    assert mailboxes
    assert all(
        box.endswith(("@example.org", "@example.com", "@mail.example.com")) and box.isascii()
        for box in mailboxes
    )


@pytest.mark.parametrize("document", HONEST, ids=lambda d: f"{d.folder}/{d.name}")
def test_the_text_tells_the_truth(document: CityDocument) -> None:
    text = text_of(document)
    for field, value in document.fields.items():
        told = {
            "amount": [f"${float(value):,.2f}"] if field == "amount" else [],
            "date": _written(value) if field == "date" else [],
        }.get(field, [value])
        assert any(form in text for form in told), f"{field} {value!r} is not told in: {text}"


def _written(iso: str) -> list[str]:
    day = date.fromisoformat(iso)
    return [iso, f"{day:%m/%d/%Y}", f"{day:%B} {day.day}, {day.year}"]


@pytest.mark.parametrize("kind", [kind for kind in DEPARTMENTS if kind != "other"])
def test_required_fields_are_told(kind: str) -> None:
    required = {
        "building_permit": {"applicant_name", "address", "parcel_number"},
        "business_license": {"applicant_name", "address"},
        "foi_request": {"applicant_name"},
        "zoning_variance": {"applicant_name", "address", "parcel_number"},
        "complaint": {"address"},
        "benefits_application": {"applicant_name"},
        "court_filing": {"case_number"},
    }[kind]
    assert all(required <= d.fields.keys() for d in HONEST if d.kind == kind)


def _docx_opens(content: bytes) -> bool:
    document = docx.Document(io.BytesIO(content))
    return bool(document.paragraphs and document.core_properties.author)


def _pptx_opens(content: bytes) -> bool:
    return len(pptx.Presentation(io.BytesIO(content)).slides) >= 3


def _xlsx_opens(content: bytes) -> bool:
    sheet = openpyxl.load_workbook(io.BytesIO(content)).worksheets[0]
    return sheet.max_row > 5


def _odt_opens(content: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
        # https://docs.oasis-open.org/office/OpenDocument/v1.3/os/part2-packages/: first and not compressed.
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    return bool(odfdo.Document(io.BytesIO(content)).body.get_paragraphs())


def _eml_opens(content: bytes) -> bool:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert not message.defects
    assert message["Received"]
    assert message["Date"].datetime.tzinfo
    assert message["From"].addresses[0].domain.endswith(("example.org", "example.com"))
    body = message.get_body(("plain",))
    return body is not None and bool(body.get_content().strip())


def _html_opens(content: bytes) -> bool:
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(content.decode())
    return {"html", "title", "h1", "body"} <= set(tags)


OPENS: dict[str, Callable[[bytes], bool]] = {
    "csv": lambda content: len(list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))) > 3,
    "docx": _docx_opens,
    "eml": _eml_opens,
    "html": _html_opens,
    "json": lambda content: "form" in json.loads(content),
    "md": lambda content: content.startswith(b"# "),
    "odt": _odt_opens,
    "pdf": lambda content: content.startswith(b"%PDF-") and b"%%EOF" in content[-16:],
    "pptx": _pptx_opens,
    "rtf": lambda content: content.startswith(rb"{\rtf1") and content.count(b"{") == content.count(b"}"),
    "txt": lambda content: b"====" in content,
    "xlsx": _xlsx_opens,
}


@pytest.mark.parametrize("format_", sorted(CONTENT_TYPES))
def test_files_open(format_: str) -> None:
    of_format = [d for d in HONEST if ending(d) == format_]
    assert of_format
    assert [d.name for d in of_format if not OPENS[format_](d.content)] == []


def test_some_messages_carry_a_second_version_of_themselves() -> None:
    parts = [
        [part.get_content_type() for part in email.message_from_bytes(d.content).walk()]
        for d in HONEST
        if ending(d) == "eml"
    ]
    assert ["text/plain"] in parts
    assert ["multipart/alternative", "text/plain", "text/html"] in parts


# The awkward ones


def test_the_empty_one_is_empty() -> None:
    assert AWKWARD["empty file"].content == b""
    assert sum(not d.content for d in DOCUMENTS) == 1


def test_the_damaged_one_looks_like_a_pdf_and_is_none() -> None:
    damaged = AWKWARD["damaged PDF"]
    assert damaged.content.startswith(b"%PDF-")
    with pytest.raises(kreuzberg.ParsingError):
        text_of(damaged)


def test_the_confidential_one_wants_its_password() -> None:
    locked = AWKWARD["password-protected PDF"]
    with pytest.raises(kreuzberg.ParsingError, match="password"):
        text_of(locked)
    opened = kreuzberg.extract_bytes_sync(
        locked.content,
        locked.content_type,
        config=kreuzberg.ExtractionConfig(pdf_options=kreuzberg.PdfConfig(passwords=["alder"])),
    )
    assert locked.fields["applicant_name"] in " ".join(opened.content.split())


def test_the_scan_has_no_text_layer() -> None:
    scan = AWKWARD["scanned page without a text layer"]
    assert text_of(scan) == ""
    assert b"/DCTDecode" in scan.content


def test_the_incomplete_form_leaves_its_parcel_number_blank() -> None:
    blank = AWKWARD["required field left blank"]
    assert (blank.kind, "parcel_number" in blank.fields) == ("building_permit", False)
    assert blank.fields["applicant_name"] in text_of(blank)


def test_the_strange_name_is_strange() -> None:
    name = AWKWARD["strange Unicode name"].name
    assert "e\u0308" in name
    assert "\U0001f3da" in name
    assert len(name.encode()) > len(name) * 1.5


def test_the_pair_shares_its_name_and_nothing_else() -> None:
    one, other = (d for d in DOCUMENTS if d.name == "scan0001.pdf")
    assert (one.folder, one.kind) != (other.folder, other.kind)
    assert one.content != other.content


def test_the_bare_name_has_no_ending() -> None:
    bare = AWKWARD["no file extension"]
    assert "." not in bare.name
    assert bare.content_type == "application/octet-stream"
    assert bare.fields["address"] in bare.content.decode()


def test_the_old_text_is_no_utf8() -> None:
    old = AWKWARD["text in an old character set"]
    assert "Chloé Delacroix-Núñez" in old.content.decode("cp1252")
    with pytest.raises(UnicodeDecodeError):
        old.content.decode()


def test_the_message_with_two_matters_tells_both() -> None:
    text = text_of(AWKWARD["two matters in one message"])
    assert "file a complaint" in text
    assert "public records request" in text


def test_the_note_says_next_to_nothing() -> None:
    assert len(text_of(AWKWARD["says too little to be classified"]).split()) < 25
