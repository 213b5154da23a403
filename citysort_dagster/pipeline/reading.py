"""From the bytes of one document to its text. Runs in a reading process only.

Kreuzberg (https://docs.kreuzberg.dev) reads most formats. Beside it stand pypdfium2 for PDF, because it gives
what people typed into form fields, and the standard library for e-mail, because it keeps the lines of
HTML messages apart.
"""

from __future__ import annotations

import csv
import email
import email.header
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import kreuzberg
import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from citysort_dagster.pipeline.content_type import (
    CSV,
    DOC,
    DOCX,
    EML,
    EPUB,
    HEAD,
    HTML,
    JSON,
    MARKDOWN,
    MSG,
    NAMES,
    ODF,
    PDF,
    PPT,
    PPTX,
    PROGRAM,
    PROTECTED,
    RTF,
    TEXT,
    TSV,
    XLS,
    XLSX,
    XML,
    Unreadable,
    article,
    charset,
    damaged,
    danger,
    decode,
    media_type_of,
)
from citysort_dagster.pipeline.extract import Extraction

MARKUP_BYTES = 16_000_000
ATTACHMENT_DEPTH = 3

EMPTY = "The file is empty."
PGP_MESSAGE = "-----BEGIN PGP MESSAGE-----"
ENCRYPTED_MAIL = "The e-mail is encrypted: ask the sender for a readable copy."
SCAN = "The document has no text layer (a scan or a picture): a person has to read it."
TOO_DEEP = "It is too deep within other attachments to be read here."
NO_TEXT = "No text was found in the document."


class _Content(NamedTuple):
    text: str
    pages: int | None = None
    problem: str | None = None
    cut: bool = False


def read_document(path: Path, filename: str, max_characters: int) -> Extraction:
    """The text of one document, or what is in the way of it. Raises MemoryError only."""
    media_type: str | None = None
    problem: str | None = None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head:
                raise Unreadable(EMPTY)
            media_type = media_type_of(head, file, filename)
            problem = danger(media_type, file, filename)
            content = _read(file, media_type, max_characters, depth=0)
    except MemoryError:
        raise
    except OSError as error:
        return Extraction(
            "", media_type, None, False, f"The stored file cannot be read ({error.strerror or error})."
        )
    except Unreadable as error:
        return Extraction("", media_type, None, False, problem or str(error))
    except Exception as error:  # noqa: BLE001 - a parser failing in a new way must not take the others along
        name = NAMES.get(media_type or "", media_type or "document")
        sentence = f"The file cannot be read as {article(name)}: the parser failed ({type(error).__name__})."
        return Extraction("", media_type, None, False, problem or sentence)
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


# Plain text.


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
        raise Unreadable(damaged(PDF)) from None
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
        raise Unreadable(damaged(PDF)) from None
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
        raise Unreadable(damaged(media_type)) from None


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
    return _Content("\n\n".join(texts), None, _sealed(texts))


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
        else:
            attachment = _attachment(body, name, max_characters, depth)
            texts += [attachment.text] if attachment.text else []
            if attachment.problem:
                problem = problem or f"The attachment {name!r} needs a person: {attachment.problem}"
    return _Content("\n\n".join(texts), None, problem or _sealed(texts))


def _attachment(body: bytes, name: str, max_characters: int, depth: int) -> _Content:
    warning = None
    try:
        attached = io.BytesIO(body)
        media_type = media_type_of(body[:HEAD], attached, name)
        warning = danger(media_type, attached, name)
        if depth == ATTACHMENT_DEPTH:
            raise Unreadable(TOO_DEEP, worth_telling=not media_type.startswith("image/"))
        content = _read(attached, media_type, max_characters, depth + 1)
    except Unreadable as error:
        return _Content("", None, warning or (str(error) if error.worth_telling else None))
    return _Content(f"Attachment {name}:\n{content.text}", None, warning or content.problem)


def _sealed(texts: Sequence[str]) -> str | None:
    """What is in the way of a mail whose message, or attachment, is encrypted inside of it."""
    return ENCRYPTED_MAIL if any(PGP_MESSAGE in text for text in texts) else None


def _parts(message: Message) -> Iterator[Message]:
    """The parts a reader of the mail sees: of alternatives, the plain text if there is any, and what is
    attached to any of them."""
    payload = message.get_payload()
    if message.get_content_maintype() != "multipart" or not isinstance(payload, list):
        yield message
        return
    parts = [part for part in payload if isinstance(part, Message)]
    if message.get_content_subtype() != "alternative":
        for part in parts:
            yield from _parts(part)
        return
    plain = [part for part in parts if part.get_content_type() == TEXT]
    rich = [part for part in parts if part.is_multipart() or part.get_content_type() == HTML]
    # Not just the last one: behind the message of an invitation stands its entry for a calendar.
    chosen = [part for part in plain if not _is_blank(part)][:1] or rich[-1:] or parts[-1:]
    for part in parts:
        for leaf in _parts(part):
            if part in chosen or leaf.get_filename() or leaf.get_content_maintype() != "text":
                yield leaf


def _is_blank(part: Message) -> bool:
    body = part.get_payload(decode=True)
    return not isinstance(body, bytes) or not body.strip()


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


# Text as it is kept.


_DROPPED = dict.fromkeys([*range(9), 11, *range(14, 32), 0x7F, 0xFFFE, 0xFFFF])

MOST_MARKS = 30
"""In a row, on one letter: as in https://www.unicode.org/reports/tr15/#Stream_Safe_Text_Format."""
_NO_MARKS_BELOW = "\u0300"


def _clean(text: str) -> str:
    """Line ends as one character; nothing that a database or a terminal would choke on."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").translate(_DROPPED)
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<![ \t])[ \t]+\n", "\n", text))
    text = re.sub(rf"[{_NO_MARKS_BELOW}-\U0010ffff]{{{MOST_MARKS + 1},}}", _with_fewer_marks, text)
    return text.encode("utf-8", "replace").decode().strip()


def _with_fewer_marks(found: re.Match[str]) -> str:
    """Without what makes normalizing a text take time that grows with the square of its length."""
    marks = 0
    kept = []
    for character in found[0]:
        is_mark = unicodedata.combining(unicodedata.normalize("NFKD", character)[0])
        marks = marks + 1 if is_mark else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)
