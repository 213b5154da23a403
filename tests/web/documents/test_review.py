"""People approve, correct and send back documents; what they decided holds."""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from citysort_dagster.document_list import UnknownDocument
from citysort_dagster.pipeline.rules import Rules
from citysort_dagster.review import (
    LONGEST_FIELD,
    Correction,
    CorrectionInvalid,
    ReviewConflict,
    departments,
    queue,
    reprocess,
    review,
    waiting,
)
from tests.hostile.documents import odt_of_an_unheard_of_type
from tests.web.documents.town import COMPLAINT, PERMIT, Town

ENFORCEMENT, BUILDING = "Code Enforcement", "Building Department"


class Desk:
    """Somebody who decides on documents of a town."""

    def __init__(self, town: Town, rules: Rules, name: str = "ann") -> None:
        self.town, self.rules, self.name = town, rules, name

    def new_complaint(self, name: str, text: str = COMPLAINT) -> str:
        """A document that waits for review: a complaint without an address."""
        document_id = self.town.bring(name, text, "review")
        self.town.process()
        assert self.town.document(document_id).status == "needs_review"
        return document_id

    def approve(self, document_id: str, revision: int | None = None) -> dict[str, Any]:
        seen = self.town.revision(document_id) if revision is None else revision
        return review(self.town.database, self.rules, document_id, seen, self.name)

    def correct(self, document_id: str, revision: int | None = None, **changes: Any) -> dict[str, Any]:
        seen = self.town.revision(document_id) if revision is None else revision
        return review(self.town.database, self.rules, document_id, seen, self.name, Correction(**changes))


@pytest.fixture
def desk(town: Town, rules: Rules) -> Desk:
    return Desk(town, rules)


def test_an_approved_document_is_in_its_queue(desk: Desk) -> None:
    complaint = desk.new_complaint("approved.txt")
    assert complaint in [document["id"] for document in queue(desk.town.database, ENFORCEMENT, 100)]
    before = waiting(desk.town.database)[ENFORCEMENT]
    document = desk.approve(complaint)
    assert (document["status"], document["department"], document["review_reasons"]) == (
        "routed",
        ENFORCEMENT,
        [],
    )
    assert complaint not in [found["id"] for found in queue(desk.town.database, None, 100)]
    assert waiting(desk.town.database).get(ENFORCEMENT, 0) == before - 1
    event = desk.town.events(complaint)[-1]
    assert (event.event, event.actor, event.document_id) == ("approved", "ann", complaint)
    assert event.details["before"] == {"status": "needs_review"}
    assert event.details["after"] == {"status": "routed"}
    assert event.details["reasons"] == ["The address is missing."]


def test_a_correction_says_who_changed_what_from_what_to_what(desk: Desk) -> None:
    complaint = desk.new_complaint("corrected.txt")
    former = desk.town.document(complaint)
    received = former.source_modified_at.date()
    document = desk.correct(
        complaint, doc_type="building_permit", fields={"address": " 3 Oak Lane ", "applicant_name": ""}
    )
    assert (document["doc_type"], document["department"]) == ("building_permit", BUILDING)
    assert document["fields"]["address"] == "3 Oak Lane"
    assert "applicant_name" not in document["fields"]
    assert document["status"] == "routed"
    sla = desk.rules.document_types["building_permit"].sla_days
    assert document["due_date"] == (received + timedelta(sla)).isoformat()
    event = desk.town.events(complaint)[-1]
    assert (event.event, event.actor) == ("corrected", "ann")
    assert event.details["before"] == {
        "status": "needs_review",
        "doc_type": "complaint",
        "department": ENFORCEMENT,
        "due_date": former.due_date.isoformat(),
        "fields": former.fields,
    }
    assert event.details["after"]["fields"] == document["fields"]


def test_a_document_dated_past_all_days_can_be_corrected(desk: Desk) -> None:
    complaint = desk.new_complaint("far.txt")
    far = {"source_modified_at": datetime(9999, 12, 31, tzinfo=timezone.utc)}
    desk.town.change(complaint, far)
    document = desk.correct(complaint, doc_type="building_permit")
    sla = desk.rules.document_types["building_permit"].sla_days
    imported = desk.town.document(complaint).imported_at.date()
    assert document["due_date"] == (imported + timedelta(sla)).isoformat()


def test_a_document_that_cannot_be_routed_is_for_a_person_and_stops_no_other(desk: Desk) -> None:
    broken, permit = desk.new_complaint("broken.txt"), desk.town.bring("beside.txt", PERMIT, "review")
    desk.town.change(broken, {"stage": "classified", "fields": ["not", "fields"]})
    desk.town.process()
    document = desk.town.document(broken)
    assert (document.stage, document.status) == ("queued", "needs_review")
    assert document.review_reasons == ["The document could not be routed (AttributeError)."]
    assert desk.town.document(permit).status == "routed"


def test_a_document_of_an_unheard_of_type_stops_no_other(desk: Desk) -> None:
    odd = desk.town.bring("odd.odt", odt_of_an_unheard_of_type(), "review")
    permit = desk.town.bring("beside odd.txt", PERMIT, "review")
    desk.town.process()
    assert [desk.town.document(one).status for one in (odd, permit)] == ["needs_review", "routed"]


def test_a_department_may_be_chosen_apart_from_the_type(desk: Desk) -> None:
    complaint = desk.new_complaint("elsewhere.txt")
    document = desk.correct(complaint, department="Human Services")
    assert (document["doc_type"], document["department"]) == ("complaint", "Human Services")


def test_a_routed_document_can_be_corrected_but_not_approved(desk: Desk) -> None:
    permit = desk.town.bring("routed.txt", PERMIT, "review")
    desk.town.process()
    assert desk.town.document(permit).status == "routed"
    with pytest.raises(ReviewConflict, match="does not wait for review"):
        desk.approve(permit)
    assert desk.correct(permit, doc_type="complaint")["department"] == ENFORCEMENT


def test_whoever_comes_second_is_told_who_was_first(desk: Desk) -> None:
    complaint = desk.new_complaint("twice.txt")
    seen = desk.town.revision(complaint)
    desk.approve(complaint, seen)
    bob = Desk(desk.town, desk.rules, "bob")
    with pytest.raises(ReviewConflict, match=r"approved by ann on .* Look at it again"):
        bob.correct(complaint, seen, doc_type="foi_request")
    assert desk.town.document(complaint).doc_type == "complaint"


def test_of_many_at_once_one_decides(desk: Desk) -> None:
    complaint = desk.new_complaint("at-once.txt")
    seen = desk.town.revision(complaint)
    outcomes: list[str] = []
    ready = threading.Barrier(4)

    def decide(name: str) -> None:
        ready.wait()
        try:
            Desk(desk.town, desk.rules, name).correct(complaint, seen, fields={"address": name})
        except ReviewConflict:
            outcomes.append("conflict")
        else:
            outcomes.append(name)

    threads = [threading.Thread(target=decide, args=(f"clerk {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome != "conflict"]
    assert desk.town.document(complaint).fields["address"] == winner
    assert [event.event for event in desk.town.events(complaint)].count("corrected") == 1


def test_a_superseded_document_is_not_decided_on(desk: Desk) -> None:
    complaint = desk.new_complaint("versions.txt")
    later = desk.town.bring("versions.txt", COMPLAINT + "Later.", "review", day=11)
    assert later != complaint
    assert complaint not in [found["id"] for found in queue(desk.town.database, None, 100)]
    with pytest.raises(ReviewConflict, match="later version"):
        desk.approve(complaint)
    with pytest.raises(ReviewConflict, match="being processed"):
        desk.approve(later)
    desk.town.process()


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"doc_type": "poem"}, "doc_type", "no document type 'poem'"),
        ({"department": "Bakery"}, "department", "no department 'Bakery'"),
        (
            {"fields": {"shoe_size": "42"}},
            "fields.shoe_size",
            "no field 'shoe_size'; there are: applicant_name",
        ),
        ({"fields": {"address": "x" * (LONGEST_FIELD + 1)}}, "fields.address", "500 characters at most"),
        ({"fields": {"address": "a\nb"}}, "fields.address", "on one line"),
        ({"fields": {"address": "a\ud800"}}, "fields.address", "not text"),
        ({"fields": {"\ud800": "a"}}, r"fields.\ud800", "no field"),
    ],
)
def test_impossible_corrections_are_refused(
    town: Town, rules: Rules, changes: Any, field: str, said: str
) -> None:
    desk = Desk(town, rules)
    document_id = desk.town.bring("impossible.txt", COMPLAINT, "review")
    with pytest.raises(CorrectionInvalid, match=said) as refused:
        desk.correct(document_id, **changes)
    assert refused.value.field == field
    assert desk.town.events(document_id)[-1].event != "corrected"


def test_unknown_documents_are_told(desk: Desk) -> None:
    with pytest.raises(UnknownDocument):
        desk.approve("0" * 36, 1)
    with pytest.raises(UnknownDocument):
        reprocess(desk.town.database, "0" * 36, "ann")


def test_what_a_person_decided_outlasts_processing_again(desk: Desk) -> None:
    complaint = desk.new_complaint("lasting.txt")
    desk.correct(complaint, doc_type="foi_request", fields={"applicant_name": "", "email": "a@example.org"})
    before = desk.town.document(complaint)
    put_back = reprocess(desk.town.database, complaint, "bob")
    assert (put_back["stage"], put_back["status"]) == ("imported", "ingested")
    with pytest.raises(ReviewConflict, match="being processed already"):
        reprocess(desk.town.database, complaint, "bob")
    desk.town.process()
    after = desk.town.document(complaint)
    assert (after.status, after.doc_type, after.department) == ("routed", "foi_request", "City Clerk")
    assert after.fields == before.fields
    assert after.due_date == before.due_date
    events = [(event.event, event.actor) for event in desk.town.events(complaint)]
    assert events[-5:] == [
        ("corrected", "ann"),
        ("sent back to processing", "bob"),
        ("text extracted", "CitySort"),
        ("classified", "CitySort"),
        ("routed", "CitySort"),
    ]


def test_an_approval_outlasts_processing_again(desk: Desk) -> None:
    complaint = desk.new_complaint("approved-again.txt")
    desk.approve(complaint)
    reprocess(desk.town.database, complaint, "ann")
    desk.town.process()
    assert desk.town.document(complaint).status == "routed"


def test_a_document_nobody_decided_on_is_sorted_anew(desk: Desk) -> None:
    complaint = desk.new_complaint("undecided.txt")
    reprocess(desk.town.database, complaint, "ann", desk.town.revision(complaint))
    desk.town.process()
    document = desk.town.document(complaint)
    assert (document.status, document.review_reasons) == ("needs_review", ["The address is missing."])


def test_a_decision_can_be_forgotten(desk: Desk) -> None:
    complaint = desk.new_complaint("forgotten.txt")
    desk.correct(complaint, doc_type="foi_request")
    reprocess(desk.town.database, complaint, "ann", forget=True)
    assert desk.town.events(complaint)[-1].details["forgotten"]["doc_type"] == "foi_request"
    desk.town.process()
    document = desk.town.document(complaint)
    assert (document.status, document.doc_type, document.decision) == ("needs_review", "complaint", None)


def test_a_decision_on_what_nobody_can_read_holds_too(desk: Desk) -> None:
    scan = desk.town.bring("scan.bin", bytes(range(256)) * 4, "review")
    desk.town.process()
    assert desk.town.document(scan).status == "needs_review"
    decided = desk.correct(scan, doc_type="court_filing", fields={"case_number": "C-1"})
    reprocess(desk.town.database, scan, "ann")
    desk.town.process()
    document = desk.town.document(scan)
    assert (document.status, document.department) == ("routed", "Municipal Court")
    assert document.due_date.isoformat() == decided["due_date"]
    assert document.fields["case_number"] == "C-1"


def test_the_most_urgent_and_the_first_due_come_first(desk: Desk) -> None:
    for name, text in (
        ("calm.txt", COMPLAINT),
        ("pressing.txt", COMPLAINT + "\nUrgent: smell of gas, immediate danger."),
    ):
        desk.town.bring(name, text, "ordered")
    desk.town.process()
    found = queue(desk.town.database, ENFORCEMENT, 100)
    urgencies = [document["urgency"] for document in found]
    assert urgencies == sorted(urgencies, key=["urgent", "high", "normal", "low"].index)
    assert urgencies[0] == "urgent"
    due = [date.fromisoformat(document["due_date"]) for document in found if document["urgency"] == "normal"]
    assert due == sorted(due)
    assert len(queue(desk.town.database, ENFORCEMENT, 1)) == 1


def test_departments_are_those_of_the_rules(rules: Rules) -> None:
    found = departments(rules)
    assert {ENFORCEMENT, BUILDING, "General Intake"} <= set(found)
    assert list(found) == sorted(found)
