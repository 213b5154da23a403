"""From an empty installation to reviewed documents of all ten systems, by nothing but the console."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from citysort_dagster.store.models import Document
from sandbox.documents import generate
from sandbox.systems import SYSTEMS, RunningSystem
from tests.browser.conftest import Open
from tests.dagster_ui.conftest import City
from tests.dagster_ui.graphql import wait_for
from tests.warm_workers import warm_start

EACH = 4
"""Documents in each system."""
MINUTES = 60_000
"""In milliseconds, as the browser counts."""

WRONG = {
    "city_archive": "filepath",
    "permit_scans": "secret_access_key",
    "planning_bucket": "bucket_name",
    "court_records": "password",
    "licensing": "password",
    "resident_requests": "password",
    "public_works": "api_token",
    "city_wiki": "api_token",
    "human_services": "client_secret",
    "planning_library": "client_secret",
}
"""What is given wrongly at first: the secret, or where there is none, what stands for it."""

pytestmark = pytest.mark.timeout(900)


@dataclass
class Told:
    """What the console said of a source."""

    wrong: str = ""
    right: str = ""
    imports: list[dict[str, int]] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, RunningSystem]]:
    folder = tmp_path_factory.mktemp("systems")
    documents = [document for document in generate(120) if not document.awkward]
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(start(documents[number * EACH :][:EACH], folder))
            for number, (name, start) in enumerate(SYSTEMS.items())
        }


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, systems: Mapping[str, RunningSystem]) -> Iterator[City]:
    """An installation with Dagster's webserver and daemon, and the console beside them."""
    folder = tmp_path_factory.mktemp("city")
    city = City.found(
        folder / "data",
        PYTHONPATH=warm_start(folder),
        CITYSORT_ALLOWED_NETWORKS="127.0.0.0/8",
        # Where the archive is, and the certificate that signs for the simulated SharePoint.
        CITYSORT_ALLOWED_FOLDER=tempfile.gettempdir(),
    )
    with city.running():
        city.quiet(*systems)
        yield city


@pytest.fixture(scope="module")
def console(city: City) -> str:
    return str(json.loads((city.settings.data_dir / "up.json").read_bytes())["console"])


@pytest.fixture(scope="module")
def added(open_page: Open, console: str, systems: Mapping[str, RunningSystem]) -> dict[str, Told]:
    """All ten sources, added with the form after a test that fails and one that does not."""
    told = {}
    for name, system in systems.items():
        with open_page(f"{console}/new-source/{system.source['connector']}") as page:
            settings = {
                key: system.secrets[value["env"]] if isinstance(value, Mapping) else value
                for key, value in system.source["config"].items()
            }
            page.get_by_label("Name", exact=True).fill(name)
            fill(page, {**settings, WRONG[name]: f"{settings[WRONG[name]]}x"})
            wrong = said_of_connection(page)
            fill(page, {WRONG[name]: settings[WRONG[name]]})
            told[name] = Told(wrong, said_of_connection(page))
            assert told[name].right.startswith("It works:"), told[name]
            page.get_by_role("button", name="Save").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    return told


def fill(page: Page, settings: Mapping[str, Any]) -> None:
    """Gives the fields of a connector these values."""
    for key, value in settings.items():
        control = page.locator(f"[name='config.{key}']")
        if not control.is_visible():
            page.locator("details:has(.form) > summary").click()
        if control.get_attribute("type") == "checkbox":
            control.set_checked(value)
        elif isinstance(value, list):
            control.fill("\n".join(value))
        else:
            control.fill(str(value))


def said_of_connection(page: Page) -> str:
    """What pressing the button says that tests the connection."""
    with page.expect_response(re.compile("/test$"), timeout=2 * MINUTES):
        page.get_by_role("button", name="Test the connection").click()
    notice = page.locator("#connection .notice")
    expect(notice).to_be_visible()
    said = notice.inner_text()
    page.evaluate("document.querySelector('#connection').replaceChildren()")
    return said


@pytest.fixture(scope="module")
def imported(
    open_page: Open, console: str, added: dict[str, Told], picture: Callable[[Page, str], None]
) -> dict[str, Told]:
    """All ten imported twice, watched from their pages."""
    for _ in range(2):
        with ExitStack() as stack:
            pages = {}
            for name in added:
                pages[name] = page = stack.enter_context(open_page(f"{console}/sources/{name}"))
                page.evaluate(
                    """() => {
                        window.seen = [];
                        const look = () => {
                            const now = document.querySelector("#import-result .badge")?.textContent;
                            if (now && window.seen.at(-1) !== now) window.seen.push(now);
                        };
                        new MutationObserver(look).observe(
                            document.querySelector("#import-result"), { childList: true, subtree: true });
                    }"""
                )
                expect(page.get_by_label("At most")).to_have_value("50")
                page.get_by_role("button", name="Import").click()
                wait_for(f"the beginning of {name}", partial(page.evaluate, "window.seen.length > 0"))
            for name, page in pages.items():
                # Not the badge alone: it is also that of the import before.
                wait_for(f"the end of {name}", partial(page.evaluate, "window.seen.at(-1) === 'Done'"))
                counts = {
                    key: int(page.locator(f"#{key}").inner_text())
                    for key in ("imported", "skipped", "failed")
                }
                added[name].imports.append(counts)
                added[name].watched += page.evaluate("window.seen")
                if name == "public_works" and counts["imported"]:
                    expect(page.locator("#standing-panel .figures dd").first).to_have_text(str(EACH))
                    page.set_viewport_size({"width": 1280, "height": 860})
                    page.reload()
                    picture(page, "console-source")
    return added


@pytest.mark.parametrize("name", SYSTEMS)
def test_wrong_settings_are_told_from_right_ones(added: Mapping[str, Told], name: str) -> None:
    assert added[name].wrong.startswith("It does not work:")
    assert added[name].right.startswith("It works:")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_source_is_imported_once_and_then_skipped(imported: Mapping[str, Told], name: str) -> None:
    first, second = imported[name].imports
    assert first == {"imported": EACH, "skipped": 0, "failed": 0}
    assert second == {"imported": 0, "skipped": EACH, "failed": 0}


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_import_is_watched_from_its_beginning_to_its_end(imported: Mapping[str, Told], name: str) -> None:
    watched = imported[name].watched
    assert watched[0] in ("Waiting", "Running")
    assert watched[-1] == "Done"


def test_secrets_are_shown_nowhere(
    open_page: Open, console: str, added: Mapping[str, Told], systems: Mapping[str, RunningSystem]
) -> None:
    given = [secret for system in systems.values() for secret in system.secrets.values()]
    # One of the sandbox's passwords is a word that its addresses hold as well.
    secrets = [secret for secret in given if len(secret) > 10]
    assert len(secrets) >= 7
    for name, told in added.items():
        with open_page(f"{console}/sources/{name}") as page:
            shown = page.content() + told.wrong + told.right
        assert not [secret for secret in secrets if secret in shown]


def test_all_sources_are_cards_with_what_they_brought(
    open_page: Open, console: str, imported: Mapping[str, Told], picture: Callable[[Page, str], None]
) -> None:
    with open_page(f"{console}/sources", viewport={"width": 1280, "height": 860}) as page:
        for family, count in (("Databases", 3), ("SaaS & cloud", 7)):
            section = page.get_by_role("region", name=family)
            expect(section.locator(".card")).to_have_count(count)
        for name in imported:
            card = page.get_by_role("article", name=name)
            expect(card.locator(".figures dd").first).to_have_text(str(EACH))
        picture(page, "console-sources")


def test_a_document_of_any_system_is_found_and_corrected(
    open_page: Open, console: str, imported: Mapping[str, Told], city: City
) -> None:
    def processed() -> bool:
        return len(city.rows(Document.id, where=[Document.stage == "queued"])) == EACH * len(SYSTEMS)

    wait_for("the ingestion pipeline", processed)
    with open_page(f"{console}/documents?source=public_works") as page:
        expect(page.locator("#results tbody tr")).to_have_count(EACH)
        link = page.locator("#results tbody th a").first
        filename = link.inner_text()
        link.click()
        expect(page.get_by_role("link", name="run in Dagster")).to_be_visible()
        document_id = page.url.rpartition("/")[2]
        page.goto(f"{console}/review?document={document_id}")
        page.get_by_label("Case number").fill("CITY-4711-QX")
        page.get_by_label("Type", exact=True).select_option(label="Zoning variance")
        page.get_by_role("button", name="pprove").click()
        expect(page.get_by_role("status")).to_contain_text("in the queue of Planning & Zoning")
        page.goto(f"{console}/documents")
        page.get_by_label("Department").select_option("Planning & Zoning")
        page.get_by_label("Source").select_option("public_works")
        page.get_by_label("Search in names").fill(filename)
        expect(page.locator(f"#results tbody a[href='/documents/{document_id}']")).to_be_visible()
        expect(page.locator("#results tbody tr").first).to_contain_text("Zoning variance")
    assert city.disagreements() == []
