"""Every format comes out as text that a clerk's fields can be read from; the others with their reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from citysort_dagster.pipeline.classify import extract_fields
from citysort_dagster.pipeline.rules import Rules
from tests.hostile.documents import docx_that_laughs, macros_in_a_pdf
from tests.pipeline import documents
from tests.pipeline.conftest import Read

OFFICE = "application/vnd.openxmlformats-officedocument."

FORMATS: dict[str, tuple[Callable[[], bytes], str]] = {
    "pdf": (documents.pdf, "application/pdf"),
    "docx": (documents.docx_file, OFFICE + "wordprocessingml.document"),
    "xlsx": (documents.xlsx, OFFICE + "spreadsheetml.sheet"),
    "pptx": (documents.pptx_file, OFFICE + "presentationml.presentation"),
    "odt": (documents.odt, "application/vnd.oasis.opendocument.text"),
    "rtf": (documents.rtf, "application/rtf"),
    "html": (documents.html, "text/html"),
    "eml": (documents.eml, "message/rfc822"),
    "msg": (documents.msg, "application/vnd.ms-outlook"),
    "csv": (documents.csv_file, "text/csv"),
    "json": (documents.json_file, "application/json"),
    "txt": (lambda: documents.text().encode(), "text/plain"),
    "md": (lambda: documents.text().encode(), "text/markdown"),
}


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_read(ending: str, read: Read, rules: Rules) -> None:
    make, media_type = FORMATS[ending]
    extraction = read(make(), f"form.{ending}")
    assert extraction.problem is None
    assert extraction.media_type == media_type
    assert not extraction.truncated
    assert documents.TITLE in extraction.text
    fields = extract_fields(extraction.text, rules)
    assert fields["applicant_name"] == documents.APPLICANT
    assert fields["address"] == documents.ADDRESS
    assert fields["parcel_number"] == documents.PARCEL
    assert fields["amount"] == "12500.00"


@pytest.mark.parametrize(
    "ending", [ending for ending in FORMATS if ending not in ("csv", "json", "md", "txt")]
)
def test_the_content_decides_and_not_the_name(ending: str, read: Read) -> None:
    make, media_type = FORMATS[ending]
    for name in ("form", "form.xyz", "form.txt" if ending != "pdf" else "form.docx"):
        extraction = read(make(), name)
        if ending == "eml" and name == "form":
            continue  # without a version line, a letter may begin like that too
        assert (extraction.problem, extraction.media_type) == (None, media_type)


def test_pages_of_a_pdf_are_counted(read: Read) -> None:
    assert read(documents.pdf(pages=3), "form.pdf").pages == 3


def test_what_was_typed_into_a_pdf_form_stands_behind_its_label(read: Read, rules: Rules) -> None:
    fields = extract_fields(read(documents.pdf_form(), "form.pdf").text, rules)
    assert fields["applicant_name"] == "Jane Doe"
    assert fields["parcel_number"] == documents.PARCEL


def test_headers_and_tabs_of_word_documents_are_kept(read: Read) -> None:
    text = read(documents.docx_file(), "form.docx").text
    assert "Case number: BP-2026-00017" in text
    assert f"Applicant\t{documents.APPLICANT}" in text


def test_of_a_web_page_only_what_is_seen(read: Read) -> None:
    text = read(documents.html(), "form.html").text
    assert "var x" not in text
    assert "p {" not in text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_of_a_csv_stand_apart(delimiter: str, read: Read) -> None:
    assert f"Parcel number | {documents.PARCEL}" in read(documents.csv_file(delimiter), "form.csv").text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Applicant: Zoë Núñez, façade, 5 €", "utf-8"),
        ("Applicant: Zoë Núñez, façade, 5 €", "utf-8-sig"),
        ("Applicant: Zoë Núñez, façade, 5 €", "utf-16"),
        ("Applicant: Zoë Núñez, façade, 5 €", "utf-16-le"),
        ("Applicant: Zoë Núñez, façade, 5 €", "utf-16-be"),
        ("Applicant: Zoë Núñez, façade, 5 €", "utf-32"),
        ("Applicant: Zoë Núñez, façade, 5 €", "cp1252"),
        ("Demande d\u2019accès à l\u2019information déposée à l\u2019hôtel de ville", "cp1252"),
        ("können äöüß", "latin-1"),
        (
            "建築許可申請書 申請者\uff1a山田太郎 住所\uff1a東京都千代田区1-1 日付\uff1a2026年3月4日",
            "shift_jis",
        ),
        ("建築許可申請書 申請者\uff1a山田太郎 住所\uff1a東京都千代田区1-1 日付\uff1a2026年3月4日", "euc_jp"),
        ("建築許可申請書 申請者\uff1a山田太郎", "iso2022_jp"),
        ("建筑许可申请书 申请人\uff1a王小明 地址\uff1a北京市朝阳区", "gb18030"),
        ("Заявление на разрешение строительства. Заявитель: Иван Петров, улица Ленина 5", "cp1251"),
        ("Заявление на разрешение строительства. Заявитель: Иван Петров, улица Ленина 5", "koi8_r"),
        ("건축 허가 신청서 신청인: 김철수 주소: 서울특별시", "euc_kr"),
    ],
)
def test_old_encodings_come_out_right(text: str, encoding: str, read: Read) -> None:
    extraction = read(text.encode(encoding), "letter.txt")
    assert (extraction.text, extraction.problem) == (text, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "iso8859_15"])
def test_web_pages_in_old_encodings(encoding: str, read: Read) -> None:
    assert documents.APPLICANT in read(documents.html(encoding), "form.html").text


def test_a_web_page_that_states_a_wrong_encoding(read: Read) -> None:
    page = documents.html("utf-8").replace(b'charset="utf-8"', b'charset="shift_jis"')
    assert documents.APPLICANT in read(page, "form.html").text


@pytest.mark.parametrize("codec", ["base64", "idna", "undefined", "rot13"])
def test_a_web_page_that_states_what_is_no_encoding(codec: str, read: Read) -> None:
    page = documents.html("cp1252").replace(b'charset="cp1252"', f'charset="{codec}"'.encode())
    assert documents.APPLICANT in read(page, "form.html").text


@pytest.mark.parametrize(
    "start", ["BM Contracting", "GIF89a", "MZ Builders", "II*", "Subject: permit", "#!/bin/sh"]
)
def test_a_letter_may_begin_like_something_else(start: str, read: Read) -> None:
    extraction = read(f"{start}, {documents.text()}".encode(), "letter.txt")
    assert (extraction.media_type, extraction.problem) == ("text/plain", None)
    assert documents.APPLICANT in extraction.text


def test_incomplete_json_is_still_text(read: Read) -> None:
    extraction = read(documents.json_file()[:-1], "form.json")
    assert extraction.problem is None
    assert documents.APPLICANT in extraction.text


def test_nothing_that_databases_or_terminals_choke_on(read: Read) -> None:
    text = read(
        b"Applicant:\x00 \x1b[31mJane\x07 Doe\r\n\r\n\r\n\r\nend" + b" filler" * 400, "letter.txt"
    ).text
    assert text.startswith("Applicant: [31mJane Doe\n\nend")


@pytest.mark.parametrize(
    "marks", ["\u0301\u0327", "\u0f73", "\uff9e\u0327"], ids=["of Latin", "of Tibetan", "of half width"]
)
def test_letters_under_a_heap_of_marks_lose_most_of_them(marks: str, read: Read) -> None:
    """Normalizing them all would take minutes."""
    text = read(f"Applicant: Ze{marks * 100_000} Nu\u0301n\u0303ez".encode(), "letter.txt").text
    assert text == f"Applicant: Ze{(marks * 30)[:30]} Nu\u0301n\u0303ez"


def test_a_long_row_of_blanks_is_no_trouble(read: Read) -> None:
    extraction = read(b"Dear clerk" + b" \t" * 400_000 + b"x \t\ny", "letter.txt")
    assert extraction.problem is None
    assert extraction.text.endswith(" \tx\ny")


# E-mail


def test_html_mail_keeps_its_lines_apart(read: Read, rules: Rules) -> None:
    fields = extract_fields(read(documents.eml(as_html=True), "mail.eml").text, rules)
    assert fields["applicant_name"] == documents.APPLICANT


def test_attachments_are_read(read: Read, rules: Rules) -> None:
    mail = documents.eml(
        {"form.pdf": documents.pdf(), "logo.png": b"\x89PNG\r\n\x1a\n"}, body="See attached."
    )
    extraction = read(mail, "mail.eml")
    assert extraction.problem is None
    assert "Attachment form.pdf" in extraction.text
    assert extract_fields(extraction.text, rules)["applicant_name"] == documents.APPLICANT


@pytest.mark.parametrize("plain", ["See below.", ""])
def test_attachments_within_an_alternative_are_read(plain: str, read: Read) -> None:
    """Apple Mail puts them beside the HTML, where who reads the plain text does not see them."""
    message = EmailMessage()
    message["From"] = "jane@example.org"
    message.set_content(plain)
    message.add_alternative("<p>See below.</p>", subtype="html")
    (_, html) = message.iter_parts()
    assert isinstance(html, EmailMessage)
    html.add_attachment(documents.pdf(), "application", "pdf", filename="permit.pdf")
    html.add_attachment(b"<p>Regards</p>", "text", "html", disposition="inline")
    extraction = read(message.as_bytes(), "mail.eml")
    assert "Attachment permit.pdf:\nApplication" in extraction.text
    assert extraction.text.count("See below.") == 1
    assert extraction.problem is None

    html.add_attachment(b"\x7fELF", "application", "pdf", filename="form.pdf")
    assert "is a program" in str(read(message.as_bytes(), "mail.eml").problem)


def test_neither_a_blank_alternative_nor_one_for_a_calendar_is_the_message(read: Read) -> None:
    message = EmailMessage()
    message["From"] = "jane@example.org"
    message.set_content("\n", cte="base64")
    message.add_alternative("<p>A permit application.</p>", subtype="html")
    message.add_alternative("BEGIN:VCALENDAR", subtype="calendar")
    assert "A permit application." in read(message.as_bytes(), "mail.eml").text


def test_mail_within_mail_within_mail(read: Read) -> None:
    mail = documents.eml(body="innermost words")
    for _ in range(2):
        mail = documents.eml({"forwarded.eml": mail}, body="see below")
    assert "innermost words" in read(mail, "mail.eml").text
    for _ in range(10):
        mail = documents.eml({"forwarded.eml": mail}, body="see below")
    problem = read(mail, "mail.eml").problem
    assert problem is not None
    assert problem.endswith("It is too deep within other attachments to be read here.")


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (macros_in_a_pdf(), "plan.pdf", "is named .pdf but is a Word document with macros"),
        (docx_that_laughs(), "plan.docx", "defines XML entities"),
        (b"\x7fELF" + bytes(100), "plan.pdf", "is named .pdf but is a program"),
    ],
)
def test_a_danger_in_an_attachment_needs_a_person(content: bytes, name: str, reason: str, read: Read) -> None:
    for mail in (documents.eml({name: content}), documents.eml({"old.eml": documents.eml({name: content})})):
        extraction = read(mail, "mail.eml")
        assert documents.APPLICANT in extraction.text
        assert extraction.problem is not None
        assert f"The attachment '{name}' needs a person: The file {reason}" in extraction.problem


def test_a_locked_attachment_needs_a_person(read: Read) -> None:
    mail = documents.eml({"form.pdf": documents.pdf("secret")}, body="See attached.")
    extraction = read(mail, "mail.eml")
    assert "See attached." in extraction.text
    assert extraction.problem is not None
    assert "'form.pdf'" in extraction.problem
    assert "password-protected" in extraction.problem


def test_headers_and_bodies_in_other_encodings(read: Read) -> None:
    message = EmailMessage()
    message["From"] = "clerk@city.example"
    message["Subject"] = "Baugenehmigung für Zoë"
    message.set_content("Заявитель: Иван Петров", charset="koi8-r", cte="base64")
    text = read(message.as_bytes(), "mail.eml").text
    assert "Subject: Baugenehmigung für Zoë" in text
    assert "Заявитель: Иван Петров" in text


def test_mail_that_states_an_unknown_encoding(read: Read) -> None:
    mail = b"From: a@b.example\nMIME-Version: 1.0\nContent-Type: text/plain; charset=nonsense\n\nZo\xeb N\xfa\xf1ez\n"
    assert "Zoë Núñez" in read(mail, "mail.eml").text


def test_encrypted_mail(read: Read) -> None:
    mail = b"From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; boundary=x\n\n--x\n\nsealed\n"
    assert read(mail, "mail.eml").problem == "The e-mail is encrypted: ask the sender for a readable copy."


def test_mail_with_an_encrypted_message_in_it(read: Read) -> None:
    sealed = "-----BEGIN PGP MESSAGE-----\n\nhIwDY32hYGCE8MkBA\n-----END PGP MESSAGE-----\n"
    mail = f"From: a@b.example\nMIME-Version: 1.0\n\nRead this:\n{sealed}".encode()
    for content, name in ((mail, "mail.eml"), (documents.msg(sealed), "mail.msg")):
        found = read(content, name)
        assert found.problem == "The e-mail is encrypted: ask the sender for a readable copy."
        assert "hIwDY32hYGCE8MkBA" in found.text


# What cannot be read


def protected_office() -> bytes:
    return documents.compound_file({"EncryptionInfo": b"\4\0\4\0", "EncryptedPackage": os.urandom(900)})


def protected_odt() -> bytes:
    manifest = b"<manifest:manifest><manifest:encryption-data/></manifest:manifest>"
    return documents.bomb(documents.odt(), "META-INF/manifest.xml", manifest, b"", 0, b"")


@pytest.mark.parametrize(
    ("content", "filename", "part"),
    [
        (b"", "form.pdf", "is empty"),
        (documents.pdf("secret"), "form.pdf", "password-protected"),
        (protected_office(), "form.docx", "password-protected"),
        (protected_odt(), "form.odt", "password-protected"),
        (documents.pdf()[:400], "form.pdf", "damaged: it cannot be opened as a PDF"),
        (documents.docx_file()[:4000], "form.docx", "damaged: it cannot be opened as a Word document"),
        (documents.xlsx()[:2000], "form.xlsx", "damaged: it cannot be opened as an Excel workbook"),
        (documents.msg()[:1400], "mail.msg", "damaged: it cannot be opened as an Outlook message"),
        (documents.scanned_pdf(), "scan.pdf", "no text layer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "scan.png", "no text layer"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100), "scan.pdf", "no text layer"),
        (b" \n\t\n", "letter.txt", "No text was found"),
        (documents.with_member(documents.with_member(b"", "a.txt", b"a"), "b.txt", b"b"), "all.zip", "zip archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "all.7z", "7z archive"),
        (bytes(range(256)) * 20, "plan.dwg", "not a known document format"),
        (b"\x7fELF" + bytes(100), "invoice.pdf", "is named .pdf but is a program"),
        (b"MZ" + bytes(100), "invoice.docx", "is named .docx but is a program"),
        (b"MZ" + bytes(100), "setup.exe", "is a program, not a document"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_told(content: bytes, filename: str, part: str, read: Read) -> None:
    extraction = read(content, filename)
    assert extraction.text == ""
    assert extraction.problem is not None
    assert part in extraction.problem
    assert extraction.problem.endswith(".")


def test_an_encrypted_pdf_that_opens_without_a_password_is_read(read: Read) -> None:
    extraction = read(documents.pdf(owner_password="only for changes"), "form.pdf")
    assert extraction.problem is None
    assert documents.APPLICANT in extraction.text


def test_macros_under_a_harmless_name_need_a_person(read: Read) -> None:
    content = documents.with_member(documents.docx_file(), "word/vbaProject.bin", b"x")
    extraction = read(content, "form.pdf")
    assert (
        extraction.problem == "The file is named .pdf but is a Word document with macros: open it with care."
    )
    assert documents.APPLICANT in extraction.text
    assert read(content, "form.docm").problem is None


def test_long_texts_are_cut(read: Read) -> None:
    extraction = read(b"Applicant: Jane Doe\n" * 100_000, "long.txt")
    assert len(extraction.text) == 1_000_000
    assert extraction.truncated
