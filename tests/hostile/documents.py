"""Documents made to do harm: small, and endless, bottomless or not what they say."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from tests.pipeline.documents import (
    docx_bomb,
    docx_file,
    eml,
    odt,
    pdf,
    pptx_file,
    text,
    with_member,
    xlsx,
    xlsx_bomb,
)

LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 11)
) + "]>"  # fmt: skip
LAUGH = "&a10;"
DEEP = 100_000


def _with_part(archive: bytes, part: str, content: bytes) -> bytes:
    saved = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(saved, "w") as after:
        for name in before.namelist():
            after.writestr(name, content if name == part else before.read(name))
    return saved.getvalue()


def docx_that_laughs() -> bytes:
    body = (
        f'<?xml version="1.0"?>{LAUGHS}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body><w:p><w:r><w:t>{LAUGH}</w:t></w:r></w:p></w:body></w:document>"
    )
    return _with_part(docx_file(), "word/document.xml", body.encode())


def xlsx_that_laughs() -> bytes:
    sheet = (
        f'<?xml version="1.0"?>{LAUGHS}<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f'<sheetData><row><c t="inlineStr"><is><t>{LAUGH}</t></is></c></row></sheetData></worksheet>'
    )
    return _with_part(xlsx(), "xl/worksheets/sheet1.xml", sheet.encode())


def odt_that_laughs() -> bytes:
    body = (
        f'<?xml version="1.0"?>{LAUGHS}<office:document-content'
        ' xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
        ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">'
        f"<office:body><office:text><text:p>{LAUGH}</text:p></office:text></office:body></office:document-content>"
    )
    return _with_part(odt(), "content.xml", body.encode())


def odt_of_an_unheard_of_type() -> bytes:
    """Of one that PostgreSQL cannot store and terminals act upon."""
    return _with_part(odt(), "mimetype", b"application/vnd.oasis.opendocument.text\0\x1b[31m")


def svg_that_laughs() -> bytes:
    return f'<?xml version="1.0"?>{LAUGHS}<svg xmlns="http://www.w3.org/2000/svg"><text>{LAUGH}</text></svg>'.encode()


def xml_that_laughs() -> bytes:
    return f'<?xml version="1.0"?>{LAUGHS}<x>{LAUGH}</x>'.encode()


def xml_that_reads_files() -> bytes:
    return b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>'


def docx_that_reads_files() -> bytes:
    body = (
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        "<w:body><w:p><w:r><w:t>&f;</w:t></w:r></w:p></w:body></w:document>"
    )
    return _with_part(docx_file(), "word/document.xml", body.encode())


def _pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, numbered from 1, the first of them its catalog."""
    saved = io.BytesIO(b"%PDF-1.7\n")
    saved.seek(0, io.SEEK_END)
    places = []
    for number, content in enumerate(objects, 1):
        places.append(saved.tell())
        saved.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    at = saved.tell()
    saved.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for place in places:
        saved.write(b"%010d 00000 n \n" % place)
    saved.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, at))
    return saved.getvalue()


def _stream(head: bytes, content: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (head, len(content), content)


def pdf_whose_pages_hold_each_other() -> bytes:
    return _pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1000000 /Kids [3 0 R 2 0 R] /Parent 3 0 R >>",
        b"<< /Type /Pages /Count 1000000 /Kids [2 0 R 3 0 R] /Parent 2 0 R >>",
    )


def pdf_whose_forms_hold_each_other() -> bytes:
    """Two forms, each of which draws the other ten times."""
    forms = [
        _stream(
            b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /F %d 0 R >> >>"
            % other,
            b"/F Do " * 10,
        )
        for other in (6, 5)
    ]
    return _pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R"
        b" /Resources << /XObject << /F 5 0 R >> >> >>",
        _stream(b"", b"/F Do"),
        *forms,
    )


def pdf_without_end() -> bytes:
    """A million pages, all of them the same drawing: busy for minutes, and quiet about it."""
    return _pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1000000 /Kids [%s] >>" % (b"3 0 R " * 1_000_000),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R >>",
        _stream(b"", b"0 0 m 9 9 l S " * 1_000),
    )


def zip_bomb() -> bytes:
    saved = io.BytesIO()
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(200):
            member.write(bytes(1_000_000))
    return saved.getvalue()


def zip_in_zip() -> bytes:
    content = text().encode()
    for number in range(100):
        saved = io.BytesIO()
        with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{number}.zip", content)
        content = saved.getvalue()
    return content


def docx_of_very_many_parts() -> bytes:
    saved = io.BytesIO(docx_file())
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(10_000):
            archive.writestr(f"word/headers/{number}.xml", b"<x/>")
    return saved.getvalue()


def macros_in_a_pdf() -> bytes:
    """A Word document with macros, to be called .pdf."""
    return with_member(docx_file(), "word/vbaProject.bin", b"\xd0\xcf\x11\xe0 Attribut VB_Name")


def mail_in_mail(times: int = 1_000) -> bytes:
    """Each in an attachment of the next."""
    content = eml()
    for number in range(times):
        head = (
            f"Subject: {number}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b{number}\n\n--b{number}\n"
            "Content-Type: message/rfc822\n\n"
        )
        content = head.encode() + content + f"\n--b{number}--\n".encode()
    return content


def parts_in_parts(times: int = 2_000) -> bytes:
    lines = ["Subject: deep", "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b0", ""]
    for number in range(times):
        lines += [f"--b{number}", f"Content-Type: multipart/mixed; boundary=b{number + 1}", ""]
    return "\n".join(lines).encode()


def json_deep() -> bytes:
    return b"[" * DEEP + b"]" * DEEP


def html_deep() -> bytes:
    return b"<html><body>" + b"<div>" * DEEP + b"x" + b"</div>" * DEEP + b"</body></html>"


def xml_deep() -> bytes:
    return b'<?xml version="1.0"?>' + b"<a>" * DEEP + b"x" + b"</a>" * DEEP


def rtf_deep() -> bytes:
    return b"{\\rtf1 " + b"{" * DEEP + b"x" + b"}" * DEEP + b"}"


def markdown_deep() -> bytes:
    return b">" * DEEP + b" x"


def csv_wide() -> bytes:
    return b"," * 3_000_000


def pptx_deep() -> bytes:
    """Deeper than the parser's stack: it really crashes."""
    slide = (
        b'<p:sld xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main">' + b"<p:grpSp>" * DEEP
    )
    return _with_part(pptx_file(), "ppt/slides/slide1.xml", slide)


MEMORY = "needed more than"
CRASH = "made the reading program crash"
TIME = "took more than"
ENTITIES = "defines XML entities"
PACKED = "cannot be read here: zip archive"
DAMAGED = "is damaged"
GAVE_UP = r"the parser failed \(RecursionError\)"
EMPTY = "No text was found"
UNKNOWN = "is not certain enough"

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.docx": (docx_bomb, MEMORY),
    "bomb.xlsx": (xlsx_bomb, MEMORY),
    "bomb.zip": (zip_bomb, PACKED),
    "zip in zip.zip": (zip_in_zip, PACKED),
    "parts.docx": (docx_of_very_many_parts, DAMAGED),
    "laughs.docx": (docx_that_laughs, ENTITIES),
    "laughs.xlsx": (xlsx_that_laughs, ENTITIES),
    "laughs.odt": (odt_that_laughs, ENTITIES),
    "type.odt": (odt_of_an_unheard_of_type, PACKED),
    "laughs.svg": (svg_that_laughs, ENTITIES),
    "laughs.xml": (xml_that_laughs, ENTITIES),
    "passwords.xml": (xml_that_reads_files, ENTITIES),
    "passwords.docx": (docx_that_reads_files, ENTITIES),
    "pages.pdf": (pdf_whose_pages_hold_each_other, DAMAGED),
    "forms.pdf": (pdf_whose_forms_hold_each_other, f"{MEMORY}|{CRASH}"),
    "endless.pdf": (pdf_without_end, TIME),
    "macros.pdf": (macros_in_a_pdf, "is named .pdf but is a Word document with macros"),
    "mail in mail.eml": (mail_in_mail, GAVE_UP),
    "parts in parts.eml": (parts_in_parts, GAVE_UP),
    "deep.json": (json_deep, UNKNOWN),
    "deep.html": (html_deep, EMPTY),
    "deep.xml": (xml_deep, MEMORY),
    "deep.rtf": (rtf_deep, UNKNOWN),
    "deep.md": (markdown_deep, UNKNOWN),
    "deep.pptx": (pptx_deep, rf"{CRASH} \(SIGSEGV\)"),
    "wide.csv": (csv_wide, UNKNOWN),
}
"""By file name, with a pattern of the reason for the review."""

GOOD = {"permit.pdf": pdf, "permit.docx": docx_file, "permit.xlsx": xlsx, "permit.eml": eml}
