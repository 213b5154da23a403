"""The documents of the demo city: some hundred that are as they should be, and the awkward ones of real life.

The same count, seed and `today` always give the same documents, byte for byte.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from random import Random

from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from sandbox import templates
from sandbox.facts import CITY, Facts, draw
from sandbox.formats import CONTENT_TYPES, WRITERS, Fields, Page, as_pdf, as_txt, lines
from sandbox.templates import DEPARTMENTS, TEMPLATES, Draft

DAYS = 425
"""How far back the documents go."""


@dataclass(frozen=True)
class CityDocument:
    """One document and the truth about it.

    `modified_at` is UTC. `kind` and `fields` (see `templates.Draft`) are what a clerk would read in it;
    `folder` is where the department keeps it. `awkward` says what is wrong with it, and is empty for
    the documents that are as they should be.
    """

    name: str
    content: bytes
    content_type: str
    modified_at: datetime
    kind: str
    fields: Mapping[str, str]
    folder: str
    urgent: bool = False
    awkward: str = ""


def generate(count: int = 120, seed: int = 2024, today: date | None = None) -> list[CityDocument]:
    """So many documents, the oldest first, last modified on working days of the 14 months before `today` (default: the
    present day, UTC).

    The awkward ones are always among them; from 120 on, so is every kind in each of its formats. Names are
    unique (also for systems that ignore case), except for the one pair that shares a name on purpose.
    Raises ValueError for a count below 20.
    """
    if count < 20:
        raise ValueError(f"the demo city has at least 20 documents, not {count}")
    random = Random(seed)  # noqa: S311 - invented documents, no secrets
    cases = _cases(random, count, today or datetime.now(timezone.utc).date())
    awkward = _awkward(
        [cases.pop(place) for place in sorted(random.sample(range(count), _AWKWARD), reverse=True)]
    )
    documents = [*_honest(random, cases), *awkward]
    return sorted(_with_unique_names(documents), key=lambda document: document.modified_at)


@dataclass(frozen=True)
class _Case:
    facts: Facts
    modified_at: datetime


def _cases(random: Random, count: int, today: date) -> list[_Case]:
    """Cases on working days all over the time, their numbers rising with it."""
    cases = []
    for place, ago in enumerate(sorted((random.randrange(DAYS) for _ in range(count)), reverse=True)):
        day = today - timedelta(days=ago + 1)
        day -= timedelta(days=max(0, day.weekday() - 4))
        moment = time(random.randrange(13, 22), random.randrange(60), random.randrange(60))
        filed = day - timedelta(days=random.choice((0, 0, 0, 1, 1, 2, 4)))
        facts = draw(random, 100 + 7 * place + random.randrange(7), filed)
        cases.append(_Case(facts, datetime.combine(day, moment, timezone.utc)))
    return cases


def _honest(random: Random, cases: list[_Case]) -> Iterator[CityDocument]:
    """Every template in every format, in turn."""
    order = [(template, ending) for template in TEMPLATES for ending in template.formats]
    random.shuffle(order)
    for place, case in enumerate(cases):
        template, ending = order[place % len(order)]
        draft = template.write(case.facts)
        yield _document(case, template.kind, draft, ending, random.choice(draft.stems))


def _document(case: _Case, kind: str, draft: Draft, ending: str, stem: str) -> CityDocument:
    return CityDocument(
        name=f"{stem}.{ending}",
        content=WRITERS[ending](_page(case, kind, draft)),
        content_type=CONTENT_TYPES[ending],
        modified_at=case.modified_at,
        kind=kind,
        fields=draft.fields,
        folder=_folder(kind),
        urgent=draft.urgent,
    )


def _page(case: _Case, kind: str, draft: Draft) -> Page:
    mailbox = _folder(kind).partition("-")[0]
    return Page(
        title=draft.title,
        blocks=draft.blocks,
        author=draft.author,
        email=draft.mail_from or case.facts.email,
        written_at=case.modified_at,
        department=DEPARTMENTS[kind] if draft.letterhead else "",
        recipient=f"{mailbox}@alderfalls.example.org",
        boxed=draft.boxed,
    )


def _folder(kind: str) -> str:
    return re.sub(r"[^a-z]+", "-", DEPARTMENTS[kind].lower())


def _with_unique_names(documents: list[CityDocument]) -> Iterator[CityDocument]:
    """Numbers the later of two equal names as an operating system does, unless it is meant to be equal."""
    taken: set[str] = set()
    for document in documents:
        name, number = document.name, 1
        while name.lower() in taken and not document.awkward:
            number += 1
            stem, _, ending = document.name.rpartition(".")
            name = f"{stem} ({number}).{ending}"
        taken.add(name.lower())
        yield replace(document, name=name)


# The awkward ones

_AWKWARD = 12


def _awkward(cases: list[_Case]) -> Iterator[CityDocument]:
    empty, damaged, locked, scanned, blank, unicode_name, first, second, bare, old, mixed, vague = cases

    def permit(case: _Case, stem: str) -> CityDocument:
        return _document(case, "building_permit", templates.permit_application(case.facts), "pdf", stem)

    yield replace(
        permit(empty, "upload_0004"),
        content=b"",
        kind="other",
        fields={},
        folder=_folder("other"),
        awkward="empty file",
    )

    torn = permit(damaged, "Permit set rev B")
    yield replace(torn, content=torn.content[: len(torn.content) // 3], fields={}, awkward="damaged PDF")

    secret = templates.rental_assistance(locked.facts)
    yield replace(
        _document(locked, "benefits_application", secret, "pdf", f"CONFIDENTIAL {locked.facts.applicant}"),
        content=as_pdf(_page(locked, "benefits_application", secret), password="alder"),  # noqa: S106
        awkward="password-protected PDF",
    )

    paper = templates.permit_application(scanned.facts)
    yield replace(
        permit(scanned, "scan0031"),
        content=_scan(_page(scanned, "building_permit", paper)),
        awkward="scanned page without a text layer",
    )

    incomplete = _without(templates.permit_application(blank.facts), "parcel_number")
    yield replace(
        _document(blank, "building_permit", incomplete, "pdf", f"BD-101 incomplete {blank.facts.applicant}"),
        awkward="required field left blank",
    )

    noise = templates.noise_complaint(unicode_name.facts)
    yield replace(
        _document(unicode_name, "complaint", noise, "eml", "Zoe\u0308 \u2013 Lärm ½ 東京 🏚 (копия)"),
        awkward="strange Unicode name",
    )

    for case, kind, write in (
        (first, "business_license", templates.license_application),
        (second, "court_filing", templates.eviction),
    ):
        yield replace(
            _document(case, kind, write(case.facts), "pdf", "scan0001"),
            awkward="same name as another document",
        )

    leak = templates.gas_leak(bare.facts)
    yield replace(
        _document(bare, "complaint", leak, "txt", "unused"),
        name=f"gas leak call {bare.facts.number}",
        content_type="application/octet-stream",
        awkward="no file extension",
    )

    letter = templates.noise_complaint(replace(old.facts, applicant="Chloé Delacroix-Núñez"))
    yield replace(
        _document(old, "complaint", letter, "txt", "COMPLNT7"),
        content=as_txt(_page(old, "complaint", letter)).decode().encode("cp1252"),
        awkward="text in an old character set",
    )

    both = _two_matters(mixed.facts)
    yield replace(
        _document(mixed, "complaint", both, "eml", f"Two things {mixed.facts.applicant}"),
        awkward="two matters in one message",
    )

    note = _note(vague.facts)
    yield replace(
        _document(vague, "other", note, "txt", "phone note"), awkward="says too little to be classified"
    )


def _two_matters(f: Facts) -> Draft:
    return Draft(
        title="Two things: a complaint and a records request",
        letterhead=False,
        blocks=(
            "Hello,",
            f"First, I want to file a complaint about the trash behind {f.address}. It draws rats, and the "
            "landlord does not answer.",
            "Second, under the Freedom of Information Act I request copies of the inspection reports for "
            "that address since last year. Please treat this as my public records request as well.",
            "Thank you,",
            f.applicant,
            f"{f.phone}, {f.email}",
        ),
        fields={"applicant_name": f.applicant, "email": f.email, "address": f.address},
        stems=("Two things",),
        author=f.applicant,
    )


def _note(f: Facts) -> Draft:
    return Draft(
        title="Phone note",
        letterhead=False,
        blocks=(f"{f.other} called again about the matter from last week. Please call back: {f.phone}.",),
        fields={},
        stems=("phone note",),
        author=f.officer,
    )


def _without(draft: Draft, field: str) -> Draft:
    """The same form, handed in with one field left blank."""
    gone = draft.fields[field]
    blocks = tuple(
        Fields(tuple((label, "" if value == gone else value) for label, value in block.pairs))
        if isinstance(block, Fields)
        else block
        for block in draft.blocks
    )
    kept = {name: value for name, value in draft.fields.items() if name != field}
    return replace(draft, blocks=blocks, fields=kept)


def _scan(page: Page) -> bytes:
    """The page as the copier in the hallway sends it: a picture, slightly askew, 150 dots per inch."""
    sheet = Image.new("L", (1275, 1650), 244)
    pen = ImageDraw.Draw(sheet)
    text = "\n".join([CITY, page.department, "", page.title, "", *lines(page)])
    pen.multiline_text((120, 110), text, fill=40, font=ImageFont.load_default(24), spacing=12)
    picture = io.BytesIO()
    sheet.rotate(0.6, fillcolor=244).save(picture, "JPEG", quality=70)
    picture.seek(0)
    saved = io.BytesIO()
    canvas = Canvas(saved, pagesize=LETTER, invariant=1)
    canvas.drawImage(ImageReader(picture), 0, 0, *LETTER)
    canvas.save()
    return saved.getvalue()
