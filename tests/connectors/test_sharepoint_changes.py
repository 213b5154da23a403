"""Listings of a SharePoint site that go on from where the former one ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from connectors import http, sharepoint
from connectors.base import ConfigurationError, ListingIncomplete, Reached
from connectors.sharepoint import SharePoint
from sandbox.sharepoint import SimulatedSharePoint
from sandbox.simulated import Answer
from tests.connectors.test_sharepoint import NOON, connect, fill, requests_of, secrets_of

YEARS = timedelta(days=2_000)


@pytest.fixture
def site() -> Iterator[SimulatedSharePoint]:
    with SimulatedSharePoint() as system:
        yield system


@pytest.fixture(autouse=True)
def short_pauses_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sharepoint, "ITEMS_PER_PAGE", 5)


def changes(connector: SharePoint, former: Reached | None = None) -> tuple[list[str], Reached]:
    """The names that a listing tells, sorted, and where it has come to."""
    listing = connector.list_changes(former.checkpoint if former else None)
    found = []
    while True:
        try:
            found.append(next(listing).filename)
        except StopIteration as end:
            return sorted(found), end.value


def test_everything_then_nothing_then_what_changed(site: SimulatedSharePoint) -> None:
    documents = fill(site, 12, folder="2026/March")
    connector = connect(site, library_name="Documents")
    found, reached = changes(connector)
    assert (len(found), reached.started_over) == (12, False)
    requests_of(site)
    for _ in range(3):
        found, reached = changes(connector, reached)
        assert (found, requests_of(site)) == ([], {"delta": 1})
    site.replace(documents[3].id, b"changed")
    site.remove(documents[4].id)
    site.add("moved here.txt", b"moved", modified_at=NOON - YEARS)
    found, reached = changes(connector, reached)
    assert (found, requests_of(site)) == (["3.txt", "moved here.txt"], {"delta": 1})
    assert changes(connector, reached)[0] == []


def test_a_checkpoint_may_be_used_again(site: SimulatedSharePoint) -> None:
    """Losing a later one loses nothing."""
    fill(site, 3)
    connector = connect(site)
    _, reached = changes(connector)
    site.add("new.txt", b"new")
    assert changes(connector, reached)[0] == ["new.txt"]
    site.add("newer.txt", b"newer")
    assert changes(connector, reached)[0] == ["new.txt", "newer.txt"]


def test_one_request_for_each_library(site: SimulatedSharePoint) -> None:
    site.add_library("Plans")
    fill(site, 8)
    for settings, requests in (
        ({"library_name": ["Documents", "Plans"]}, {"delta": 2}),
        ({"library_name": "Plans"}, {"delta": 1}),
        ({}, {"drives": 1, "delta": 2}),
    ):
        connector = connect(site, **settings)
        _, reached = changes(connector)
        requests_of(site)
        assert changes(connector, reached)[0] == []
        assert requests_of(site) == requests


def test_a_library_that_is_new(site: SimulatedSharePoint) -> None:
    fill(site, 8)
    connector = connect(site)
    _, reached = changes(connector)
    site.add_library("Plans")
    site.add("plan.txt", b"plan", library="Plans", modified_at=NOON - YEARS)
    found, reached = changes(connector, reached)
    assert (found, reached.started_over) == (["plan.txt"], False)
    assert changes(connector, reached)[0] == []


def test_a_library_that_is_gone(site: SimulatedSharePoint) -> None:
    plans = site.add_library("Plans")
    fill(site, 8)
    named, all_of_them = connect(site, library_name=["Documents", "Plans"]), connect(site)
    reached = [changes(connector)[1] for connector in (named, all_of_them)]
    del site.libraries[plans.id]
    with pytest.raises(ConfigurationError, match="no document library Plans; there are: Documents"):
        changes(named, reached[0])
    assert changes(all_of_them, reached[1])[0] == []


def test_a_library_that_is_made_anew_under_its_name(site: SimulatedSharePoint) -> None:
    former = site.add_library("Plans")
    site.add("a.txt", b"a", library="Plans")
    connector = connect(site, library_name="Plans")
    _, reached = changes(connector)
    del site.libraries[former.id]
    site.add_library("Plans")
    site.add("b.txt", b"b", library="Plans")
    found, reached = changes(connector, reached)
    assert (found, reached.started_over) == (["b.txt"], True)
    assert changes(connector, reached)[0] == []


def test_a_folder_that_is_made_anew_under_its_name(site: SimulatedSharePoint) -> None:
    site.add("a.txt", b"a", folder="2026/March")
    connector = connect(site, library_name="Documents", folder="2026/March")
    found, reached = changes(connector)
    assert found == ["a.txt"]
    assert changes(connector, reached)[0] == []
    former = site.folders[site.add_folder("2026/March")]
    former.name = "March, old"
    site.add("b.txt", b"b", folder="2026/March")
    assert changes(connector, reached)[0] == ["b.txt"]


@pytest.mark.parametrize("count", [3, 12])
def test_a_link_that_is_no_longer_known_starts_over(site: SimulatedSharePoint, count: int) -> None:
    fill(site, count)
    connector = connect(site, library_name="Documents")
    _, reached = changes(connector)
    site.forget_changes()
    site.add("moved here.txt", b"moved", modified_at=NOON - YEARS)
    found, reached = changes(connector, reached)
    assert (len(found), reached.started_over) == (count + 1, True)
    assert [one.status for one in site.log].count(410) == 1
    found, reached = changes(connector, reached)
    assert (found, reached.started_over) == ([], False)


def test_starting_over_in_the_middle_of_the_first_listing_loses_nothing(site: SimulatedSharePoint) -> None:
    fill(site, 12)
    site.misbehave("change", route="delta", spare=1, then=site.forget_changes)
    found, reached = changes(connect(site))
    assert (len(found), reached.started_over) == (12, False)


@pytest.mark.parametrize(
    "checkpoint", ["", "?", "7", "[7]", "[[]]", '["abcde"]', '[["a", "b", "c", "root", "/v1.0/x"]]']
)
def test_a_checkpoint_of_no_use_lists_everything(site: SimulatedSharePoint, checkpoint: str) -> None:
    fill(site, 3)
    for settings in ({}, {"library_name": "Documents"}):
        found, _ = changes(connect(site, **settings), Reached(checkpoint))
        assert len(found) == 3


def test_a_link_that_is_refused_starts_over(site: SimulatedSharePoint) -> None:
    fill(site, 3)
    connector = connect(site)
    _, reached = changes(connector)
    broken = reached.checkpoint.replace("token='", "token='broken")
    found, again = changes(connector, Reached(broken))
    assert (len(found), again.started_over) == (3, True)


@pytest.mark.parametrize("kind", ["fail", "reset", "truncate", "corrupt", "throttle"])
def test_a_listing_that_breaks_off_reaches_nothing(site: SimulatedSharePoint, kind: Any) -> None:
    fill(site, 12)
    site.misbehave(kind, route="delta", spare=1, times=1_000, seconds=100_000)
    with pytest.raises(ListingIncomplete):
        changes(connect(site))
    site.behave()
    _, reached = changes(connect(site))
    site.add("new.txt", b"new")
    site.misbehave(kind, route="delta", times=1_000, seconds=100_000)
    with pytest.raises(ListingIncomplete):
        changes(connect(site), reached)
    site.behave()
    assert changes(connect(site), reached)[0] == ["new.txt"]


def test_changes_during_the_listing_come_with_the_next_one(site: SimulatedSharePoint) -> None:
    fill(site, 20)
    site.misbehave(
        "change", route="delta", spare=3, then=lambda: site.add("late.txt", b"", modified_at=NOON - YEARS)
    )
    connector = connect(site)
    first, reached = changes(connector)
    second, _ = changes(connector, reached)
    assert "late.txt" in first + second
    assert len(set(first + second)) == 21


def test_a_checkpoint_holds_links_without_their_host_and_no_secret(site: SimulatedSharePoint) -> None:
    fill(site, 8)
    _, reached = changes(connect(site))
    ((*_, link),) = json.loads(reached.checkpoint)
    assert link.startswith("/v1.0/drives/")
    assert "https:" not in reached.checkpoint
    assert not [secret for secret in secrets_of(site) if secret in reached.checkpoint]
    assert reached.checkpoint not in repr(connect(site))


@pytest.mark.parametrize("where", ["https://attacker.example", "media"])
def test_the_host_of_a_link_is_the_configured_one(site: SimulatedSharePoint, where: str) -> None:
    class Leading(SimulatedSharePoint):
        def _page(self, *arguments: Any) -> Answer:
            answer = super()._page(*arguments)
            other = self.url("media") if where == "media" else where
            answer.body = answer.body.replace(self.url().encode(), other.encode())
            return answer

    with Leading() as leading:
        fill(leading, 3)
        connector = connect(leading)
        _, reached = changes(connector)
        assert changes(connector, reached)[0] == []
        assert leading.leaks == []


def test_requests_for_10_000_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # pages as they are
    with SimulatedSharePoint() as site:
        fill(site, 10_000, hash=False)
        connector = connect(site, library_name="Documents")
        found, reached = changes(connector)
        assert (len(found), requests_of(site)) == (10_000, {"drives": 1, "delta": 11})
        assert changes(connector, reached)[0] == []
        assert requests_of(site) == {"delta": 1}
        site.forget_changes()
        found, again = changes(connector, reached)
        assert (len(found), again.started_over) == (10_000, True)
