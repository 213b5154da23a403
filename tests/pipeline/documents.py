"""Documents made for one test, each by a library that has nothing to do with the one that reads it."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from email.message import EmailMessage

import docx
import odfdo
import openpyxl
import pptx
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

TITLE = "Application for Building Permit"
APPLICANT = "Zoë Núñez"
ADDRESS = "12 Larkspur Lane"
PARCEL = "12-345-678"
LINES = (f"Applicant: {APPLICANT}", f"Property address: {ADDRESS}")
TABLE = (("Parcel number", PARCEL), ("Estimated cost", "$12,500.00"))


def pdf(password: str | None = None, owner_password: str | None = None, pages: int = 1) -> bytes:
    saved = io.BytesIO()
    encryption = None
    if password is not None or owner_password is not None:
        encryption = StandardEncryption(password or "", ownerPassword=owner_password, strength=128)
    canvas = Canvas(saved, encrypt=encryption)
    for _ in range(pages):
        for number, line in enumerate((TITLE, *LINES, *(": ".join(row) for row in TABLE))):
            canvas.drawString(72, 750 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    return saved.getvalue()


def pdf_form() -> bytes:
    """A form whose values were typed into its fields."""
    saved = io.BytesIO()
    canvas = Canvas(saved)
    canvas.drawString(72, 780, TITLE)
    for number, (label, value) in enumerate((("Applicant name:", "Jane Doe"), ("Parcel number:", PARCEL))):
        canvas.drawString(72, 745 - 40 * number, label)
        canvas.acroForm.textfield(
            name=f"f{number}", value=value, x=180, y=740 - 40 * number, width=200, height=18
        )
    canvas.save()
    return saved.getvalue()


def scanned_pdf() -> bytes:
    saved = io.BytesIO()
    canvas = Canvas(saved)
    canvas.rect(72, 400, 300, 300, fill=1)
    canvas.save()
    return saved.getvalue()


def docx_file() -> bytes:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Case number: BP-2026-00017"
    document.add_heading(TITLE, 1)
    document.add_paragraph(LINES[0].replace(": ", "\t"))
    document.add_paragraph(LINES[1])
    table = document.add_table(0, 2)
    for row in TABLE:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    return _saved(document)


def xlsx() -> bytes:
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.append([TITLE])
    for line in LINES:
        sheet.append(line.split(": "))
    for row in TABLE:
        sheet.append(row)
    return _saved(workbook)


def pptx_file() -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.placeholders[0].text_frame.text = TITLE
    slide.placeholders[1].text_frame.text = "\n".join(LINES)
    table = slide.shapes.add_table(2, 2, 0, 0, 5_000_000, 1_000_000).table
    for row, texts in enumerate(TABLE):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    return _saved(presentation)


def odt() -> bytes:
    document = odfdo.Document("text")
    document.body.clear()
    document.body.append(odfdo.Header(1, TITLE))
    for line in LINES:
        document.body.append(odfdo.Paragraph(line))
    table = odfdo.Table("Table", width=2, height=2)
    table.set_values([list(row) for row in TABLE])
    document.body.append(table)
    return _saved(document)


def rtf() -> bytes:
    def escaped(text: str) -> str:
        return "".join(char if char.isascii() else f"\\u{ord(char)}?" for char in text)

    rows = "".join(f"\\trowd\\cellx4000\\cellx8000 {a}\\cell {b}\\cell\\row " for a, b in TABLE)
    lines = "".join(f"{escaped(line)}\\par " for line in LINES)
    return f"{{\\rtf1\\ansi\\ansicpg1252 {TITLE}\\par {lines}{rows}\\pard end\\par}}".encode("ascii")


def html(encoding: str = "utf-8") -> bytes:
    rows = "".join(f"<tr><th>{a}</th><td>{b}</td></tr>" for a, b in TABLE)
    lines = "".join(f"<div>{line}</div>" for line in LINES)
    return (
        f'<!DOCTYPE html><html><head><meta charset="{encoding}"><title>{TITLE}</title><style>p {{}}</style></head>'
        f"<body><script>var x = 1;</script>{lines}<table>{rows}</table></body></html>"
    ).encode(encoding)


def text() -> str:
    return "\n".join([TITLE, "", *LINES, *(": ".join(row) for row in TABLE)]) + "\n"


def csv_file(delimiter: str = ",") -> bytes:
    rows = [("Form", TITLE), *(line.split(": ") for line in LINES), *TABLE]
    return "".join(delimiter.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows).encode("utf-8-sig")


def json_file() -> bytes:
    return (
        f'{{"form": "{TITLE}", "applicant": {{"applicant_name": "{APPLICANT}", "property_address": "{ADDRESS}"}},'
        f' "parcel_number": "{PARCEL}", "estimated_cost": "$12,500.00"}}'
    ).encode()


def eml(
    attachments: Mapping[str, bytes] | None = None, as_html: bool = False, body: str | None = None
) -> bytes:
    message = EmailMessage()
    message["From"] = "Front Desk <desk@city.example>"
    message["To"] = "clerk@city.example"
    message["Subject"] = TITLE
    if as_html:
        message.set_content(html().decode(), subtype="html")
    else:
        message.set_content(text() if body is None else body)
    for name, content in (attachments or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def msg(body: str | None = None) -> bytes:
    """An Outlook message: https://learn.microsoft.com/openspecs/exchange_server_protocols/ms-oxmsg/"""
    streams = {"__properties_version1.0": bytes(32)}
    for tag, value in {
        "0037": TITLE,
        "0C1A": "Front Desk",
        "0C1F": "desk@city.example",
        "1000": body or text(),
    }.items():
        streams[f"__substg1.0_{tag}001F"] = value.encode("utf-16-le")
    return compound_file(streams)


def compound_file(streams: Mapping[str, bytes]) -> bytes:
    """A compound file with these streams: https://learn.microsoft.com/openspecs/windows_protocols/ms-cfb/

    All streams are small (below 4096 bytes) and stand in the mini stream, in 64-byte sectors.
    """
    end, free, fat_sector = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    mini = b""
    mini_fat: list[int] = []
    starts: dict[str, int] = {}
    for name in names:
        sectors = -(-len(streams[name]) // 64)
        starts[name] = len(mini_fat) if sectors else end
        mini += streams[name].ljust(64 * sectors, b"\0")
        mini_fat += [*range(len(mini_fat) + 1, len(mini_fat) + sectors), end] if sectors else []

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        encoded = name.encode("utf-16-le") + b"\0\0" if name else b""
        head = struct.pack("<64sHBBIII", encoded, len(encoded), kind, 1, free, right, child)
        return head + bytes(36) + struct.pack("<IQ", start, size)

    directory_sectors = -(-(len(names) + 1) // 4)
    mini_fat_at = 1 + directory_sectors
    mini_at = mini_fat_at + -(-len(mini_fat) // 128)
    last = mini_at + -(-len(mini) // 512)
    directory = entry("Root Entry", 5, free, 1 if names else free, mini_at, len(mini))
    for number, name in enumerate(names, 1):
        right = number + 1 if number < len(names) else free
        directory += entry(name, 2, right, free, starts[name], len(streams[name]))
    for _ in range(directory_sectors * 4 - len(names) - 1):
        directory += entry("", 0, free, free, 0, 0)
    fat = [fat_sector]
    for begin, until in ((1, mini_fat_at), (mini_fat_at, mini_at), (mini_at, last)):
        fat += [*range(begin + 1, until), end]
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIIIIIIII", 0, 1, 1, 0, 4096, mini_fat_at, mini_at - mini_fat_at, end, 0, 0)
    header += struct.pack("<108I", *[free] * 108)
    return (
        header
        + struct.pack("<128I", *fat, *[free] * (128 - len(fat)))
        + directory
        + struct.pack(f"<{len(mini_fat)}I", *mini_fat).ljust(512 * (mini_at - mini_fat_at), b"\xff")
        + mini.ljust(512 * (last - mini_at), b"\0")
    )


def with_member(archive: bytes, name: str, content: bytes) -> bytes:
    """The same archive with one member more."""
    saved = io.BytesIO(archive)
    with zipfile.ZipFile(saved, "a") as opened:
        opened.writestr(name, content)
    return saved.getvalue()


def bomb(archive: bytes, part: str, head: bytes, unit: bytes, times: int, tail: bytes) -> bytes:
    """The same document with this part replaced by one that unpacks to far more than it takes."""
    saved = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as before,
        zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for name in before.namelist():
            if name != part:
                after.writestr(name, before.read(name))
        with after.open(part, "w", force_zip64=True) as member:
            member.write(head)
            for _ in range(times):
                member.write(unit)
            member.write(tail)
    return saved.getvalue()


def docx_bomb() -> bytes:
    head = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    unit = (b"<w:p><w:r><w:t>" + b"a" * 1000 + b"</w:t></w:r></w:p>") * 1000
    return bomb(docx_file(), "word/document.xml", head, unit, 700, b"</w:body></w:document>")


def xlsx_bomb() -> bytes:
    head = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    unit = b"".join(
        b'<row><c t="inlineStr"><is><t>%s</t></is></c></row>' % (b"x" * 1000) for _ in range(1000)
    )
    return bomb(xlsx(), "xl/worksheets/sheet1.xml", head, unit, 700, b"</sheetData></worksheet>")


def _saved(document: object) -> bytes:
    saved = io.BytesIO()
    document.save(saved)  # type: ignore[attr-defined]
    return saved.getvalue()
