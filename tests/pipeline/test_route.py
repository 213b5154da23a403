"""Where documents go, until when, and why a person has to look."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from citysort_dagster.pipeline.classify import Classification, classify
from citysort_dagster.pipeline.route import Routing, route
from citysort_dagster.pipeline.rules import Rules

RECEIVED = datetime(2026, 2, 20, 12, tzinfo=timezone.utc)


def permit(confidence: float = 0.9, missing: tuple[str, ...] = ()) -> Classification:
    return Classification("building_permit", "Building Department", confidence, "normal", {}, missing)


def test_a_certain_and_complete_document_is_routed(rules: Rules) -> None:
    # 30 calendar days from the 20th of February
    expected = Routing("routed", "Building Department", date(2026, 3, 22), [])
    assert route(None, permit(), rules, RECEIVED) == expected


def test_the_threshold_itself_is_enough(rules: Rules) -> None:
    assert route(None, permit(0.82), rules, RECEIVED).status == "routed"


def test_below_the_threshold_a_person_decides(rules: Rules) -> None:
    found = route(None, permit(0.8199), rules, RECEIVED)
    assert (found.status, found.department) == ("needs_review", "Building Department")
    assert found.reasons == ["The type building_permit is not certain enough: 0.8199, and 0.82 is needed."]


def test_every_reason_is_told(rules: Rules) -> None:
    problem = "The attachment 'plan.pdf' needs a person: The file is password-protected."
    found = route(problem, permit(0.5, ("parcel_number", "address")), rules, RECEIVED)
    assert found.status == "needs_review"
    assert found.reasons[0] == problem
    assert found.reasons[2:] == ["The parcel number is missing.", "The address is missing."]


def test_what_nobody_could_read_goes_to_general_intake(rules: Rules) -> None:
    found = route("The file is empty.", None, rules, RECEIVED)
    assert found == Routing("needs_review", "General Intake", date(2026, 3, 22), ["The file is empty."])
    assert route(None, None, rules, RECEIVED).reasons == ["The document has not been classified."]


def test_what_nothing_is_known_about_goes_to_general_intake(rules: Rules) -> None:
    found = route(None, classify("Bread, milk, eggs.", "note.txt", rules), rules, RECEIVED)
    assert (found.status, found.department) == ("needs_review", "General Intake")


def test_days_are_counted_in_utc(rules: Rules) -> None:
    late = datetime(2026, 2, 19, 22, tzinfo=timezone(timedelta(hours=-6)))
    assert route(None, permit(), rules, late).due_date == date(2026, 3, 22)
    with pytest.raises(ValueError, match="time zone"):
        route(None, permit(), rules, datetime(2026, 2, 20))  # noqa: DTZ001 - that is what is refused


def test_a_document_dated_past_all_days_is_due_from_its_import(rules: Rules) -> None:
    for far in (datetime.max.replace(tzinfo=timezone.utc), datetime(3000, 1, 1, tzinfo=timezone.utc)):
        assert route(None, permit(), rules, RECEIVED, far).due_date == date(2026, 3, 22)
    dated = datetime(2999, 12, 31, tzinfo=timezone.utc)
    assert route(None, permit(), rules, RECEIVED, dated).due_date == date(3000, 1, 30)
    assert route(None, permit(), rules, dated, RECEIVED).due_date == date(2026, 3, 22)
