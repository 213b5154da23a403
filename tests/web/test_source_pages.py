"""The pages of sources as a browser without scripts uses them."""

from __future__ import annotations

import re
import uuid
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from citysort_dagster.source_configs import apply
from connectors.registry import CONNECTOR_TYPES, connector_class
from sandbox.servicenow import SimulatedServiceNow
from tests.secrecy.canaries import Search, canary
from tests.web.console import Console


class Page(HTMLParser):
    """What of a page matters here: its fields with their values, and what labels and descriptions they have."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__()
        self.text = answer.text
        self.fields: dict[str, dict[str, str]] = {}
        self.ids: set[str] = set()
        self.labels: set[str] = set()
        self._textarea: str | None = None
        self._select: str | None = None
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if "id" in found:
            assert found["id"] not in self.ids, f"two of {found['id']}"
            self.ids.add(found["id"])
        if tag == "label":
            self.labels.add(found["for"])
        if tag in ("input", "select", "textarea"):
            name = found.get("name", "")
            if found.get("type") != "checkbox" or "checked" in found:
                self.fields.setdefault(name, found | {"tag": tag, "value": found.get("value", "")})
            else:
                self.fields.setdefault(name, found | {"tag": tag, "value": ""})
            self._textarea = name if tag == "textarea" else None
            self._select = name if tag == "select" else self._select
        if tag == "option" and self._select and "selected" in found:
            self.fields[self._select]["value"] = found["value"]

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            self.fields[self._textarea]["value"] += data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = None
        if tag == "select":
            self._select = None

    def filled(self, **values: str) -> dict[str, str]:
        """The form as it would be sent, with these values (`config_x` means `config.x`)."""
        found = {name: one["value"] for name, one in self.fields.items() if one["value"]}
        return found | {name.replace("config_", "config.", 1): value for name, value in values.items()}


def get(console: Console, path: str, status: int = 200) -> Page:
    answer = console("GET", path)
    assert answer.status_code == status, answer.text
    return Page(answer)


@pytest.mark.parametrize("connector_type", sorted(CONNECTOR_TYPES))
def test_each_system_has_a_form_with_a_field_for_every_setting(console: Console, connector_type: str) -> None:
    page = get(console, f"/new-source/{connector_type}")
    properties = connector_class(connector_type).model_json_schema()["properties"]
    assert {f"config.{name}" for name in properties} <= set(page.fields)
    for name, described in properties.items():
        field = page.fields[f"config.{name}"]
        assert field["id"] in page.labels
        if described.get("writeOnly"):
            assert field["value"] == "" and (field.get("type") == "password" or field["tag"] == "textarea")
        for described_by in field.get("aria-describedby", "").split():
            assert described_by in page.ids


def test_a_source_is_added_changed_and_removed_with_forms_alone(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    form = get(console, "/new-source/servicenow").filled(
        name="desk", **{f"config_{key}": value for key, value in help_desk.items()}
    )
    tested = console("POST", "/new-source/servicenow/test", data={**form, "config.password": canary()})
    assert "does not work" in tested.text and console.well("GET", "/api/sources") == []
    assert "It works" in console("POST", "/new-source/servicenow/test", data=form).text
    made = console("POST", "/new-source/servicenow", data=form)
    assert made.status_code == 303, made.text
    page = get(console, made.headers["Location"])
    assert page.fields["config.instance_url"]["value"] == help_desk["instance_url"]
    assert page.fields["config.password"]["value"] == "" and "One is stored" in page.text
    source = console.well("GET", "/api/sources/desk")
    assert source["config"] == {key: value for key, value in help_desk.items() if key != "password"}

    changed = page.filled(schedule="0 6 * * *", config_concurrency="4", config_allowed_types="pdf, docx\ntxt")
    assert "It works" in console("POST", "/sources/desk/test", data=changed).text
    assert console.well("GET", "/api/sources/desk") == source, "a test saves nothing"
    assert console("POST", "/sources/desk", data=changed).status_code == 303
    source = console.well("GET", "/api/sources/desk")
    assert source["schedule"] == "0 6 * * *" and source["secrets"]["password"] is True
    assert source["config"]["concurrency"] == 4 and source["config"]["allowed_types"] == [
        "pdf",
        "docx",
        "txt",
    ]
    again = get(console, "/sources/desk").filled(schedule="", config_concurrency="", config_allowed_types="")
    assert console("POST", "/sources/desk", data=again).status_code == 303
    source = console.well("GET", "/api/sources/desk")
    assert source["schedule"] is None
    assert "concurrency" not in source["config"] and "allowed_types" not in source["config"]

    token = {"csrf_token": page.fields["csrf_token"]["value"]}
    assert console("POST", "/sources/desk/enabled?on=no", data=token).status_code == 303
    assert "Disabled" in get(console, "/sources").text
    assert console("POST", "/sources/desk/remove", data=token).status_code == 303
    assert console.well("GET", "/api/sources") == []
    assert not Search([servicenow.password]).in_folder(console.installation.settings.data_dir)


def test_an_import_by_its_form(console: Console, archive: dict[str, Any]) -> None:
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    page = get(console, "/sources/archive")
    assert page.fields["limit"]["value"] == "50"
    token = {"csrf_token": page.fields["csrf_token"]["value"]}
    for wrong in (
        {"limit": "0"},
        {"limit": "many"},
        {"from": "yesterday"},
        {"from": "2026-02-01", "to": "2026-01-01"},
    ):
        assert console("POST", "/sources/archive/import", data={**token, **wrong}).status_code == 422
    ordered = console("POST", "/sources/archive/import", data={**token, "limit": ""})
    assert ordered.status_code == 303
    run_id = ordered.headers["Location"].rpartition("=")[2]
    assert "hx-trigger" in console("GET", f"/sources/archive/imports/{run_id}").text
    console.follow(run_id)
    part = console("GET", f"/sources/archive/imports/{run_id}")
    assert "hx-trigger" not in part.text and "three.txt" in part.text
    assert re.search(r'id="imported">2<', part.text) and re.search(r'id="failed">1<', part.text)
    assert part.headers["HX-Trigger"] == "import-over"
    assert "2 documents arrived in the last 30 days" in get(console, ordered.headers["Location"]).text
    assert console("GET", f"/sources/other/imports/{run_id}").status_code == 404


def test_faults_stand_beside_their_fields_and_nothing_is_lost(
    console: Console, archive: dict[str, Any], help_desk: dict[str, Any]
) -> None:
    settings = {f"config_{key}": value for key, value in archive.items()}
    form = get(console, "/new-source/sqlite").filled(
        **settings, name="Not A Name", schedule="daily", config_max_size_mb="0"
    )
    answer = console("POST", "/new-source/sqlite", data=form)
    assert answer.status_code == 422
    page = Page(answer)
    for name in ("name", "schedule", "config.max_size_mb"):
        field = page.fields[name]
        assert field["aria-invalid"] == "true"
        assert field["aria-describedby"].split()[-1] == f"{field['id']}-error" in page.ids
    assert page.fields["config.query"]["value"] == archive["query"]
    assert page.fields["name"]["value"] == "Not A Name"

    secret = {f"config_{key}": value for key, value in help_desk.items()}
    refused = console(
        "POST",
        "/new-source/servicenow",
        data=get(console, "/new-source/servicenow").filled(**secret, name="1"),
    )
    assert refused.status_code == 422 and help_desk["password"] not in refused.text

    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    taken = console(
        "POST",
        "/new-source/sqlite",
        data=get(console, "/new-source/sqlite").filled(**settings, name="archive"),
    )
    assert taken.status_code == 409 and "choose another name" in taken.text


def test_saving_a_form_as_it_is_changes_nothing(console: Console, archive: dict[str, Any]) -> None:
    """A query that has changed has its source listed whole again."""
    config = {**archive, "query": "SELECT *\nFROM documents"}
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": config})
    form = get(console, "/sources/archive").filled()
    assert form["config.query"] == config["query"]
    # As browsers send it: https://html.spec.whatwg.org/multipage/form-control-infrastructure.html
    sent = {name: value.replace("\n", "\r\n") for name, value in form.items()}
    assert console("POST", "/sources/archive", data=sent).status_code == 303
    assert console.well("GET", "/api/sources/archive")["config"] == config
    assert [event for event, _, _ in console.audit()] == ["source created"]


@pytest.mark.parametrize(
    ("connector", "setting", "given", "shown", "kept"),
    [
        ("jira", "project_key", "HR", "HR", ["HR"]),
        ("confluence", "space_key", "HR, LEGAL", "HR, LEGAL", ["HR", "LEGAL"]),
        ("confluence", "include_archived", "no", "", False),
        ("confluence", "include_archived", "yes", "yes", None),
        ("sharepoint", "library_name", "Plans, Maps", "Plans, Maps", ["Plans, Maps"]),
        (
            "sharepoint",
            "library_name",
            ["Plans, Maps", "Other"],
            "Plans, Maps\nOther",
            ["Plans, Maps", "Other"],
        ),
    ],
)
def test_a_form_means_what_the_api_was_given(
    console: Console, connector: str, setting: str, given: object, shown: str, kept: object
) -> None:
    config = {"base_url": "https://127.0.0.1", "email": "a@city.example", "api_token": canary()}
    if connector == "sharepoint":
        config = {
            "site_url": "https://127.0.0.1/sites/a",
            "tenant_id": "city.example",
            "client_id": str(uuid.UUID(int=7)),
            "client_secret": canary(),
        }
    source = {"name": "there", "connector": connector, "config": {**config, setting: given}}
    console.well("POST", "/api/sources", source)
    form = get(console, "/sources/there").filled()
    assert form.get(f"config.{setting}", "") == shown
    assert console("POST", "/sources/there", data=form).status_code == 303
    assert console.well("GET", "/api/sources/there")["config"].get(setting) == kept


def test_a_form_undoes_no_change_that_its_writer_has_not_seen(
    any_console: Console, archive: dict[str, Any]
) -> None:
    console = any_console
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    mine = get(console, "/sources/archive").filled(schedule="0 6 * * *")
    theirs = {**archive, "query": "SELECT * FROM documents WHERE id < 3"}
    console.well("PATCH", "/api/sources/archive", {"config": theirs})
    refused = console("POST", "/sources/archive", data=mine)
    assert refused.status_code == 409 and "changed meanwhile" in refused.text
    after = console.well("GET", "/api/sources/archive")
    assert (after["config"], after["schedule"]) == (theirs, None)
    again = Page(refused).filled()
    assert (again["schedule"], again["config.query"]) == ("0 6 * * *", archive["query"])
    assert console("POST", "/sources/archive", data=again).status_code == 303
    after = console.well("GET", "/api/sources/archive")
    assert (after["config"], after["schedule"]) == (archive, "0 6 * * *")


def test_a_stored_secret_is_removed_by_its_box_alone(console: Console, help_desk: dict[str, Any]) -> None:
    config = {**help_desk, "client_id": "x", "client_secret": canary()}
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": config})
    form = get(console, "/sources/desk").filled()
    assert "clear.client_secret" not in form
    assert console("POST", "/sources/desk", data=form).status_code == 303
    assert console.well("GET", "/api/sources/desk")["secrets"]["client_secret"] is True
    assert console("POST", "/sources/desk", data={**form, "clear.client_secret": "yes"}).status_code == 303
    after = console.well("GET", "/api/sources/desk")["secrets"]
    assert after == {"api_key": False, "client_secret": False, "password": True}


def test_what_a_file_describes_is_shown_and_can_be_used(
    console: Console, environment: Path, help_desk: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_PASSWORD", help_desk["password"])
    entry = {
        "name": "desk",
        "connector": "servicenow",
        "config": {**help_desk, "password": {"env": "DESK_PASSWORD"}},
    }
    (environment / "sources.yaml").write_text(yaml.safe_dump({"sources": [entry]}))
    apply(environment / "sources.yaml", console.installation.database)
    page = get(console, "/sources/desk")
    assert "sources.yaml" in page.text and "config.instance_url" not in page.fields
    token = {"csrf_token": page.fields["csrf_token"]["value"]}
    assert "It works" in console("POST", "/sources/desk/test", data=token).text
    assert console("POST", "/sources/desk", data={**token, "schedule": "0 6 * * *"}).status_code == 409
    assert console("POST", "/sources/desk/remove", data=token).status_code == 409


def test_each_role_sees_what_it_may_do(console: Console, archive: dict[str, Any]) -> None:
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    admin, operator, viewer = (console.as_role(role) for role in ("admin", "operator", "viewer"))
    assert "config.query" in get(admin, "/sources/archive").fields
    assert "/new-source" in admin("GET", "/sources").text
    seen = get(operator, "/sources/archive")
    assert "config.query" not in seen.fields and "limit" in seen.fields and archive["query"] in seen.text
    assert "/new-source" not in operator("GET", "/sources").text
    seen = get(viewer, "/sources/archive")
    assert "limit" not in seen.fields
    for caller in (operator, viewer):
        assert caller("GET", "/new-source").status_code == 403


def test_a_part_of_a_page_that_meets_a_problem_shows_it(console: Console, archive: dict[str, Any]) -> None:
    """htmx swaps nothing in for an error, and whoever has pressed a button would wait for ever."""
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    out_of_date = {"data": {"csrf_token": "0" * 64}, "headers": {"HX-Request": "true"}}
    answer = console("POST", "/sources/archive/import", **out_of_date)
    assert answer.status_code == 200 and answer.headers["HX-Retarget"] == "#main"
    assert "out of date" in answer.text and "<html" not in answer.text
    assert console.well("GET", "/api/sources/archive")["documents"] == 0
    console.as_role("admin")
    answer = console("POST", "/sources/archive/import", **out_of_date)
    assert answer.status_code == 401 and answer.headers["HX-Redirect"] == "/sign-in"


def test_the_description_of_the_api_is_a_page(console: Console) -> None:
    page = get(console, "/api/docs")
    for path in console.well("GET", "/api/openapi.json")["paths"]:
        assert path in page.text
