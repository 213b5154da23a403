"""Writes a page in the file formats that reach a city: the same content, as each kind of program saves it.

Where a program would write the present time into the file, the page's own time stands instead, so that
the same page always gives the same bytes.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from zipfile import ZipFile, ZipInfo

import docx
import odfdo
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.writer.excel import ExcelWriter
from pptx import Presentation
from reportlab.lib import colors
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from sandbox.facts import CITY


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Fields:
    """Labelled values, as on a form."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """A table; the first row holds the column titles."""

    rows: tuple[tuple[str, ...], ...]


Block = Heading | Fields | Grid | str
"""A str is a paragraph."""


@dataclass(frozen=True)
class Page:
    """What a document says, in order. `written_at` is UTC."""

    title: str
    blocks: tuple[Block, ...]
    author: str
    email: str
    written_at: datetime
    department: str = ""
    """In the letterhead; empty for what residents write themselves."""
    recipient: str = "clerk@alderfalls.example.org"
    boxed: bool = False
    """Labelled values stand in ruled boxes instead of `Label: value` lines."""


def lines(page: Page) -> Iterator[str]:
    """The page as plain text, one paragraph or field a line; a blank line between blocks."""
    for block in page.blocks:
        if isinstance(block, Heading):
            yield block.text.upper()
        elif isinstance(block, Fields):
            for label, value in block.pairs:
                yield f"{label}: {value}"
            yield ""
        elif isinstance(block, Grid):
            widths = [max(map(len, column)) for column in zip(*block.rows, strict=True)]
            for row in block.rows:
                yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            yield ""
        else:
            yield from textwrap.wrap(block, 78)
            yield ""


def as_txt(page: Page) -> bytes:
    head = [CITY.upper(), page.department, ""] if page.department else []
    return "\r\n".join([*head, page.title, "=" * len(page.title), "", *lines(page)]).encode()


def as_md(page: Page) -> bytes:
    parts = [f"# {page.title}"]
    if page.department:
        parts.append(f"*{CITY} · {page.department}*")
    for block in page.blocks:
        if isinstance(block, Heading):
            parts.append(f"## {block.text}")
        elif isinstance(block, Fields):
            parts.append("\n".join(f"- **{label}:** {value}" for label, value in block.pairs))
        elif isinstance(block, Grid):
            titles, *rows = (f"| {' | '.join(row)} |" for row in block.rows)
            parts.append("\n".join([titles, "|---" * len(block.rows[0]) + "|", *rows]))
        else:
            parts.append(block)
    return ("\n\n".join(parts) + "\n").encode()


def _html_body(page: Page) -> str:
    parts = []
    for block in page.blocks:
        if isinstance(block, Heading):
            parts.append(f"<h2>{html.escape(block.text)}</h2>")
        elif isinstance(block, Fields):
            rows = "\n".join(
                f"<tr><th>{html.escape(label)}</th><td>{html.escape(value)}</td></tr>"
                for label, value in block.pairs
            )
            parts.append(f'<table class="fields">\n{rows}\n</table>')
        elif isinstance(block, Grid):
            rows = "\n".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in block.rows
            )
            parts.append(f'<table class="grid">\n{rows}\n</table>')
        else:
            parts.append(f"<p>{html.escape(block)}</p>")
    return "\n".join(parts)


def as_html(page: Page) -> bytes:
    banner = f"<header>{CITY} | {html.escape(page.department)}</header>\n" if page.department else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{html.escape(page.title)}</title>
<style>body {{ font-family: Verdana, sans-serif; }} th {{ text-align: left; }}</style>
<script>window.dataLayer = window.dataLayer || [];</script>
</head>
<body>
{banner}<h1>{html.escape(page.title)}</h1>
{_html_body(page)}
</body>
</html>
""".encode()


def as_eml(page: Page) -> bytes:
    """A message as it arrived at the city; every other one also carries an HTML version of itself."""
    stamp = f"{page.written_at:%Y%m%d%H%M%S}"
    sender_domain = page.email.partition("@")[2]
    message = EmailMessage(policy=SMTP)
    message["Return-Path"] = f"<{page.email}>"
    message["Received"] = (
        f"from mail.{sender_domain} (mail.{sender_domain} [192.0.2.{page.written_at.second + 10}]) "
        f"by mx1.alderfalls.example.org with ESMTPS id {stamp}; {page.written_at:%a, %d %b %Y %H:%M:%S +0000}"
    )
    message["From"] = Address(page.author, addr_spec=page.email)
    message["To"] = Address(page.department, addr_spec=page.recipient)
    message["Subject"] = page.title
    message["Date"] = page.written_at
    message["Message-ID"] = f"<{stamp}.{page.email}>"
    message.set_content("\n".join(lines(page)), cte="quoted-printable")
    if page.written_at.second % 2:
        message.add_alternative(
            f"<html><body>\n{_html_body(page)}\n</body></html>", subtype="html", cte="quoted-printable"
        )
        message.set_boundary(f"=_alternative_{stamp}")
    return message.as_bytes()


def _key(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def as_json(page: Page) -> bytes:
    """What the city's online portal saves when somebody presses Submit."""
    sections: dict[str, dict[str, str]] = {}
    remarks: list[str] = []
    section = "details"
    for block in page.blocks:
        if isinstance(block, Heading):
            section = _key(block.text)
        elif isinstance(block, Fields):
            sections.setdefault(section, {}).update({_key(label): value for label, value in block.pairs})
        elif isinstance(block, Grid):
            remarks.extend("; ".join(row) for row in block.rows)
        else:
            remarks.append(block)
    submission = {
        "form": page.title,
        "department": page.department,
        "submitted_at": page.written_at.isoformat(),
        "submitted_by": page.email,
        **sections,
        "remarks": remarks,
    }
    return json.dumps(submission, indent=2, ensure_ascii=False).encode()


def _rows(page: Page) -> Iterator[tuple[str, ...]]:
    """The page as rows of a sheet: labels in the first column, values in the second."""
    for block in page.blocks:
        if isinstance(block, Fields):
            yield from block.pairs
        elif isinstance(block, Grid):
            yield from block.rows
        elif isinstance(block, Heading):
            yield (block.text,)
        else:
            yield ("Remarks", block)


def as_csv(page: Page) -> bytes:
    """A receipt from the portal, a field a line, with the byte order mark that Excel writes."""
    text = io.StringIO()
    department = [("Department", page.department)] if page.department else []
    csv.writer(text).writerows([("Form", page.title), *department, *_rows(page)])
    return text.getvalue().encode("utf-8-sig")


def as_xlsx(page: Page) -> bytes:
    workbook = Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "Form"
    sheet.append([page.title])
    sheet["A1"].font = Font(bold=True, size=14)
    if page.department:
        sheet.append([f"{CITY} - {page.department}"])
    sheet.append([])
    for row in _rows(page):
        sheet.append(row)
    sheet.column_dimensions["A"].width = 32
    sheet.column_dimensions["B"].width = 60
    workbook.properties.creator = page.author
    workbook.properties.created = workbook.properties.modified = page.written_at.replace(tzinfo=None)
    saved = io.BytesIO()
    ExcelWriter(workbook, ZipFile(saved, "w")).save()
    return _zip_of(saved, page.written_at)


def as_docx(page: Page) -> bytes:
    document = docx.Document()
    properties = document.core_properties
    properties.author, properties.title = page.author, page.title
    properties.created = properties.modified = page.written_at.replace(tzinfo=None)
    if page.department:
        document.sections[0].header.paragraphs[0].text = f"{CITY}\t{page.department}"
    document.add_heading(page.title, level=1)
    for block in page.blocks:
        if isinstance(block, Heading):
            document.add_heading(block.text, level=2)
        elif isinstance(block, Fields) and not page.boxed:
            for label, value in block.pairs:
                paragraph = document.add_paragraph()
                paragraph.add_run(f"{label}: ").bold = True
                paragraph.add_run(value)
        elif isinstance(block, Fields | Grid):
            rows = block.pairs if isinstance(block, Fields) else block.rows
            table = document.add_table(rows=0, cols=len(rows[0]), style="Table Grid")
            for row in rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        else:
            document.add_paragraph(block)
    saved = io.BytesIO()
    document.save(saved)
    return _zip_of(saved, page.written_at)


def as_odt(page: Page) -> bytes:
    document = odfdo.Document("text")
    document.meta.date = document.meta.creation_date = page.written_at
    document.meta.title = page.title
    body = document.body
    body.clear()
    if page.department:
        body.append(odfdo.Paragraph(f"{CITY}, {page.department}"))
    body.append(odfdo.Header(1, page.title))
    for number, block in enumerate(page.blocks):
        if isinstance(block, Heading):
            body.append(odfdo.Header(2, block.text))
        elif isinstance(block, Fields) and not page.boxed:
            for label, value in block.pairs:
                body.append(odfdo.Paragraph(f"{label}: {value}"))
        elif isinstance(block, Fields | Grid):
            rows = block.pairs if isinstance(block, Fields) else block.rows
            table = odfdo.Table(f"Table{number}", width=len(rows[0]), height=len(rows))
            table.set_values([list(row) for row in rows])
            body.append(table)
        else:
            body.append(odfdo.Paragraph(block))
    saved = io.BytesIO()
    document.save(saved)
    return _zip_of(saved, page.written_at)


def as_pptx(page: Page) -> bytes:
    """Slides for a public hearing: a title slide, then one for each heading."""
    slides = Presentation()
    properties = slides.core_properties
    properties.author, properties.title = page.author, page.title
    properties.created = properties.modified = page.written_at.replace(tzinfo=None)
    first = slides.slides.add_slide(slides.slide_layouts[0])
    first.placeholders[0].text_frame.text = page.title
    first.placeholders[1].text_frame.text = f"{CITY}\n{page.department}"
    body = None
    for block in page.blocks:
        if isinstance(block, Heading) or body is None:
            slide = slides.slides.add_slide(slides.slide_layouts[1])
            slide.placeholders[0].text_frame.text = block.text if isinstance(block, Heading) else "Summary"
            body = slide.placeholders[1].text_frame
        if isinstance(block, Fields):
            points = [f"{label}: {value}" for label, value in block.pairs]
        elif isinstance(block, Grid):
            points = [" - ".join(row) for row in block.rows]
        else:
            points = [] if isinstance(block, Heading) else [block]
        for point in points:
            paragraph = body.add_paragraph() if body.text else body.paragraphs[0]
            paragraph.text = point
    saved = io.BytesIO()
    slides.save(saved)
    return _zip_of(saved, page.written_at)


def _zip_of(saved: io.BytesIO, written_at: datetime) -> bytes:
    """The same archive with this time on every member, as the libraries always put the present one."""
    settled = io.BytesIO()
    with ZipFile(saved) as before, ZipFile(settled, "w") as after:
        for member in before.infolist():
            renewed = ZipInfo(member.filename, written_at.timetuple()[:6])
            renewed.compress_type = member.compress_type
            after.writestr(renewed, before.read(member))
    return settled.getvalue()


def as_rtf(page: Page) -> bytes:
    """As a word processor of the nineties saves it (code page 1252, other characters as \\u escapes)."""
    parts = [r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\froman Times New Roman;}}", r"\f0\fs24"]
    if page.department:
        parts.append(rf"\pard\qc {_rtf(CITY)}\line {_rtf(page.department)}\par\par")
    parts.append(rf"\pard\qc\b\fs32 {_rtf(page.title)}\b0\fs24\par\par\pard\ql")
    for block in page.blocks:
        if isinstance(block, Heading):
            parts.append(rf"\par\b {_rtf(block.text)}\b0\par")
        elif isinstance(block, Fields):
            parts.extend(rf"{{\b {_rtf(label)}:}} {_rtf(value)}\par" for label, value in block.pairs)
        elif isinstance(block, Grid):
            parts.extend(r"\tab ".join(_rtf(cell) for cell in row) + r"\par" for row in block.rows)
        else:
            parts.append(rf"{_rtf(block)}\par\par")
    return ("\n".join(parts) + "}").encode("ascii")


def _rtf(text: str) -> str:
    escaped = re.sub(r"([\\{}])", r"\\\1", text)
    return "".join(character if character.isascii() else rf"\u{ord(character)}?" for character in escaped)


def as_pdf(page: Page, password: str | None = None) -> bytes:
    """With a text layer; readable only with the password if one is given."""
    styles = getSampleStyleSheet()
    normal = styles["BodyText"]
    flow: list[Flowable] = []
    if page.department:
        flow += [Paragraph(f"{CITY}<br/>{html.escape(page.department)}", styles["Heading4"]), Spacer(1, 12)]
    flow.append(Paragraph(html.escape(page.title), styles["Title"]))
    for block in page.blocks:
        if isinstance(block, Heading):
            flow.append(Paragraph(html.escape(block.text), styles["Heading2"]))
        elif isinstance(block, Fields) and not page.boxed:
            flow += [
                Paragraph(f"<b>{html.escape(label)}:</b> {html.escape(value)}", normal)
                for label, value in block.pairs
            ]
        elif isinstance(block, Fields | Grid):
            rows = block.pairs if isinstance(block, Fields) else block.rows
            table = Table([[Paragraph(html.escape(cell), normal) for cell in row] for row in rows])
            table.setStyle(TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.grey)]))
            flow += [table, Spacer(1, 8)]
        else:
            flow += [Paragraph(html.escape(block), normal), Spacer(1, 4)]
    saved = io.BytesIO()
    SimpleDocTemplate(
        saved,
        pagesize=LETTER,
        title=page.title,
        author=page.author,
        invariant=1,
        encrypt=StandardEncryption(password, strength=128) if password else None,
    ).build(flow)
    return saved.getvalue()


WRITERS: Mapping[str, Callable[[Page], bytes]] = {
    "csv": as_csv,
    "docx": as_docx,
    "eml": as_eml,
    "html": as_html,
    "json": as_json,
    "md": as_md,
    "odt": as_odt,
    "pdf": as_pdf,
    "pptx": as_pptx,
    "rtf": as_rtf,
    "txt": as_txt,
    "xlsx": as_xlsx,
}

CONTENT_TYPES: Mapping[str, str] = {
    "csv": "text/csv",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "eml": "message/rfc822",
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "odt": "application/vnd.oasis.opendocument.text",
    "pdf": "application/pdf",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "rtf": "application/rtf",
    "txt": "text/plain",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
