"""From the bytes of one document to its text. Runs in a reading process only.

What a file is, its content says; its name decides only between kinds of plain text. Kreuzberg
(https://docs.kreuzberg.dev) reads most formats. Beside it stand pypdfium2 for PDF, because it gives
what people typed into form fields, and the standard library for e-mail, because it keeps the lines of
HTML messages apart.
"""

from __future__ import annotations

import codecs
import csv
import email
import email.header
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import charset_normalizer
import kreuzberg
import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from citysort_dagster.pipeline.extract import Extraction

HEAD = 65_536
MARKUP_BYTES = 16_000_000
ATTACHMENT_DEPTH = 3

EMPTY = "The file is empty."
PROTECTED = "The file is password-protected: ask the sender for a copy without a password."
ENCRYPTED_MAIL = "The e-mail is encrypted: ask the sender for a readable copy."
SCAN = "The document has no text layer (a scan or a picture): a person has to read it."
NO_TEXT = "No text was found in the document."

OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = OFFICE + "wordprocessingml.document"
XLSX = OFFICE + "spreadsheetml.sheet"
PPTX = OFFICE + "presentationml.presentation"
ODF = "application/vnd.oasis.opendocument."
PDF, RTF, HTML, XML = "application/pdf", "application/rtf", "text/html", "application/xml"
DOC, XLS, PPT = "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"
MSG, EML, EPUB = "application/vnd.ms-outlook", "message/rfc822", "application/epub+zip"
TEXT, CSV, TSV = "text/plain", "text/csv", "text/tab-separated-values"
MARKDOWN, JSON = "text/markdown", "application/json"
PROGRAM = "application/x-executable"

NAMES = {
    PDF: "PDF", DOCX: "Word document", XLSX: "Excel workbook", PPTX: "PowerPoint presentation",
    DOC: "Word document", XLS: "Excel workbook", PPT: "PowerPoint presentation", RTF: "RTF document",
    HTML: "web page", XML: "XML file", MSG: "Outlook message", EML: "e-mail", EPUB: "EPUB book",
    ODF + "text": "OpenDocument text", ODF + "spreadsheet": "OpenDocument spreadsheet",
    ODF + "presentation": "OpenDocument presentation", PROGRAM: "program",
    "application/zip": "zip archive", "application/x-7z-compressed": "7z archive",
    "application/vnd.rar": "rar archive", "application/gzip": "gzip archive",
    "application/x-tar": "tar archive", "application/x-ole-storage": "compound file",
    "application/octet-stream": "not a known document format",
}  # fmt: skip

TEXT_ENDINGS = {
    "csv": CSV, "tsv": TSV, "json": JSON, "md": MARKDOWN, "markdown": MARKDOWN,
    "eml": EML, "mht": EML, "mhtml": EML,
}  # fmt: skip

MACRO_ENDINGS = {"docm", "dotm", "xlsm", "xltm", "xlam", "xlsb", "pptm", "potm", "ppsm", "doc", "xls", "ppt"}
PROGRAM_ENDINGS = {"exe", "dll", "com", "scr", "msi", "so", "dylib", "bin", ""}


class Unreadable(Exception):
    """Why a person has to look at the document, in one sentence; `worth_telling` also when it is
    only an attachment (a company's logo without text is not)."""

    def __init__(self, sentence: str, worth_telling: bool = True) -> None:
        super().__init__(sentence)
        self.worth_telling = worth_telling


class _Content(NamedTuple):
    text: str
    pages: int | None = None
    problem: str | None = None
    cut: bool = False


def read_document(path: Path, filename: str, max_characters: int) -> Extraction:
    """The text of one document, or what is in the way of it. Raises MemoryError only."""
    media_type: str | None = None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head:
                raise Unreadable(EMPTY)
            media_type = _media_type(head, file, filename)
            problem = _danger(media_type, file, filename)
            content = _read(file, media_type, max_characters, depth=0)
    except MemoryError:
        raise
    except OSError as error:
        return Extraction(
            "", media_type, None, False, f"The stored file cannot be read ({error.strerror or error})."
        )
    except Unreadable as error:
        return Extraction("", media_type, None, False, str(error))
    except Exception as error:  # noqa: BLE001 - a parser failing in a new way must not take the others along
        name = NAMES.get(media_type or "", media_type or "document")
        sentence = f"The file cannot be read as {_article(name)}: the parser failed ({type(error).__name__})."
        return Extraction("", media_type, None, False, sentence)
    text = _clean(content.text)
    truncated = content.cut or len(text) > max_characters
    return Extraction(text[:max_characters], media_type, content.pages, truncated, problem or content.problem)


def _read(file: BinaryIO, media_type: str, max_characters: int, depth: int) -> _Content:
    file.seek(0)
    if media_type in _PLAIN:
        # At most four bytes a character; the rest of a huge file is left alone.
        limit = 4 * max_characters
        data = file.read(max(MARKUP_BYTES, limit) if media_type in (HTML, XML) else limit)
        cut = bool(file.read(1))
        content = _Content(_PLAIN[media_type](decode(data, media_type, cut)), cut=cut)
    elif media_type == PDF:
        content = _pdf(file, max_characters)
    elif media_type == EML:
        content = _mail(file.read(), max_characters, depth)
    elif media_type in _OFFICE:
        content = _OFFICE[media_type](file.read(), media_type)
    elif media_type.startswith("image/"):
        raise Unreadable(SCAN, worth_telling=False)
    elif media_type == PROGRAM:
        raise Unreadable("The file is a program, not a document: do not open it.")
    else:
        name = NAMES.get(media_type, media_type)
        raise Unreadable(f"Files of this type cannot be read here: {name}.", worth_telling=False)
    if not content.text.strip() and not content.problem:
        raise Unreadable(NO_TEXT)
    return content


# What a file is.


def _media_type(head: bytes, file: BinaryIO, filename: str) -> str:
    ending = filename.rpartition(".")[2].lower() if "." in filename else ""
    if head.startswith((b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")):
        return PROGRAM
    if head.startswith(b"MZ") and b"\0" in head[:256]:
        return PROGRAM
    if b"%PDF-" in head[:1024]:
        return PDF
    if head.startswith(b"{\\rtf"):
        return RTF
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(file, ending)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _ole_type(head, file, ending)
    try:
        found: str | None = kreuzberg.detect_mime_type(head)
    except RuntimeError:  # what it raises for bytes it does not know
        found = None
    if found and found.startswith("image/") and b"\0" not in head:
        found = None  # a letter may begin with BM or GIF8, too
    if found and not found.startswith("text/") and found not in (JSON, XML, RTF):
        return found
    return _text_type(head, ending)


_PACKED_ENDINGS = {
    "docx": DOCX, "xlsx": XLSX, "pptx": PPTX, "odt": ODF + "text", "doc": DOC, "xls": XLS, "ppt": PPT, "msg": MSG,
}  # fmt: skip


def _zip_type(file: BinaryIO, ending: str) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            if "mimetype" in names:
                with archive.open("mimetype") as stated:
                    media_type = stated.read(100).decode("ascii", "replace").strip()
                if media_type.startswith((ODF, EPUB)):
                    if "META-INF/manifest.xml" in names:
                        with archive.open("META-INF/manifest.xml") as manifest:
                            if b"encryption-data" in manifest.read(1_000_000):
                                raise Unreadable(PROTECTED)
                    return media_type.removesuffix("-template")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, KeyError, RuntimeError):
        raise Unreadable(_damaged(_PACKED_ENDINGS.get(ending, "application/zip"))) from None
    for part, media_type in (("word/", DOCX), ("xl/", XLSX), ("ppt/", PPTX)):
        if any(name.replace("\\", "/").startswith(part) for name in names):
            return media_type
    return "application/zip"


# The root entry of a compound file may carry the class of its application; the names of streams
# tell the rest: https://learn.microsoft.com/openspecs/windows_protocols/ms-cfb/
_OLE_CLASSES = {
    b"\x0b\x0d\x02\x00": MSG, b"\x06\x09\x02\x00": DOC, b"\x20\x08\x02\x00": XLS, b"\x10\x08\x02\x00": XLS,
}  # fmt: skip
_OLE_STREAMS = (
    ("__properties_version1.0", MSG), ("EncryptedPackage", None), ("PowerPoint Document", PPT),
    ("WordDocument", DOC), ("Workbook", XLS), ("Book", XLS),
)  # fmt: skip


def _ole_type(head: bytes, file: BinaryIO, ending: str) -> str:
    sector_size = 1 << (int.from_bytes(head[30:32], "little") & 0xF)
    root = (int.from_bytes(head[48:52], "little") + 1) * sector_size
    file.seek(root + 80)
    media_type = _OLE_CLASSES.get(file.read(4))
    if media_type:
        return media_type
    file.seek(0)
    content = file.read()
    for stream, media_type in _OLE_STREAMS:
        if stream.encode("utf-16-le") in content:
            if media_type is None:
                raise Unreadable(PROTECTED)
            return media_type
    if ending in _PACKED_ENDINGS:
        raise Unreadable(_damaged(_PACKED_ENDINGS[ending]))
    return "application/x-ole-storage"


def _text_type(head: bytes, ending: str) -> str:
    encoding = charset(head, None)
    if encoding is None:
        return "application/octet-stream"
    start = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")[:2000].lower()
    if ending in ("eml", "mht", "mhtml") or re.match(
        r"(?:[a-z][a-z-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*?mime-version:", start
    ):
        return EML
    if start.startswith(("<!doctype html", "<html")) or ("<html" in start and start.startswith("<")):
        return HTML
    if start.startswith("<") and ending in ("html", "htm", "xhtml"):
        return HTML
    if start.startswith("<?xml"):
        return XML
    return TEXT_ENDINGS.get(ending, TEXT)


def _danger(media_type: str, file: BinaryIO, filename: str) -> str | None:
    """What about the name would mislead whoever opens the document."""
    ending = filename.rpartition(".")[2].lower() if "." in filename else ""
    if media_type == PROGRAM and ending not in PROGRAM_ENDINGS:
        raise Unreadable(f"The file is named .{ending} but is a program: do not open it.")
    if ending in MACRO_ENDINGS:
        return None
    macros = False
    if media_type in (DOCX, XLSX, PPTX):
        with zipfile.ZipFile(file) as archive:
            macros = any(name.lower().endswith("vbaproject.bin") for name in archive.namelist())
    elif media_type in (DOC, XLS, PPT):
        file.seek(0)
        macros = "_VBA_PROJECT".encode("utf-16-le") in file.read()
    if macros:
        named = f"is named .{ending}" if ending else "has no ending"
        return f"The file {named} but is {_article(NAMES[media_type])} with macros: open it with care."
    return None


# Plain text and its encodings.


_OTHER_SCRIPTS = (
    "cp932", "shift_jis", "euc_", "iso2022", "gb", "big5", "cp949", "johab", "cp1251", "koi8",
    "iso8859_5", "cp1253", "iso8859_7", "cp1255", "iso8859_8", "cp1256", "iso8859_6", "cp874", "tis_620",
)  # fmt: skip


def charset(data: bytes, media_type: str | None) -> str | None:
    """The encoding of a text, None when it is not text."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    ):  # fmt: skip
        if data.startswith(mark):
            return encoding
    sample = data[:HEAD]
    # Western text in UTF-16 without a mark has a zero in nearly every other byte.
    half = len(sample) // 2
    if half and sample[1::2].count(0) > 0.4 * half and sample[0::2].count(0) < 0.05 * half:
        return "utf-16-le"
    if half and sample[0::2].count(0) > 0.4 * half and sample[1::2].count(0) < 0.05 * half:
        return "utf-16-be"
    if sample.count(0) > len(sample) // 1000:
        return None
    if b"\x1b$B" in sample or b"\x1b$@" in sample:
        return "iso2022_jp"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    if media_type in (HTML, XML):
        stated = re.search(rb"(?:charset|encoding)\s{0,9}=\s{0,9}[\"']?([\w.:-]{2,40})", sample[:4096])
        if stated:
            try:
                encoding = codecs.lookup(stated[1].decode("ascii")).name
                if not encoding.startswith("utf"):
                    return encoding
            except (LookupError, UnicodeDecodeError):
                pass
    controls = sum(sample.count(byte) for byte in range(32) if byte not in b"\t\n\f\r\x1b")
    if controls > len(sample) // 100:
        return None
    # A guess is good at other scripts, and poor at telling Latin ones apart from a few accents.
    if sum(byte >= 0x80 for byte in sample) >= len(sample) / 10:
        best = charset_normalizer.from_bytes(sample).best()
        if best and best.encoding.startswith(_OTHER_SCRIPTS):
            return best.encoding
    return "cp1252"


def decode(data: bytes, media_type: str, cut: bool) -> str:
    """The text of these bytes; `cut` says that they may end in the middle of a character."""
    encoding = charset(data, media_type)
    if encoding is None:
        raise Unreadable("The file is not text, whatever its name says.")
    return codecs.getincrementaldecoder(encoding)("replace").decode(data, final=not cut)


def _csv(text: str) -> str:
    lines = [line for line in text[:10_000].splitlines() if line.strip()][:10]
    delimiter = max(",;\t|", key=lambda mark: min((line.count(mark) for line in lines), default=0))
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return "\n".join(" | ".join(" ".join(cell.split()) for cell in row) for row in rows)
    except csv.Error:
        return text


def _json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    except (ValueError, RecursionError):
        return text


def _html(text: str) -> str:
    """Headings, lines and tables as Markdown without its escapes. Of the head only the title is
    kept; pictures written into the page are left out."""
    title = ""
    head, body = re.search(r"<head[\s>]", text, re.I), re.search(r"</head\s{0,9}>", text, re.I)
    if head and body and head.start() < body.start():
        found = re.search(r"<title[^>]{0,99}>([^<]{0,999})</title", text[head.start() : body.start()], re.I)
        title = found[1].strip() + "\n\n" if found else ""
        text = text[: head.start()] + text[body.end() :]
    text = re.sub(r"data:[\w/+.-]{1,99};base64,[A-Za-z0-9+/=\s]*", "", text)
    result = kreuzberg.extract_bytes_sync(text.encode("utf-8", "replace"), HTML, _MARKDOWN)
    return title + re.sub(r"\\([\\`*_{}\[\]()#+.!<>|~-])", r"\1", result.content)


def _xml(text: str) -> str:
    text = re.sub(r"^\s*<\?xml[^>]{0,200}\?>", "", text)
    return str(kreuzberg.extract_bytes_sync(text.encode("utf-8", "replace"), XML, _PLAIN_TEXT).content)


_PLAIN: dict[str, Callable[[str], str]] = {
    TEXT: str, MARKDOWN: str, CSV: _csv, TSV: _csv, JSON: _json, HTML: _html, XML: _xml,
}  # fmt: skip


# PDF.


def _pdf(file: BinaryIO, max_characters: int) -> _Content:
    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise Unreadable(PROTECTED) from None
        raise Unreadable(_damaged(PDF)) from None
    try:
        has_form = document.get_formtype() != pdfium.FORMTYPE_NONE
        if has_form:
            document.init_forms()
        texts: list[str] = []
        length = 0
        for number in range(len(document)):
            if length > max_characters:
                break
            texts.append(_pdf_page(document, number, has_form))
            length += len(texts[-1])
        pages = len(document)
    except pypdfium2.PdfiumError:
        raise Unreadable(_damaged(PDF)) from None
    finally:
        document.close()
    if not length or not any(text.strip() for text in texts):
        return _Content("", pages, SCAN)
    return _Content("\n\n".join(texts), pages)


def _pdf_page(document: pypdfium2.PdfDocument, number: int, has_form: bool) -> str:
    page = document[number]
    if has_form:
        # Makes what was typed into the form part of the page.
        page.flatten()
        page.close()
        page = document[number]
    text_page = page.get_textpage()
    try:
        return _in_lines(text_page) if has_form else str(text_page.get_text_bounded())
    finally:
        text_page.close()
        page.close()


def _in_lines(text_page: pypdfium2.PdfTextPage) -> str:
    """The text in lines as one sees them: what was typed into a field is stored far from its label."""
    pieces = []
    for index in range(text_page.count_rects()):
        left, bottom, right, top = text_page.get_rect(index)
        pieces.append(
            ((bottom + top) / 2, left, top - bottom, text_page.get_text_bounded(left, bottom, right, top))
        )
    pieces.sort(key=lambda piece: -piece[0])
    lines: list[list[tuple[float, str]]] = []
    level = 0.0
    for middle, left, height, text in pieces:
        if not lines or level - middle > max(height, 4) / 2:
            lines.append([])
            level = middle
        lines[-1].append((left, text.strip()))
    return "\n".join(" ".join(text for _, text in sorted(line)) for line in lines)


# Office formats.

_EVERYTHING = kreuzberg.ContentFilterConfig(
    include_headers=True, include_footers=True, include_watermarks=True, strip_repeating_text=False
)
_ONE_THREAD = kreuzberg.ConcurrencyConfig(max_threads=1)
_PLAIN_TEXT = kreuzberg.ExtractionConfig(  # type: ignore[call-arg]
    use_cache=False, disable_ocr=True, content_filter=_EVERYTHING, concurrency=_ONE_THREAD,
    output_format="plain", include_document_structure=True,
)  # fmt: skip
_MARKDOWN = kreuzberg.ExtractionConfig(  # type: ignore[call-arg]
    use_cache=False, disable_ocr=True, content_filter=_EVERYTHING, concurrency=_ONE_THREAD,
    output_format="markdown",
)  # fmt: skip


def _kreuzberg(data: bytes, media_type: str) -> kreuzberg.ExtractionResult:
    try:
        return kreuzberg.extract_bytes_sync(data, media_type, _PLAIN_TEXT)
    except kreuzberg.KreuzbergError as error:
        said = str(error).lower()
        if "password" in said or "encrypt" in said:
            raise Unreadable(PROTECTED) from None
        raise Unreadable(_damaged(media_type)) from None


def _office(data: bytes, media_type: str) -> _Content:
    result = _kreuzberg(data, media_type)
    text = "\n\n".join(_blocks(result.document)) if result.document else ""
    return _Content(text if text.strip() else result.content)


def _blocks(document: Any) -> Iterator[str]:
    """Paragraphs, headings and items as they stand; a table's cells apart: `Applicant | Jane Doe`."""
    for node in document["nodes"]:
        content = node["content"]
        if "grid" in content:
            rows: dict[int, list[str]] = {}
            for cell in content["grid"]["cells"]:
                rows.setdefault(cell["row"], []).append(" ".join(cell["content"].split()))
            yield "\n".join(" | ".join(row) for _, row in sorted(rows.items()))
        elif content.get("text"):
            yield content["text"]


def _docx(data: bytes, media_type: str) -> _Content:
    return _office(_with_tabs(data), media_type)


def _with_tabs(data: bytes) -> bytes:
    """The same document with its tabs as text: kreuzberg 4.10 drops the element, and with it the
    gap in `Applicant<tab>Jane Doe`."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(written, "w") as copy:
        for name in archive.namelist():
            if name.startswith("word/media/"):
                continue
            content = archive.read(name)
            if re.match(r"word/(document|header\d*|footer\d*)\.xml$", name):
                content = re.sub(rb"<w:tab\s?/>", b'<w:t xml:space="preserve">\t</w:t>', content)
            copy.writestr(name, content)
    return written.getvalue()


def _outlook(data: bytes, media_type: str) -> _Content:
    result = _kreuzberg(data, media_type)
    texts = [result.content]
    for child in result.children or []:
        if child["result"].content.strip():
            texts.append(f"Attachment {child['path']}:\n{child['result'].content}")
    return _Content("\n\n".join(texts))


_OFFICE: dict[str, Callable[[bytes, str], _Content]] = {
    DOCX: _docx, MSG: _outlook,
    **dict.fromkeys((XLSX, PPTX, DOC, XLS, PPT, RTF, EPUB), _office),
    **dict.fromkeys((ODF + "text", ODF + "spreadsheet", ODF + "presentation"), _office),
}  # fmt: skip


# E-mail.


def _mail(data: bytes, max_characters: int, depth: int) -> _Content:
    encoding = charset(data, None) or "latin-1"
    if encoding.startswith(("utf-16", "utf-32", "utf-8-sig")):
        data = data.decode(encoding, "replace").encode()
    message = email.message_from_bytes(data)
    media_type = message.get_content_type()
    sealed = media_type.endswith("pkcs7-mime") and message.get_param("smime-type") != "signed-data"
    if media_type == "multipart/encrypted" or sealed:
        raise Unreadable(ENCRYPTED_MAIL)
    texts = ["\n".join(
        f"{name}: {_header(message[name])}" for name in ("Subject", "From", "To", "Cc", "Date") if message[name]
    )]  # fmt: skip
    problem = None
    for part in _parts(message):
        name = _header(part.get_filename() or "")
        body = part.get_payload(decode=True)
        if part.get_content_type() == EML:
            inner = part.get_payload(0)
            body, name = inner.as_bytes() if isinstance(inner, Message) else b"", name or "message.eml"
        if not isinstance(body, bytes) or not body.strip():
            continue
        if not name and part.get_content_maintype() == "text":
            texts.append(_mail_text(part, body))
        elif depth < ATTACHMENT_DEPTH:
            try:
                attached = io.BytesIO(body)
                media_type = _media_type(body[:HEAD], attached, name)
                content = _read(attached, media_type, max_characters, depth + 1)
                texts.append(f"Attachment {name}:\n{content.text}")
                if content.problem:
                    raise Unreadable(content.problem)
            except Unreadable as error:
                if error.worth_telling:
                    problem = problem or f"The attachment {name!r} needs a person: {error}"
    return _Content("\n\n".join(texts), None, problem)


def _parts(message: Message) -> Iterator[Message]:
    """The parts a reader of the mail sees: of alternatives, the plain text if there is any."""
    parts = message.get_payload()
    if message.get_content_maintype() != "multipart" or not isinstance(parts, list):
        yield message
        return
    if message.get_content_subtype() == "alternative":
        plain = [part for part in parts if isinstance(part, Message) and part.get_content_type() == TEXT]
        parts = [part for part in plain if str(part.get_payload()).strip()][:1] or parts[-1:]
    for part in parts:
        if isinstance(part, Message):
            yield from _parts(part)


def _mail_text(part: Message, body: bytes) -> str:
    stated = part.get_content_charset() or ""
    try:
        text = body.decode(stated)
    except (LookupError, UnicodeDecodeError):
        text = decode(body, TEXT, cut=False)
    return _html(text) if part.get_content_type() == HTML else text


def _header(value: Any) -> str:
    try:
        decoded = str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, email.errors.MessageError):
        decoded = str(value)
    return " ".join(decoded.split())


# Sentences and text as they are kept.


def _damaged(media_type: str) -> str:
    return f"The file is damaged: it cannot be opened as {_article(NAMES.get(media_type, media_type))}."


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeioAEIORX' else 'a'} {name}"


_DROPPED = dict.fromkeys([*range(9), 11, *range(14, 32), 0x7F, 0xFFFE, 0xFFFF])


def _clean(text: str) -> str:
    """Line ends as one character; nothing that a database or a terminal would choke on."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").translate(_DROPPED)
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text))
    return text.encode("utf-8", "replace").decode().strip()
