"""The ServiceNow connector against a simulated instance over real connections."""

from __future__ import annotations

import base64
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
import requests

from connectors import get_connector, http, servicenow
from connectors.base import (
    ConfigurationError,
    ConnectorError,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
)
from connectors.servicenow import ServiceNow
from sandbox.servicenow import SimulatedServiceNow
from sandbox.simulated import Answer, Document, Request, route

NOON = datetime(2026, 11, 1, 12, 0, 0, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
AUTHS = ["basic", "oauth_password", "client_credentials", "api_key"]


@pytest.fixture
def instance() -> Iterator[SimulatedServiceNow]:
    with SimulatedServiceNow() as system:
        system.grants.add("client_credentials")
        yield system


@pytest.fixture(autouse=True)
def short_pauses_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(servicenow, "ATTACHMENTS_PER_PAGE", 5)
    monkeypatch.setattr(servicenow, "RECORDS_PER_PAGE", 7)
    monkeypatch.setattr(servicenow, "RECORDS_PER_LOOKUP", 3)


def connect(instance: SimulatedServiceNow, **settings: Any) -> ServiceNow:
    given = {
        "instance_url": instance.url(),
        "table_name": "incident",
        "username": instance.username,
        "password": instance.password,
        "client_id": instance.client_id,
        "client_secret": instance.client_secret,
        "api_key": instance.api_key,
    } | settings
    connector = get_connector(
        "servicenow", {name: value for name, value in given.items() if value is not None}
    )
    assert isinstance(connector, ServiceNow)
    return connector


def fill(instance: SimulatedServiceNow, count: int, **fields: Any) -> list[Document]:
    """Documents a second apart, the first one the oldest."""
    return [
        instance.add(
            f"{number}.txt", f"content {number}".encode(), modified_at=NOON + number * SECOND, **fields
        )
        for number in range(count)
    ]


def names(connector: ServiceNow, window: Window | None = None) -> list[str]:
    return [document.filename for document in connector.list_documents(window)]


def ids(connector: ServiceNow, window: Window | None = None) -> list[str]:
    return [document.external_id for document in connector.list_documents(window)]


def content(connector: ServiceNow, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def secrets_of(instance: SimulatedServiceNow) -> list[str]:
    return [instance.password, instance.client_secret, instance.api_key]


# Settings.


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"instance_url": "http://city.service-now.com"}, "https://"),
        ({"instance_url": "https://user:password@city.service-now.com"}, "instance_url"),
        ({"table_name": "incident^ORtable_name=sys_user"}, "name of a table"),
        ({"table_name": "incident/../sys_user"}, "name of a table"),
        ({"table_name": "Incident"}, "name of a table"),
        ({"query": "active=true^sys_created_on>javascript:gs.daysAgo(1)"}, "javascript:"),
        ({"query": "nameLIKEJAVASCRIPT :x"}, "javascript:"),
        ({"query": "^ORactive=true"}, "begin with a condition"),
        ({"query": "active=true^ORDERBYnumber"}, "begin with a condition"),
        ({"password": None}, "auth basic needs password"),
        ({"auth": "oauth_password", "client_secret": None}, "auth oauth_password needs client_secret"),
        ({"auth": "client_credentials", "client_id": None}, "needs client_id"),
        ({"auth": "api_key", "api_key": None}, "needs api_key"),
        ({"auth": "saml"}, "auth"),
        ({"concurrency": 0}, "concurrency"),
        ({"password": "caf\udce9"}, "password holds characters that are not text in UTF-8"),
        ({"auth": "api_key", "api_key": "caf\ud800"}, "api_key holds characters"),
    ],
)
def test_settings_that_cannot_work(
    instance: SimulatedServiceNow, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        connect(instance, **settings)
    assert not any(secret in str(caught.value) for secret in secrets_of(instance))


def test_secrets_are_not_shown(instance: SimulatedServiceNow) -> None:
    connector = connect(instance)
    assert not any(secret in repr(connector) + str(connector) for secret in secrets_of(instance))
    schema = ServiceNow.model_json_schema()["properties"]
    hidden = {name for name, field in schema.items() if field.get("writeOnly")}
    assert hidden == {"password", "client_secret", "api_key"}


# The connection.


@pytest.mark.parametrize("auth", AUTHS)
def test_all_ways_to_sign_in(instance: SimulatedServiceNow, auth: str) -> None:
    (document,) = fill(instance, 1)
    connector = connect(instance, auth=auth)
    ok, message = connector.test_connection()
    assert (ok, "1 records of incident" in message) == (True, True)
    (listed,) = connector.list_documents()
    assert (content(connector, listed), listed.external_id) == (b"content 0", document.id)
    connector.close()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"password": "wrong"}, "check username and password"),
        ({"auth": "api_key", "api_key": "wrong"}, "check api_key"),
        ({"auth": "oauth_password", "password": "wrong"}, "refuses a token: check client_id"),
        ({"auth": "oauth_password", "client_secret": "wrong"}, "does not know this client"),
        ({"auth": "client_credentials", "client_id": "wrong"}, "does not know this client"),
        ({"table_name": "incidents"}, "has no table incidents"),
        ({"instance_url": "http://127.0.0.1:1"}, "cannot be reached: check instance_url"),
        ({"query": "actve=true^priority=1"}, "no field actve, priority"),
    ],
)
def test_connections_that_do_not_work(
    instance: SimulatedServiceNow, settings: dict[str, Any], what: str
) -> None:
    fill(instance, 1)
    connector = connect(instance, **settings)
    ok, message = connector.test_connection()
    assert not ok
    assert what in message
    assert not any(secret in message for secret in [*secrets_of(instance), "wrong"])
    with pytest.raises((ConfigurationError, ListingIncomplete), match=r"ServiceNow \(127.0.0.1\)"):
        list(connector.list_documents())


def test_accounts_that_are_stopped(instance: SimulatedServiceNow) -> None:
    fill(instance, 1)
    instance.grants.discard("client_credentials")
    assert (
        "does not allow the grant" in connect(instance, auth="client_credentials").test_connection().message
    )
    instance.basic_allowed = False
    assert "no API access policy" in connect(instance).test_connection().message
    assert connect(instance, auth="api_key").test_connection().ok
    instance.locked_out = True
    for auth in AUTHS[1:]:
        assert not connect(instance, auth=auth).test_connection().ok


def test_wrong_credentials_are_tried_once(instance: SimulatedServiceNow) -> None:
    """More would lock the account out."""
    connect(instance, password="wrong").test_connection()
    connect(instance, auth="oauth_password", password="wrong").test_connection()
    assert instance.requests == {"table": 1, "token": 1}


def test_missing_rights_look_like_an_empty_list(instance: SimulatedServiceNow) -> None:
    assert "there are no attachments" in connect(instance).test_connection().message
    (document,) = fill(instance, 1)
    instance.hidden = {document.id}
    ok, message = connect(instance).test_connection()
    assert (ok, "ACLs of sys_attachment" in message) == (False, True)
    instance.hidden = {document.fields["record"]}
    ok, message = connect(instance).test_connection()
    assert (ok, "ACLs of incident" in message) == (False, True)
    fill(instance, 3)
    assert connect(instance).test_connection().ok


@pytest.mark.parametrize(
    ("kind", "what"),
    [("login_page", "login page"), ("fail", "out of order"), ("throttle", "no more requests")],
)
def test_an_instance_in_trouble(instance: SimulatedServiceNow, kind: Any, what: str) -> None:
    instance.misbehave(kind, times=9, seconds=1000)
    assert what in connect(instance).test_connection().message


def test_an_account_without_access_to_the_api(instance: SimulatedServiceNow) -> None:
    instance.misbehave("fail", status=403)
    assert "allow this account the REST APIs" in connect(instance).test_connection().message


# The listing.


def test_everything_is_listed_newest_first(instance: SimulatedServiceNow) -> None:
    documents = fill(instance, 23)
    listed = list(connect(instance).list_documents())
    assert [document.external_id for document in listed] == [document.id for document in reversed(documents)]
    newest = documents[-1]
    record = instance.tables["incident"][newest.fields["record"]]
    row = instance.attachment(newest)
    assert listed[0] == ExternalDocument(
        external_id=newest.id,
        version=row["hash"],
        filename="22.txt",
        modified_at=NOON + 22 * SECOND,
        size=len(newest.content),
        content_type="text/plain",
        source_url=f"{instance.url()}/sys_attachment.do?sys_id={newest.id}",
        checksums={"sha256": row["hash"]},
        metadata={
            "table": "incident",
            "record_id": record["sys_id"],
            "record": record["number"],
            "short_description": record["short_description"],
            "created_at": "2026-11-01 12:00:22",
        },
    )


def test_a_second_listing_is_the_same(instance: SimulatedServiceNow) -> None:
    fill(instance, 12)
    connector = connect(instance)
    assert list(connector.list_documents()) == list(connector.list_documents())


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, range(10)),
        (0, 10, range(10)),
        (3, 7, range(3, 7)),
        (3, 3, range(0)),
        (3, 4, range(3, 4)),
        (9, None, range(9, 10)),
        (10, None, range(0)),
        (None, 0, range(0)),
        (None, 1, range(1)),
        (2.5, 6.5, range(3, 7)),
        (2.000001, 6.000001, range(3, 7)),
    ],
)
def test_windows(
    instance: SimulatedServiceNow, start: float | None, end: float | None, expected: range
) -> None:
    fill(instance, 10)
    window = Window(
        None if start is None else NOON + start * SECOND, None if end is None else NOON + end * SECOND
    )
    assert names(connect(instance), window) == [f"{number}.txt" for number in reversed(expected)]


def test_windows_in_another_zone_mean_the_same(instance: SimulatedServiceNow) -> None:
    fill(instance, 10)
    zone = timezone(timedelta(hours=-7))
    window = Window((NOON + 3 * SECOND).astimezone(zone), (NOON + 5 * SECOND).astimezone(zone))
    assert names(connect(instance), window) == ["4.txt", "3.txt"]


@pytest.mark.parametrize("day", [datetime(2026, 3, 8), datetime(2026, 11, 1)])  # noqa: DTZ001 - a date
def test_days_on_which_clocks_change(instance: SimulatedServiceNow, day: datetime) -> None:
    zone = ZoneInfo("America/Chicago")
    start = day.replace(tzinfo=zone).astimezone(timezone.utc)
    end = (day + timedelta(days=1)).replace(tzinfo=zone).astimezone(timezone.utc)
    hours = int((end - start).total_seconds() // 3600)
    assert hours in (23, 25)
    for hour in range(-2, 28):
        instance.add(f"{hour}", b"x", modified_at=start + timedelta(hours=hour))
    assert names(connect(instance), Window(start, end)) == [f"{hour}" for hour in reversed(range(hours))]


def test_an_empty_day(instance: SimulatedServiceNow) -> None:
    fill(instance, 8)
    day = Window(NOON + timedelta(days=5), NOON + timedelta(days=6))
    assert names(connect(instance), day) == []
    assert instance.requests == {"attachments": 1}


@pytest.mark.parametrize("before", range(6))
def test_many_documents_of_one_second(instance: SimulatedServiceNow, before: int) -> None:
    """More than a page of them, and the page ends anywhere among them."""
    fill(instance, before)
    for number in range(17):
        instance.add(f"same {number}", b"x", modified_at=NOON + 100 * SECOND)
    fill(instance, 2)
    expected = Counter(document.id for document in instance.documents.values())
    assert Counter(ids(connect(instance))) == expected


@pytest.mark.parametrize("seed", range(8))
def test_any_distribution_over_pages(instance: SimulatedServiceNow, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    for number in range(60):
        instance.add(f"{number}", b"", modified_at=NOON + chance.randrange(12) * SECOND)
    instance.hidden = {id for id in instance.documents if chance.random() < 0.4}
    start, end = sorted(chance.sample(range(13), 2))
    window = Window(NOON + start * SECOND, NOON + end * SECOND)
    expected = {
        id
        for id, document in instance.documents.items()
        if id not in instance.hidden and window.includes(document.modified_at)
    }
    listed = ids(connect(instance), window)
    assert (len(listed), set(listed)) == (len(expected), expected)


def test_pages_that_access_rules_have_emptied(instance: SimulatedServiceNow) -> None:
    """The newest eleven are not for us: two pages come back without a row, the third with four."""
    documents = fill(instance, 20)
    instance.hidden = {document.id for document in documents[9:]}
    assert names(connect(instance)) == [f"{number}.txt" for number in reversed(range(9))]


def test_what_access_rules_hide_is_told(instance: SimulatedServiceNow) -> None:
    documents = fill(instance, 30)
    instance.add_record("task", "TASK1", "Its incidents hold the attachments")
    instance.hidden = {document.id for document in documents[::4]}
    connector = connect(instance)
    assert len(names(connector)) == 22
    (warning,) = connector.warnings
    assert "holds 8 attachments of incident that this account may not read" in warning
    refreshed = connect(instance)
    assert len(names(refreshed, Window(NOON))) == 22
    assert refreshed.warnings == ()  # once is enough
    of_parent = connect(instance, table_name="task")
    assert names(of_parent) == []
    (warning,) = of_parent.warnings
    assert "has 1 records of task; there are no attachments on them" in warning


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("hidden", [0, 3, 11, 19])
def test_an_instance_that_sends_less_than_it_is_asked_for(
    instance: SimulatedServiceNow, hidden: int, most: int
) -> None:
    documents = fill(instance, 20)
    instance.most_rows = most
    instance.hidden = {document.id for document in documents[20 - hidden :]}
    listed = list(connect(instance).list_documents())
    assert [one.filename for one in listed] == [f"{number}.txt" for number in reversed(range(20 - hidden))]
    assert all(one.metadata["record"] for one in listed)


def test_rows_one_may_not_see_that_go_meanwhile(instance: SimulatedServiceNow) -> None:
    """Those behind them move up, past where the next page begins."""
    documents = fill(instance, 20)
    instance.hidden = {document.id for document in documents[8:]}

    def remove() -> None:
        for document in documents[16:]:
            instance.remove(document.id)

    instance.misbehave("change", route="attachments", spare=2, then=remove)
    assert names(connect(instance)) == [f"{number}.txt" for number in reversed(range(8))]


def test_an_instance_that_removes_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Draining(SimulatedServiceNow):
        @route("GET", "/api/now/attachment")
        def attachments(self, request: Request) -> Answer:
            self.remove(next(iter(self.documents)))
            return super().attachments(request)

    monkeypatch.setattr(servicenow, "MOST_STEPS_BACK", 3)
    with Draining() as draining:
        draining.hidden = {document.id for document in fill(draining, 20)}
        with pytest.raises(ListingIncomplete, match="too much is removed"):
            names(connect(draining), Window(NOON))


@pytest.mark.parametrize("hidden", [0, 11, 19])
def test_the_first_version_of_the_api_says_404_for_no_rows(
    instance: SimulatedServiceNow, hidden: int
) -> None:
    instance.no_rows_is_404 = True
    assert names(connect(instance)) == []
    documents = fill(instance, 20)
    instance.hidden = {document.id for document in documents[20 - hidden :]}
    assert names(connect(instance)) == [f"{number}.txt" for number in reversed(range(20 - hidden))]


def test_without_a_count_the_end_is_not_known(instance: SimulatedServiceNow) -> None:
    fill(instance, 3)

    class Mute(SimulatedServiceNow):
        def handle(self, request: Request) -> Any:
            logged, answer, due = super().handle(request)
            answer.headers.pop("X-Total-Count", None)
            return logged, answer, due

    with Mute() as mute, pytest.raises(ConfigurationError, match="X-Total-Count"):
        names(connect(mute))


def test_conditions_that_the_instance_leaves_out_are_looked_at_again(instance: SimulatedServiceNow) -> None:
    class Careless(SimulatedServiceNow):
        @route("GET", "/api/now/attachment")
        def attachments(self, request: Request) -> Answer:
            conditions = request.query["sysparm_query"].split("^")
            kept = [one for one in conditions if not one.startswith("table_name") and "12:00:0" not in one]
            request.query["sysparm_query"] = "^".join(kept)
            return super().attachments(request)

    with Careless() as careless:
        fill(careless, 4)
        careless.add("other.txt", b"", modified_at=NOON + SECOND, table="problem")
        window = Window(NOON + SECOND, NOON + 3 * SECOND)
        assert names(connect(careless), window) == ["2.txt", "1.txt"]


def test_an_instance_that_does_not_sort(instance: SimulatedServiceNow) -> None:
    class Unsorted(SimulatedServiceNow):
        @route("GET", "/api/now/attachment")
        def attachments(self, request: Request) -> Answer:
            request.query["sysparm_query"] = request.query["sysparm_query"].partition("^ORDERBY")[0]
            return super().attachments(request)

    with Unsorted() as unsorted:
        fill(unsorted, 12)
        with pytest.raises(ListingIncomplete, match="order"):
            names(connect(unsorted))


def test_other_tables_are_not_listed(instance: SimulatedServiceNow) -> None:
    fill(instance, 2)
    record = next(iter(instance.tables["incident"]))
    instance.add("variable.pdf", b"x", table="ZZ_YYproblem", record=record)
    instance.add("problem.txt", b"x", table="problem")
    assert names(connect(instance)) == ["1.txt", "0.txt"]
    assert names(connect(instance, table_name="problem", include_hidden=False)) == ["problem.txt"]


def test_what_is_given_in_a_variable_of_the_catalog_is_a_document(instance: SimulatedServiceNow) -> None:
    """The list of its record hides it."""
    fill(instance, 2)
    record = instance.add_record("incident", "INC7", "A permit")
    instance.add("plan.pdf", b"x", table="ZZ_YYincident", record=record)
    documents = {document.filename: document for document in connect(instance).list_documents()}
    assert documents.keys() == {"0.txt", "1.txt", "plan.pdf"}
    assert documents["plan.pdf"].metadata["record"] == "INC7"
    assert names(connect(instance, query="number=INC7")) == ["plan.pdf"]
    assert names(connect(instance, include_hidden=False)) == ["1.txt", "0.txt"]
    assert "3 attachments" in connect(instance).test_connection().message


def test_what_changes_between_two_pages(instance: SimulatedServiceNow) -> None:
    """A new document, a changed one and a removed one shift nothing of the rest."""
    documents = fill(instance, 20)

    def change() -> None:
        instance.add("new.txt", b"new")
        instance.replace(documents[3].id, b"changed")
        instance.remove(documents[18].id)

    instance.misbehave("change", route="attachments", spare=1, then=change)
    connector = connect(instance)
    assert names(connector) == [f"{number}.txt" for number in reversed(range(20)) if number != 3]
    assert names(connector)[:1] + sorted(names(connector)[1:2]) in (
        ["new.txt", "3.txt"],
        ["3.txt", "new.txt"],
    )


def test_a_replaced_document_has_a_new_version(instance: SimulatedServiceNow) -> None:
    (document,) = fill(instance, 1)
    connector = connect(instance)
    (before,) = connector.list_documents()
    instance.replace(document.id, b"replaced")
    (after,) = connector.list_documents()
    assert (before.external_id, before.version) == (after.external_id, before.version)
    assert before.version != after.version
    assert content(connector, after) == b"replaced"
    with pytest.raises(DownloadFailed, match=r"bytes arrived|checksum"):
        content(connector, before)


@pytest.mark.parametrize(("kind", "algorithms"), [("sha256", ["sha256"]), ("md5", ["md5"]), ("none", [])])
def test_hashes(instance: SimulatedServiceNow, kind: str, algorithms: list[str]) -> None:
    fill(instance, 1, hash=kind)
    connector = connect(instance)
    (listed,) = connector.list_documents()
    assert list(listed.checksums) == algorithms
    if kind == "none":
        assert listed.version == "2026-11-01 12:00:00 9"
    assert content(connector, listed) == b"content 0"
    instance.misbehave("corrupt", route="attachment_file")
    if algorithms:
        with pytest.raises(DownloadFailed, match="checksum"):
            content(connector, listed)


# The records.


@pytest.mark.parametrize("lookup", [3, 150], ids=["by table", "by ids"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("active=true", {0, 2, 4, 6, 8}),
        ("active=true^priority=1", {0, 6}),
        ("priority=1^ORpriority=2", {0, 1, 3, 4, 6, 7, 9}),
        ("active=false^priority=1^NQactive=true^priority=2^EQ", {3, 4, 9}),
        ("numberISNOTEMPTY^short_descriptionLIKEno such thing", set()),
        ("active=true^RLQUERYtask_sla.task,>=1^has_breached=true^ENDRLQUERY", {0, 2, 4, 6, 8}),
    ],
)
def test_only_attachments_of_records_that_match(
    instance: SimulatedServiceNow,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    expected: set[int],
    lookup: int,
) -> None:
    monkeypatch.setattr(servicenow, "RECORDS_PER_LOOKUP", lookup)
    for number in range(10):
        flags = {"active": "false" if number % 2 else "true", "priority": str(number % 3 + 1)}
        record = instance.add_record("incident", f"INC{number}", "text", **flags)
        for copy in "ab":
            instance.add(f"{number}{copy}", b"", modified_at=NOON + number * SECOND, record=record)
    listed = names(connect(instance, query=query))
    assert sorted(listed) == sorted(f"{number}{copy}" for number in expected for copy in "ab")


@pytest.mark.parametrize("query", ["active=true^ORactive=false", "active=true^NQactive=false^EQ"])
def test_a_query_of_several_over_more_than_a_page_of_records(
    instance: SimulatedServiceNow, query: str
) -> None:
    for number in range(20):
        active = "false" if number % 2 else "true"
        record = instance.add_record("incident", f"INC{number}", "text", active=active)
        instance.add(f"{number}", b"", modified_at=NOON + number * SECOND, record=record)
    assert names(connect(instance, query=query)) == [f"{number}" for number in reversed(range(20))]


def test_a_misspelt_field_of_the_query_imports_nothing(instance: SimulatedServiceNow) -> None:
    fill(instance, 3)
    with pytest.raises(ConfigurationError, match="no field activ "):
        names(connect(instance, query="activ=true"))


@pytest.mark.parametrize("readable", [1, 3])
def test_a_misspelt_field_is_found_though_the_first_records_are_not_readable(
    instance: SimulatedServiceNow, readable: int
) -> None:
    documents = fill(instance, 205 if readable == 1 else 4)
    instance.hidden = {document.fields["record"] for document in documents[:-readable]}
    for query in ("publik=true", "numberISNOTEMPTY^publik=true"):
        connector = connect(instance, query=query)
        assert not connector.test_connection().ok
        with pytest.raises(ConfigurationError, match="no field publik "):
            names(connector)
    connector = connect(instance, query="numberISNOTEMPTY")
    assert len(names(connector)) == readable
    assert connector.warnings == ()


def test_fields_of_a_query_that_cannot_be_looked_up_are_told(instance: SimulatedServiceNow) -> None:
    instance.hidden = {document.fields["record"] for document in fill(instance, 3)}
    connector = connect(instance, query="publik=true")
    assert names(connector) == []
    (warning,) = connector.warnings
    assert "were one misspelt" in warning


def test_rights_that_are_missing_altogether_are_no_empty_source(instance: SimulatedServiceNow) -> None:
    instance.hidden = {document.id for document in fill(instance, 9)}
    with pytest.raises(ConfigurationError, match="ACLs of sys_attachment"):
        names(connect(instance))
    assert names(connect(instance), Window(NOON)) == []


def test_records_one_may_not_read(instance: SimulatedServiceNow) -> None:
    documents = fill(instance, 2)
    instance.hidden = {documents[0].fields["record"]}
    listed = list(connect(instance).list_documents())
    assert [document.metadata["record"] for document in listed] == ["INC0000002", None]
    assert names(connect(instance, query="numberISNOTEMPTY")) == ["1.txt"]


@pytest.mark.parametrize("records", [1, 4, 60])
def test_records_are_found_either_way(instance: SimulatedServiceNow, records: int) -> None:
    """By their ids where the table is long, from the whole table where it is short."""
    made = [instance.add_record("incident", f"INC{number}", "text") for number in range(records)]
    for number in range(12):
        instance.add(f"{number}", b"", modified_at=NOON + number * SECOND, record=made[number % records])
    listed = connect(instance).list_documents()
    found = {document.filename: document.metadata["record"] for document in listed}
    assert found == {f"{number}": f"INC{number % records}" for number in range(12)}


# The documents.

HELL = [
    "../../etc/passwd",
    "..",
    "a/b\\c.pdf",
    "con.txt",
    " leading and trailing ",
    "tab\tnewline\nbell\a.txt",
    "nul\0.txt",
    "e\u0301.txt",
    "\u00e9.txt",
    "\U0001f4c4\u202etxt.exe",
    "x" * 300 + ".pdf",
    "100%25 ^ & = ? #.txt",
    "<script>.html",
    "'; DROP TABLE documents; --",
    "",
]


def test_names_from_hell(instance: SimulatedServiceNow) -> None:
    for number, name in enumerate(HELL):
        instance.add(name, name.encode(), modified_at=NOON + number * SECOND)
    connector = connect(instance)
    listed = list(connector.list_documents())
    assert [document.filename for document in listed[1:]] == HELL[-2::-1]
    assert listed[0].filename == listed[0].external_id  # it has no name of its own
    assert [content(connector, document).decode() for document in reversed(listed)] == HELL


@pytest.mark.parametrize("size", [0, 1, 30_000_000])
def test_sizes(instance: SimulatedServiceNow, size: int) -> None:
    instance.add("plan.bin", bytes(size))
    connector = connect(instance)
    (listed,) = connector.list_documents()
    written: list[int] = []

    class Counting(io.BytesIO):
        def write(self, data: Any) -> int:
            written.append(len(data))
            return len(data)

    assert download_verified(connector, listed, Counting()).size == size == sum(written)
    assert max(written, default=0) <= http.PIECE_BYTES


def test_html_documents_are_no_login_pages(instance: SimulatedServiceNow) -> None:
    instance.add("form.html", b"<!doctype html>", content_type="text/html")
    connector = connect(instance)
    (listed,) = connector.list_documents()
    assert content(connector, listed) == b"<!doctype html>"


def test_a_document_that_is_gone_fails_alone(instance: SimulatedServiceNow) -> None:
    documents = fill(instance, 2)
    connector = connect(instance)
    second, first = connector.list_documents()
    instance.remove(documents[0].id)
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        content(connector, first)
    assert content(connector, second) == b"content 1"


# Misbehaviour.

RECOVERABLE: list[tuple[str, dict[str, Any]]] = [
    ("throttle", {"retry_after": "seconds", "seconds": 0.2}),
    ("throttle", {"retry_after": "date", "seconds": 0.1}),
    ("throttle", {"retry_after": "reset_epoch", "seconds": 0.1}),
    ("throttle", {"retry_after": "none", "times": 3}),
    ("throttle", {"retry_after": "none", "times": 3, "status": 503}),
    ("fail", {"times": 2}),
    ("fail", {"status": 502}),
    ("reset", {}),
    ("reset", {"at_byte": 3}),
    ("truncate", {"times": 2}),
    ("expire_tokens", {}),
    ("cut_short", {"times": 2}),
]


@pytest.mark.parametrize("auth", ["basic", "oauth_password"])
@pytest.mark.parametrize(("kind", "how"), RECOVERABLE)
def test_trouble_that_passes_is_not_noticed(
    instance: SimulatedServiceNow, kind: Any, how: dict[str, Any], auth: str
) -> None:
    documents = fill(instance, 12)
    connector = connect(instance, auth=auth)
    instance.misbehave(kind, route="attachments", spare=1, **how)
    listed = list(connector.list_documents())
    assert [document.external_id for document in listed] == [document.id for document in reversed(documents)]
    instance.misbehave(kind, route="attachment_file", spare=5, **how)
    with ThreadPoolExecutor(connector.concurrency) as pool:
        found = list(pool.map(lambda document: content(connector, document), listed))
    assert found == [document.content for document in reversed(documents)]
    assert instance.most_in_flight <= connector.concurrency


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("fail", {"times": 99, "status": 503}),
        ("fail", {"status": 403}),
        ("fail", {"status": 401}),
        ("login_page", {}),
        ("corrupt", {"times": 99}),
        ("reset", {"times": 99}),
        ("repeat_token", {}),
        ("throttle", {"seconds": 100_000}),
        ("cut_short", {"times": 99}),
    ],
)
def test_a_listing_that_breaks_off_says_so(
    instance: SimulatedServiceNow, kind: Any, how: dict[str, Any]
) -> None:
    fill(instance, 20)
    connector = connect(instance)
    instance.misbehave(kind, route="attachments", spare=2, **how)
    listed = []
    with pytest.raises(ListingIncomplete, match="broke off") as caught:
        for document in connector.list_documents():
            listed.append(document.filename)
    assert listed == [f"{number}.txt" for number in reversed(range(10, 20))]
    assert not any(secret in str(caught.value) for secret in secrets_of(instance))
    instance.behave()
    assert len(names(connect(instance))) == 20


def test_a_page_without_rows_is_gone_past(instance: SimulatedServiceNow) -> None:
    fill(instance, 20)
    instance.misbehave("thin_page", route="attachments", spare=1)
    assert names(connect(instance)) == [f"{n}.txt" for n in reversed(range(20)) if n not in range(10, 15)]


@pytest.mark.parametrize("how", [{"kind": "fail", "status": 502}, {"kind": "cut_short"}])
@pytest.mark.parametrize("route_name", ["attachments", "table"])
def test_records_that_cannot_be_looked_up(
    instance: SimulatedServiceNow, route_name: str, how: dict[str, Any]
) -> None:
    fill(instance, 12)
    instance.misbehave(route=route_name, times=99, **how)
    with pytest.raises(ListingIncomplete):
        names(connect(instance, query="numberISNOTEMPTY"))


@pytest.mark.parametrize(
    ("kind", "how", "what"),
    [
        ("fail", {"times": http.ATTEMPTS, "status": 503}, "try again later"),
        ("fail", {"status": 403}, "refuses access"),
        ("truncate", {"times": http.ATTEMPTS}, "broke off"),
        ("reset", {"times": http.ATTEMPTS}, "cannot be reached"),
        ("corrupt", {}, "checksum"),
        ("login_page", {}, "login page"),
    ],
)
def test_exactly_the_affected_document_fails(
    instance: SimulatedServiceNow, kind: Any, how: dict[str, Any], what: str
) -> None:
    fill(instance, 6)
    connector = connect(instance)
    listed = list(connector.list_documents())
    instance.misbehave(kind, route="attachment_file", spare=2, **how)
    outcomes: list[bytes | ConnectorError] = []
    for document in listed:
        try:
            outcomes.append(content(connector, document))
        except ConnectorError as error:
            outcomes.append(error)
    assert [number for number, one in enumerate(outcomes) if isinstance(one, ConnectorError)] == [2]
    assert isinstance(outcomes[2], DownloadFailed)
    assert what in str(outcomes[2])
    assert not any(secret in str(outcomes[2]) for secret in secrets_of(instance))
    assert content(connector, listed[2]) == b"content 3"


@pytest.mark.parametrize("auth", AUTHS)
def test_credentials_stay_at_the_configured_origin(instance: SimulatedServiceNow, auth: str) -> None:
    """An instance whose files lie with somebody else, who must not see who asks."""

    class Elsewhere(SimulatedServiceNow):
        hosts: ClassVar[tuple[str, ...]] = ("api", "storage")
        bare_hosts: ClassVar[frozenset[str]] = frozenset({"storage"})

        @route("GET", "/api/now/attachment/{sys_id}/file")
        def attachment_file(self, request: Request, sys_id: str) -> Answer:
            return Answer(302, headers={"Location": f"{self.url('storage')}/{sys_id}?signature=secret"})

        @route("GET", "/{sys_id}", host="storage")
        def stored(self, request: Request, sys_id: str) -> Answer:
            return Answer(200, self.documents[sys_id].content)

    with Elsewhere() as elsewhere:
        elsewhere.grants.add("client_credentials")
        elsewhere.add("a.txt", b"text")
        connector = connect(elsewhere, auth=auth)
        (listed,) = connector.list_documents()
        assert content(connector, listed) == b"text"
        assert (elsewhere.requests["stored"], elsewhere.leaks) == (1, [])


# How many requests it takes.


@pytest.fixture(scope="module")
def crowded() -> Iterator[SimulatedServiceNow]:
    """10,000 attachments of 4,000 records."""
    with SimulatedServiceNow() as system:
        records = [system.add_record("incident", f"INC{number:07}", "text") for number in range(4_000)]
        for number in range(10_000):
            moment = NOON + number // 4 * SECOND
            system.add(f"{number}", b"%d" % number, modified_at=moment, record=records[number % 4_000])
        yield system


@pytest.mark.parametrize(
    ("window", "count", "answers"),
    [
        (Window(NOON + timedelta(days=1)), 0, {"attachments": 1}),
        (Window(NOON + 2_480 * SECOND), 80, {"attachments": 1, "table": 1}),
        (Window(), 10_000, {"attachments": 10, "table": 1}),
    ],
    ids=["nothing new", "little new", "everything"],
)
def test_requests_for_10_000_documents(
    crowded: SimulatedServiceNow,
    monkeypatch: pytest.MonkeyPatch,
    window: Window,
    count: int,
    answers: dict[str, int],
) -> None:
    monkeypatch.undo()  # pages as they are
    crowded.forget_requests()
    connector = connect(crowded)
    assert len({document.external_id for document in connector.list_documents(window)}) == count
    assert crowded.requests == answers
    assert connector.session().requests_sent == sum(answers.values())


# The simulated instance itself.


@pytest.fixture
def asked(instance: SimulatedServiceNow) -> Callable[..., requests.Response]:
    def ask(path: str, **how: Any) -> requests.Response:
        how.setdefault("auth", (instance.username, instance.password))
        return requests.get(instance.url() + path, timeout=10, **how)

    return ask


def test_the_simulated_instance_is_strict(
    instance: SimulatedServiceNow, asked: Callable[..., requests.Response]
) -> None:
    fill(instance, 3)
    path = "/api/now/attachment"
    assert asked(path, auth=None).status_code == 401
    assert asked(path, auth=None).json()["status"] == "failure"
    assert asked(path, headers={"Accept": None}).status_code == 400
    assert asked(path + "?sysparm_limits=1").status_code == 400
    assert asked("/api/now/attachments").status_code == 404
    assert asked("/api/now/table/nothing").json()["error"]["message"] == "Invalid table nothing"
    answer = asked(path + "?sysparm_query=ORDERBYDESCfile_name&sysparm_limit=2&sysparm_offset=1")
    assert [row["file_name"] for row in answer.json()["result"]] == ["1.txt", "0.txt"]
    assert all(isinstance(value, str) for row in answer.json()["result"] for value in row.values())
    assert answer.headers["X-Total-Count"] == "3"
    assert set(answer.links) == {"first", "prev", "last"}
    # A condition on a field that is not there counts for nothing, or for everything.
    assert len(asked(path + "?sysparm_query=nonsense=1").json()["result"]) == 3
    instance.invalid_query_returns_no_rows = True
    assert asked(path + "?sysparm_query=nonsense=1").json()["result"] == []


def test_the_simulated_instance_is_changed_over_http(
    instance: SimulatedServiceNow, asked: Callable[..., requests.Response]
) -> None:
    control = instance.url() + "/_sandbox/"
    sandbox = {"X-Sandbox-Token": instance.control_token}
    assert requests.get(control + "state", timeout=10).status_code == 403
    new = {
        "name": "a.txt",
        "content_base64": base64.b64encode(b"one").decode(),
        "modified_at": "2026-11-01T13:00:00+01:00",
    }
    made = requests.post(control + "documents", json=new, headers=sandbox, timeout=10)
    assert made.status_code == 201
    connector = connect(instance)
    (listed,) = connector.list_documents()
    assert (listed.external_id, listed.modified_at) == (made.json()["id"], NOON)
    assert content(connector, listed) == b"one"
    path = control + f"documents/{listed.external_id}"
    two = {"content_base64": base64.b64encode(b"two").decode()}
    assert requests.put(path, json=two, headers=sandbox, timeout=10).status_code == 201
    (listed,) = connector.list_documents()
    assert content(connector, listed) == b"two"
    spoil = {"kind": "corrupt", "route": "attachment_file"}
    assert requests.post(control + "misbehaviour", json=spoil, headers=sandbox, timeout=10).ok
    with pytest.raises(DownloadFailed):
        content(connector, listed)
    assert requests.delete(path, headers=sandbox, timeout=10).ok
    assert requests.delete(path, headers=sandbox, timeout=10).status_code == 404
    for wrong in ({"kind": "explode"}, {"kind": "slow", "speed": 1}, {"kind": "change", "then": "x"}):
        refused = requests.post(control + "misbehaviour", json=wrong, headers=sandbox, timeout=10)
        assert refused.status_code == 400
    state = requests.get(control + "state", headers=sandbox, timeout=10).json()
    assert (state["documents"], state["requests"]["attachment_file"]) == (0, 3)
