"""Signing in with a token, deciding as the person it names, and out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from citysort_dagster import api_tokens
from tests.browser.conftest import Open
from tests.web.documents.conftest import found_town
from tests.web.documents.serving import served
from tests.web.documents.town import COMPLAINT, Town


@pytest.fixture(scope="module")
def closed_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town with a document that waits for review."""
    folder = tmp_path_factory.mktemp("closed")
    with found_town(folder, f"sqlite:///{folder / 'citysort.db'}") as town:
        town.bring("waiting.txt", COMPLAINT)
        town.process()
        yield town


def test_a_token_opens_the_console_and_names_who_decides(open_page: Open, closed_town: Town) -> None:
    token = api_tokens.create(closed_town.database, "dora", "operator", "test")
    with served(closed_town.installation) as url, open_page(f"{url}/review") as page:
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert page.get_by_role("link", name="Documents").count() == 0
        page.get_by_label("Token").fill("citysort_guessed")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not known here")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Review")).to_be_visible()
        expect(page.locator(".site-user")).to_contain_text("dora")
        assert token not in page.content()
        cookies = page.context.cookies()
        assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(True, "Strict")]
        page.get_by_label("Address").fill("5 Sign Street")
        page.get_by_role("button", name="pprove").click()
        expect(page.get_by_role("status")).to_contain_text("Corrected: waiting.txt")
        page.get_by_role("link", name="Open it").click()
        expect(page.locator(".timeline > li.by-person")).to_contain_text("by dora")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"{url}/documents")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_revoked_token_ends_its_sessions(open_page: Open, closed_town: Town) -> None:
    token = api_tokens.create(closed_town.database, "erik", "viewer", "test")
    with served(closed_town.installation) as url, open_page(f"{url}/documents") as page:
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Documents")).to_be_visible()
        api_tokens.revoke(closed_town.database, "erik", "test")
        page.get_by_label("Search in names").fill("waiting")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
