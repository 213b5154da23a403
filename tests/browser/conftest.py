"""Chromium, headless, and a town whose console it looks at.

CITYSORT_TEST_CHROMIUM names the browser where it is not where one looks for it. CITYSORT_SCREENSHOTS
names a folder that the tests then write pictures of the pages to.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from sandbox.documents import generate
from tests.importer.folder_connector import put
from tests.web.documents.conftest import found_town
from tests.web.documents.serving import served
from tests.web.documents.town import Town

CHROMIUM = "CITYSORT_TEST_CHROMIUM"
SCREENSHOTS = "CITYSORT_SCREENSHOTS"
# The first has all of Chromium but its windows, and takes a third of the time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# It runs as root on build machines, and has nobody to ask and nothing to look up.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
SOURCES = ("city_archive", "permit_scans", "resident_requests")
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"

Open = Callable[..., AbstractContextManager[Page]]

# In milliseconds: a build machine may be busy with much else.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)

# htmx tells the console of a request that it gave up because a later one took its place.
GIVEN_UP = ("htmx:afterRequest, ", "htmx:sendAbort, ")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"no Chromium is installed; {CHROMIUM} names one that is elsewhere"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def open_page(browser: Browser) -> Open:
    """Opens a page in a browser profile of its own: `with open_page(url, **options of it) as page`.

    Holds every page to what all must keep to: no script fails, nothing comes from elsewhere, no
    dialog opens, and the Content-Security-Policy has nothing to refuse.
    """

    @contextmanager
    def opened(url: str, **options: Any) -> Iterator[Page]:
        complaints: list[str] = []
        origin = "/".join(url.split("/")[:3])
        context = browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)

        def note_console(message: ConsoleMessage) -> None:
            # A page that is refused or not found is told to be so in the console, too.
            if (
                message.type in ("error", "warning")
                and "the server responded with a status" not in message.text
                and not message.text.startswith(GIVEN_UP)
            ):
                complaints.append(message.text)

        def note_request(request: Request) -> None:
            if not request.url.startswith((origin, "data:")):
                complaints.append(f"a request to {request.url}")

        def note_dialog(dialog: Dialog) -> None:
            complaints.append(dialog.message)
            dialog.dismiss()

        page.on("console", note_console)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note_request)
        page.on("dialog", note_dialog)
        page.goto(url)
        yield page
        context.close()
        assert complaints == []

    return opened


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town with the documents of real life, some of which wait for review, and bad ones."""
    folder = tmp_path_factory.mktemp("town")
    with found_town(folder, f"sqlite:///{folder / 'citysort.db'}") as town:
        for number, document in enumerate(generate(120)):
            source = folder / "source" / SOURCES[number % len(SOURCES)]
            source.mkdir(parents=True, exist_ok=True)
            put(source, document.name, document.content, document.modified_at)
        for source_name in SOURCES:
            town.bring(
                "Minutes of today.txt", "Meeting minutes. Call to order. Quorum. Adjourned.", source_name
            )
        town.bring(
            f"{SCRIPT.replace('/', '')}.txt", f"Complaint form\n{SCRIPT}\nbarking dogs", "city_archive"
        )
        town.process()
        yield town


@pytest.fixture(scope="session")
def url(town: Town) -> Iterator[str]:
    """Where the town's console is served."""
    with served(town.installation) as address:
        yield address


@pytest.fixture(scope="session")
def picture() -> Callable[[Page, str], None]:
    """Keeps a picture of a page under a name, if pictures are asked for."""
    folder = os.environ.get(SCREENSHOTS)

    def keep(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{name}.png")

    return keep
