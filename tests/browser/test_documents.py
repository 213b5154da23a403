"""Finding a document and looking at all that is known of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Open
from tests.web.documents.town import PERMIT, Town


@pytest.fixture(scope="session")
def permit(town: Town) -> str:
    former = town.bring("Roof of Mia Okafor.txt", PERMIT, "permit_scans")
    town.process()
    later = town.bring("Roof of Mia Okafor.txt", PERMIT + "Signed.", "permit_scans", day=12)
    town.process()
    assert former != later
    return later


def rows(page: Page) -> list[str]:
    return page.locator("#results tbody th a").all_inner_texts()


def test_a_document_is_found_while_its_words_are_typed(open_page: Open, url: str, permit: str) -> None:
    with open_page(f"{url}/documents") as page:
        before = page.locator("#count").inner_text()
        page.get_by_label("Search in names, ids and text").press_sequentially("okaf roof")
        expect(page.locator("#results tbody tr")).to_have_count(1)
        assert rows(page) == ["Roof of Mia Okafor.txt"]
        assert page.locator("mark").all_inner_texts() == ["Okafor"]
        expect(page.locator("#count")).to_have_text("1 document found")
        expect(page.get_by_role("link", name="Clear the search")).to_be_visible()
        assert "q=okaf" in page.url
        assert page.evaluate("document.activeElement.id") == "q"
        page.go_back()
        expect(page.locator("#count")).to_have_text(before)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_filters_choose_and_can_be_cleared(open_page: Open, url: str, permit: str, scripts: bool) -> None:
    with open_page(f"{url}/documents", java_script_enabled=scripts) as page:
        page.get_by_label("Search in names").fill("mia okafor elm")
        page.get_by_label("Source").select_option("permit_scans")
        page.get_by_label("Type").select_option("building_permit")
        page.get_by_label("Status").select_option("Routed")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#count")).to_have_text("1 document found")
        page.get_by_label("With versions").check()
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#count")).to_have_text("2 documents found")
        page.get_by_label("Department").select_option("Municipal Court")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("heading", name="No documents")).to_be_visible()
        page.get_by_role("link", name="Show all documents").click()
        expect(page.locator("#results tbody tr").first).to_be_visible()


@pytest.mark.parametrize(
    ("label", "choice"),
    [
        ("Source", "resident_requests"),
        ("Department", "Municipal Court"),
        ("Type", "building_permit"),
        ("Status", "Needs review"),
    ],
)
def test_a_choice_takes_effect_at_once(
    open_page: Open, url: str, permit: str, label: str, choice: str
) -> None:
    with open_page(f"{url}/documents") as page:
        everything = page.locator("#count").inner_text()
        page.get_by_label(label, exact=True).select_option(choice)
        expect(page.locator("#count")).not_to_have_text(everything)
        page.get_by_label(label, exact=True).select_option("Any")
        expect(page.locator("#count")).to_have_text(everything)


def test_a_search_takes_the_place_of_one_that_is_not_answered_yet(
    open_page: Open, url: str, permit: str
) -> None:
    court = re.compile("department=municipal", re.IGNORECASE)
    held: list[Route] = []
    with open_page(f"{url}/documents") as page:
        page.route(court, lambda route: held.append(route))
        with page.expect_request(court):
            page.get_by_label("Department").select_option("Municipal Court")
        page.get_by_label("Department").select_option("Any")
        page.get_by_label("Search in names").fill("mia okafor elm")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#count")).to_have_text("1 document found")
        assert len(held) == 1


def test_pages_follow_one_another(open_page: Open, url: str, permit: str) -> None:
    with open_page(f"{url}/documents") as page:
        total = int(page.locator("#count").inner_text().split()[0])
        seen: list[str] = []
        while True:
            links = page.locator("#results tbody th a")
            seen += [str(link.get_attribute("href")) for link in links.all()]
            following = page.get_by_role("link", name="Next page")
            if not following.count():
                break
            following.click()
        assert len(seen) == len(set(seen)) == total > 100
        page.get_by_role("link", name="First page").click()
        assert page.locator("#results tbody th a").first.get_attribute("href") == seen[0]


@pytest.mark.parametrize(
    "query", ["status=lost&source=nobody", "cursor=nonsense", "q=%00", "from=&to=", "q=" + "x" * 3_000]
)
def test_addresses_that_make_no_sense_show_a_page(open_page: Open, url: str, query: str) -> None:
    with open_page(f"{url}/documents?{query}") as page:
        expect(page.get_by_role("heading", name="Documents", exact=True)).to_be_visible()


def test_a_date_that_is_none_is_said_to_be_none(open_page: Open, url: str) -> None:
    with open_page(f"{url}/documents?from=yesterday") as page:
        expect(page.get_by_text("yesterday is not a date like")).to_be_visible()


def test_a_document_shows_its_way_from_source_to_queue(open_page: Open, url: str, permit: str) -> None:
    with open_page(f"{url}/documents?q=okafor") as page:
        page.get_by_role("link", name="Roof of Mia Okafor.txt").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Roof of Mia Okafor.txt")
        way = page.locator(".steps")
        for step in ("permit_scans", "Imported", "Text", "Building permit", "Building Department"):
            expect(way.get_by_text(step, exact=True)).to_be_visible()
        expect(page.locator("pre.text")).to_contain_text("BUILDING PERMIT APPLICATION")
        expect(page.locator(".facts").first).to_contain_text("12-345-678")
        history = page.locator(".timeline > li")
        assert [item.locator("strong").inner_text() for item in history.all()] == [
            "Imported",
            "Text extracted",
            "Classified",
            "Routed",
        ]
        page.get_by_role("region", name="Versions of this document").get_by_role("link").click()
        expect(page.get_by_text("A later version has taken the place")).to_be_visible()
        page.get_by_role("link", name="open it").click()
        assert page.url == f"{url}/documents/{permit}"


def test_a_download_is_saved_as_it_was_imported(
    open_page: Open, url: str, permit: str, town: Town, tmp_path: Path
) -> None:
    with open_page(f"{url}/documents/{permit}") as page:
        with page.expect_download() as starting:
            page.get_by_role("link", name=re.compile("Download")).click()
        assert starting.value.suggested_filename == "Roof of Mia Okafor.txt"
        starting.value.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_text() == PERMIT + "Signed."


def test_scripts_in_names_and_texts_are_only_text(open_page: Open, url: str, town: Town) -> None:
    with open_page(f"{url}/documents?q=owned") as page:
        expect(page.get_by_role("link", name="<script>document.title=")).to_be_visible()
        expect(page.locator(".excerpt")).to_contain_text("<script>document.title='owned'</script>")
        page.get_by_role("link", name="<script>document.title=").click()
        expect(page.locator("pre.text")).to_contain_text("<script>document.title='owned'</script>")
        assert page.locator("main img, main script").count() == 0
        assert page.title().endswith(" CitySort")


def test_a_document_is_processed_again(open_page: Open, url: str, town: Town) -> None:
    document_id = town.bring("again.txt", PERMIT, "permit_scans")
    town.process()
    with open_page(f"{url}/documents/{document_id}") as page, open_page(page.url) as other:
        page.get_by_role("button", name="Process again").click()
        expect(page.get_by_role("status")).to_contain_text("will be processed again")
        expect(page.locator(".page-head")).to_contain_text("In processing")
        other.get_by_role("button", name="Process again").click()
        expect(other.get_by_role("alert")).to_contain_text("sent back to processing by this machine")
    town.process()
    assert town.document(document_id).status == "routed"


def test_a_document_that_is_not_there_is_said_not_to_be(open_page: Open, url: str) -> None:
    for name in ("00000000-0000-0000-0000-000000000000", "..%2f..%2fetc%2fpasswd", "%3Cscript%3E"):
        with open_page(f"{url}/documents/{name}") as page:
            expect(page.get_by_role("link", name="To the start page")).to_be_visible()
            expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
