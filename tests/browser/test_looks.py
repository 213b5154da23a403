"""Every page on a desk in light and on a phone in dark: nothing sticks out, and axe finds nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.web.documents.town import Town

SCREENS = {"desk": {"width": 1280, "height": 860}, "phone": {"width": 360, "height": 740}}
PAGES = {
    "documents": "/documents",
    "search": "/documents?q=permit",
    "nothing found": "/documents?q=zzzzzz&from=yesterday",
    "document": "/documents/{routed}",
    "waiting document": "/documents/{waiting}",
    "review": "/review",
    "empty review": "/review?department=Nobody",
    "sources": "/sources",
    "source": "/sources/city_archive",
    "systems": "/new-source",
    "new source": "/new-source/sharepoint",
    "API": "/api/docs",
    "sign in": "/sign-in",
    "not found": "/documents/00000000-0000-0000-0000-000000000000",
}
PICTURES = {"search": "console-documents", "review": "console-review"}


@pytest.fixture(scope="session")
def ids(open_page: Open, url: str, town: Town) -> dict[str, str]:
    found = {}
    for status in ("routed", "needs_review"):
        with open_page(f"{url}/documents?status={status}&type=building_permit") as page:
            href = page.locator("#results tbody th a").last.get_attribute("href")
            found[{"routed": "routed", "needs_review": "waiting"}[status]] = str(href).rpartition("/")[2]
    return found


# Colours do not depend on the screen, nor the layout on the colours: two of the four ways show all of both.
@pytest.mark.parametrize(("screen", "scheme"), [("desk", "light"), ("phone", "dark")])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_everybody_can_use_it(
    open_page: Open,
    url: str,
    ids: dict[str, str],
    picture: Callable[[Page, str], None],
    name: str,
    screen: str,
    scheme: str,
) -> None:
    with open_page(url + PAGES[name].format(**ids), viewport=SCREENS[screen], color_scheme=scheme) as page:
        keep_to_the_rules(page)
        if name in PICTURES and screen == "desk":
            picture(page, PICTURES[name])
        if name == "review" and screen == "desk":
            page.keyboard.press("?")
            expect(page.get_by_role("dialog")).to_be_visible()
            keep_to_the_rules(page)


def keep_to_the_rules(page: Page) -> None:
    """Nothing is wider than the screen, and axe has nothing to say: https://github.com/dequelabs/axe-core"""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("path", ["/documents", "/review"])
def test_a_page_is_walked_through_with_the_tab_key(open_page: Open, url: str, town: Town, path: str) -> None:
    with open_page(url + path) as page:
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        for _ in range(5):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", page.evaluate("document.activeElement.outerHTML")


@pytest.mark.parametrize("path", ["/documents", "/review"])
def test_a_page_can_be_read_without_styles(open_page: Open, url: str, town: Town, path: str) -> None:
    with open_page(url + path) as page:
        page.route("**/*.css", lambda route: route.fulfill(body="", content_type="text/css"))
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "none"
        headings = page.locator("h1, h2").all_inner_texts()
        assert headings
        landmarks = page.locator("header, nav[aria-label], main, footer")
        assert landmarks.count() >= 4
