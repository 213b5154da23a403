"""What a file is: its content says so; its name decides only between kinds of plain text."""

from __future__ import annotations

import codecs
import re
import zipfile
import zlib
from contextlib import suppress
from typing import BinaryIO

import charset_normalizer
import kreuzberg

HEAD = 65_536
"""How much of a file is looked at to tell what it is."""

PART_HEAD = 4_096
_ENTITY = b"<!ENTITY"

PROTECTED = "The file is password-protected: ask the sender for a copy without a password."

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
    ODF + "presentation": "OpenDocument presentation", ODF + "graphics": "OpenDocument drawing",
    PROGRAM: "program",
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


def media_type_of(head: bytes, file: BinaryIO, filename: str) -> str:
    """What the file is by its content, of which `head` is the beginning; its name decides where that is unclear."""
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
                    media_type = media_type.removesuffix("-template")
                # What is stated there may be anything.
                if media_type in NAMES and media_type.startswith((ODF, EPUB)):
                    if "META-INF/manifest.xml" in names:
                        with archive.open("META-INF/manifest.xml") as manifest:
                            if b"encryption-data" in manifest.read(1_000_000):
                                raise Unreadable(PROTECTED)
                    return media_type
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, KeyError, RuntimeError):
        raise Unreadable(damaged(_PACKED_ENDINGS.get(ending, "application/zip"))) from None
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
        raise Unreadable(damaged(_PACKED_ENDINGS[ending]))
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


def danger(media_type: str, file: BinaryIO, filename: str) -> str | None:
    """What about the name would mislead whoever opens the document."""
    ending = filename.rpartition(".")[2].lower() if "." in filename else ""
    if media_type == PROGRAM and ending not in PROGRAM_ENDINGS:
        raise Unreadable(f"The file is named .{ending} but is a program: do not open it.")
    if _defines_entities(media_type, file):
        return (
            "The file defines XML entities, as documents made to do harm do, and some of its text is missing here: "
            "open it with care."
        )
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
        return f"The file {named} but is {article(NAMES[media_type])} with macros: open it with care."
    return None


def _defines_entities(media_type: str, file: BinaryIO) -> bool:
    """Whether XML has entities of its own, which are never resolved: they can be endless, or name other files."""
    file.seek(0)
    if media_type == XML:
        return _ENTITY in file.read(HEAD)
    if media_type not in (DOCX, XLSX, PPTX) and not media_type.startswith(ODF):
        return False
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            # What is damaged, the parser tells.
            with suppress(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
                if part.filename.endswith(".xml") and _ENTITY in _head(archive, part):
                    return True
    return False


def _head(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    with archive.open(part) as opened:
        return opened.read(PART_HEAD)


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
                sample.decode(encoding, "replace")  # there are codecs, such as base64, that give no text
                if not encoding.startswith("utf"):
                    return encoding
            except (LookupError, UnicodeError):
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


def damaged(media_type: str) -> str:
    """The sentence for a file that is not whole."""
    return f"The file is damaged: it cannot be opened as {article(NAMES.get(media_type, media_type))}."


def article(name: str) -> str:
    """The name with `a` or `an` before it."""
    return f"{'an' if name[0] in 'aeioAEIORX' else 'a'} {name}"
