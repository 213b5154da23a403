"""Deciding on documents, with keys, with a mouse and without scripts."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from citysort_dagster import api_tokens
from tests.browser.conftest import Open
from tests.web.documents.town import COMPLAINT, Town


def new_complaint(town: Town, name: str) -> str:
    document_id = town.bring(name, COMPLAINT, "resident_requests")
    town.process()
    assert town.document(document_id).review_reasons == ["The address is missing."]
    return document_id


def shown(page: Page) -> str:
    return page.locator("#document-heading").inner_text()


def test_a_document_is_corrected_with_a_few_keys(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "keys.txt")
    with open_page(f"{url}/review?document={complaint}") as page:
        expect(page.get_by_text("The address is missing.")).to_be_visible()
        expect(page.get_by_role("button", name="Approve")).to_have_text("Approve")
        page.keyboard.press("e")
        expect(page.get_by_label("Address")).to_be_focused()
        page.keyboard.type("ajk 7 Mill Road")
        expect(page.get_by_role("button", name="Correct and approve")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        expect(page.get_by_role("status")).to_contain_text(
            "Corrected: keys.txt is in the queue of Code Enforcement"
        )
        assert shown(page) != "keys.txt"
        page.get_by_role("link", name="Open it").click()
        expect(page.locator(".timeline > li.by-person")).to_contain_text("nothing → ajk 7 Mill Road")
    event = town.events(complaint)[-1]
    assert (event.event, event.actor) == ("corrected", "this machine")
    assert town.document(complaint).fields["address"] == "ajk 7 Mill Road"


def test_a_document_is_approved_with_one_key(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "one-key.txt")
    with open_page(f"{url}/review?document={complaint}") as page:
        page.keyboard.press("a")
        expect(page.get_by_role("status")).to_contain_text("Approved: one-key.txt")
    assert town.events(complaint)[-1].event == "approved"


def test_keys_lead_to_the_next_and_the_previous_document(open_page: Open, url: str, town: Town) -> None:
    new_complaint(town, "walk-1.txt")
    new_complaint(town, "walk-2.txt")
    with open_page(f"{url}/review?department=Code+Enforcement") as page:
        first = shown(page)
        expect(page.get_by_text("1 of")).to_be_visible()
        page.keyboard.press("j")
        expect(page.get_by_text("2 of")).to_be_visible()
        second = shown(page)
        assert second != first
        page.keyboard.press("k")
        expect(page.get_by_text("1 of")).to_be_visible()
        assert shown(page) == first


def test_keys_are_explained_and_can_be_switched_off(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "help.txt")
    with open_page(f"{url}/review?document={complaint}") as page:
        page.keyboard.press("?")
        help_ = page.get_by_role("dialog", name="Keys")
        expect(help_).to_be_visible()
        page.keyboard.press("a")
        page.get_by_label("Use these keys in this browser").uncheck()
        page.keyboard.press("Escape")
        expect(help_).to_be_hidden()
        page.reload()
        page.keyboard.press("a")
        page.keyboard.press("?")
        expect(help_).to_be_hidden()
        page.get_by_role("button", name="Keys ?").click()
        expect(page.get_by_label("Use these keys in this browser")).not_to_be_checked()
    assert town.document(complaint).status == "needs_review"


def test_another_type_brings_its_department(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "other-type.txt")
    with open_page(f"{url}/review?document={complaint}") as page:
        page.get_by_label("Type", exact=True).select_option(label="FOI request")
        expect(page.get_by_label("Department", exact=True)).to_have_value("City Clerk")
        page.get_by_role("button", name="Correct and approve").click()
        expect(page.get_by_role("status")).to_contain_text("in the queue of City Clerk")
    assert town.document(complaint).doc_type == "foi_request"


def test_the_former_department_is_chosen_again_with_another_type(
    open_page: Open, url: str, town: Town
) -> None:
    complaint = new_complaint(town, "same-department.txt")
    with open_page(f"{url}/review?document={complaint}") as page:
        page.get_by_label("Type", exact=True).select_option(label="FOI request")
        expect(page.get_by_label("Department", exact=True)).to_have_value("City Clerk")
        page.get_by_label("Department", exact=True).select_option("Code Enforcement")
        page.get_by_role("button", name="Correct and approve").click()
        expect(page.get_by_role("status")).to_contain_text("in the queue of Code Enforcement")
    after = town.document(complaint)
    assert (after.doc_type, after.department) == ("foi_request", "Code Enforcement")


def test_the_page_works_without_scripts(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "plain.txt")
    with open_page(f"{url}/review?document={complaint}", java_script_enabled=False) as page:
        page.get_by_label("Type", exact=True).select_option(label="Business license")
        page.get_by_label("Address").fill("1 Plain Street")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("status")).to_contain_text("in the queue of Finance & Licensing")
    assert town.document(complaint).fields["address"] == "1 Plain Street"


def test_whoever_comes_second_is_told(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "second.txt")
    address = f"{url}/review?document={complaint}"
    with open_page(address) as first, open_page(address) as second:
        first.get_by_label("Address").fill("First Street")
        first.get_by_role("button", name="Correct and approve").click()
        expect(first.get_by_role("status")).to_contain_text("Corrected")
        second.get_by_role("button", name="Approve").click()
        expect(second.get_by_role("alert")).to_contain_text("corrected by this machine")
        expect(second.get_by_label("Address")).to_have_value("First Street")
    assert [event.event for event in town.events(complaint)].count("corrected") == 1


def test_what_cannot_be_is_said_beside_the_field(open_page: Open, url: str, town: Town) -> None:
    complaint = new_complaint(town, "too-long.txt")
    with open_page(f"{url}/review?document={complaint}") as page:
        page.get_by_label("Address").evaluate(
            "input => { input.maxLength = 9999; input.value = 'x'.repeat(600); }"
        )
        page.get_by_label("Email").fill("kept@example.org")
        page.get_by_role("button", name="pprove").click()
        expect(page.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#problem-address")).to_contain_text("500 characters at most")
        expect(page.get_by_label("Email")).to_have_value("kept@example.org")
    assert town.document(complaint).status == "needs_review"


def test_an_empty_queue_says_so(open_page: Open, url: str) -> None:
    with open_page(f"{url}/review?department=Nobody%3Cscript%3E") as page:
        expect(page.get_by_role("heading", name="Nothing to review for Nobody<script>")).to_be_visible()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_viewers_look_and_operators_decide(
    open_page: Open, tmp_path_factory: pytest.TempPathFactory, role: str
) -> None:
    from tests.web.documents.conftest import found_town
    from tests.web.documents.serving import served

    folder = tmp_path_factory.mktemp("roles")
    with found_town(folder, f"sqlite:///{folder / 'citysort.db'}") as town:
        complaint = new_complaint(town, "roles.txt")
        token = api_tokens.create(town.database, f"{role}-bob", role, "test")
        headers = {"Authorization": f"Bearer {token}"}
        with (
            served(town.installation) as url,
            open_page(f"{url}/review", extra_http_headers=headers) as page,
        ):
            if role == "viewer":
                expect(page.get_by_text("deciding takes the role operator")).to_be_visible()
                expect(page.get_by_label("Address")).to_be_disabled()
                assert page.get_by_role("button", name="Approve").count() == 0
            else:
                page.get_by_role("button", name="Approve").click()
                expect(page.get_by_role("status")).to_contain_text("Approved: roles.txt")
                assert town.events(complaint)[-1].actor == "operator-bob"
