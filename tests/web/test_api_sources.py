"""Sources and connectors through the API: configured, changed, tested; secrets go in and never come out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from citysort_dagster.source_configs import apply, known_source
from citysort_dagster.store.models import ConnectorConfig
from citysort_dagster.store.sync_log import now
from connectors.registry import CONNECTOR_TYPES
from sandbox.servicenow import SimulatedServiceNow
from tests.secrecy.canaries import Search, canary
from tests.web.console import Console


def test_the_ten_connectors_with_their_schemas(console: Console) -> None:
    found = {each["type"]: each for each in console.well("GET", "/api/connectors")}
    assert set(found) == set(CONNECTOR_TYPES)
    password = found["postgresql"]["config_schema"]["properties"]["password"]
    assert password["writeOnly"] is True
    assert {each["family"] for each in found.values()} == {"databases", "saas_and_cloud"}


def test_a_source_from_its_making_to_its_end(
    any_console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    console, secret = any_console, servicenow.password
    made = console("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    assert made.status_code == 201 and made.headers["Location"] == "/api/sources/desk"
    source = made.json()
    assert source["secrets"] == {"api_key": False, "client_secret": False, "password": True}
    assert "password" not in source["config"] and source["config"]["table_name"] == "incident"
    assert source["origin"] == "console" and source["state"] == "never_synced"

    assert console.well("POST", "/api/sources/desk/test")["ok"] is True
    listed = console.well("GET", "/api/sources")
    assert [each["name"] for each in listed] == ["desk"]

    changed = console.well(
        "PATCH", "/api/sources/desk", {"schedule": "0 6 * * *", "config": {"timeout_seconds": 30}}
    )
    assert changed["schedule"] == "0 6 * * *"
    assert changed["config"] == {**source["config"], "timeout_seconds": 30}
    assert changed["secrets"]["password"] is True
    assert console.well("POST", "/api/sources/desk/test")["ok"] is True, "a secret left out stays"

    replaced = console.well(
        "PUT",
        "/api/sources/desk",
        {"connector": "servicenow", "config": {k: v for k, v in help_desk.items() if k != "password"}},
    )
    assert replaced["schedule"] is None and "timeout_seconds" not in replaced["config"]
    assert replaced["secrets"]["password"] is True

    fault = console.refused(422, "PATCH", "/api/sources/desk", {"config": {"password": None}})
    assert "password" in fault["detail"]

    assert console("DELETE", "/api/sources/desk").status_code == 204
    console.refused(404, "GET", "/api/sources/desk")
    assert console.audit() == [
        ("source created", "this machine", "desk"),
        ("source changed", "this machine", "desk"),
        ("source changed", "this machine", "desk"),
        ("source removed", "this machine", "desk"),
    ]
    assert not Search([secret]).in_text(made.text, listed, changed, replaced)
    assert not Search([secret]).in_folder(console.installation.settings.data_dir)


def test_who_did_it_stands_in_the_audit_event(console: Console, archive: dict[str, Any]) -> None:
    admin = console.as_role("admin", "maria@city.example")
    admin.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    assert console.audit()[-1] == ("source created", "maria@city.example", "archive")


def test_a_secret_is_given_again_where_the_address_changes(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    """Else whoever may change a source could have its password sent to a server of their own."""
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    with SimulatedServiceNow() as other:
        for method, path, body in (
            ("PATCH", "/api/sources/desk", {"config": {"instance_url": other.url()}}),
            (
                "POST",
                "/api/sources/desk/test",
                {"config": {**_without_password(help_desk), "instance_url": other.url()}},
            ),
            (
                "POST",
                "/api/sources/desk/import",
                {"config": {**_without_password(help_desk), "instance_url": other.url()}},
            ),
        ):
            problem = console.refused(422, method, path, body)
            assert problem["errors"] == [
                {"field": "config.password", "message": problem["errors"][0]["message"]}
            ]
            assert "must be given again" in problem["detail"]
        other.password = help_desk["password"]
        moved = {"config": {"instance_url": other.url(), "password": other.password}}
        console.well("PATCH", "/api/sources/desk", moved)
        assert not other.leaks
        assert console.well("POST", "/api/sources/desk/test")["ok"] is True
        assert other.requests


@pytest.mark.parametrize(
    ("connector", "settings", "change"),
    [
        ("postgresql", {"sslmode": "verify-full"}, {"sslmode": "disable"}),
        ("postgresql", {"sslmode": "verify-full"}, {"sslmode": None}),
        ("postgresql", {"sslmode": "verify-full"}, {"sslrootcert": "allowed/ca.pem"}),
        ("mysql", {"ssl_mode": "verify_identity"}, {"ssl_mode": "disabled"}),
        ("mysql", {"ssl_mode": "verify_identity"}, {"ssl_ca": "allowed/ca.pem"}),
        ("mysql", {}, {"port": 3307}),
        ("servicenow", {}, {"ca_file": "allowed/ca.pem"}),
    ],
)
def test_a_secret_is_given_again_where_the_connection_is_less_safe(
    console: Console,
    help_desk: dict[str, Any],
    tmp_path: Path,
    connector: str,
    settings: dict[str, Any],
    change: dict[str, Any],
) -> None:
    """Else whoever may change a source could listen to its password, or answer in the server's name."""
    rows = {"query": "SELECT 1", "id_column": "id", "content_column": "c"}
    database = {"host": "127.0.0.1", "database": "d", "username": "u", "password": canary(), **rows}
    config = {**(help_desk if connector == "servicenow" else database), **settings}
    console.well("POST", "/api/sources", {"name": "safe", "connector": connector, "config": config})
    change = {
        key: str(tmp_path / value) if str(value).startswith("allowed") else value
        for key, value in change.items()
    }
    problem = console.refused(422, "PATCH", "/api/sources/safe", {"config": change})
    assert [error["field"] for error in problem["errors"]] == ["config.password"]
    assert f"must be given again: {next(iter(change))} has changed" in problem["detail"]
    again = {"config": {**change, "password": canary()}}
    console.well("PATCH", "/api/sources/safe", again)


def _without_password(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "password"}


def test_a_connection_is_tested_with_a_configuration_that_is_not_saved(
    console: Console, help_desk: dict[str, Any]
) -> None:
    wrong = {**help_desk, "password": canary()}
    answer = console("POST", "/api/connectors/servicenow/test", {"config": wrong})
    assert answer.status_code == 200 and answer.json()["ok"] is False
    assert "credentials" in answer.json()["message"] and wrong["password"] not in answer.text
    assert console.well("POST", "/api/connectors/servicenow/test", {"config": help_desk})["ok"] is True
    assert console.well("GET", "/api/sources") == []
    console.refused(404, "POST", "/api/connectors/servicenow/test")


def test_the_default_source_of_a_connector(console: Console, help_desk: dict[str, Any]) -> None:
    path = "/api/connectors/servicenow/config"
    assert console.well("GET", path)["saved"] is False
    saved = console.well("PUT", path, help_desk)
    assert saved["secrets"]["password"] is True and "password" not in saved["config"]
    again = console.well("PUT", path, {**_without_password(help_desk), "timeout_seconds": 30})
    assert again["config"]["timeout_seconds"] == 30 and again["secrets"]["password"] is True
    assert console.well("GET", path) == again
    assert console.well("GET", "/api/sources/servicenow")["connector"] == "servicenow"
    assert console.well("POST", "/api/connectors/servicenow/test")["ok"] is True
    console.refused(404, "GET", "/api/connectors/typewriter/config")


def test_what_a_file_describes_is_changed_there(
    console: Console, environment: Path, archive: dict[str, Any]
) -> None:
    entry = {"name": "archive", "connector": "sqlite", "config": archive}
    file = environment / "sources.yaml"
    file.write_text(yaml.safe_dump({"sources": [entry]}))
    apply(file, console.installation.database)
    before = console.well("GET", "/api/sources/archive")
    assert before["origin"] == "file"
    for method, body in (
        ("PUT", {"connector": "sqlite", "config": archive}),
        ("PATCH", {"schedule": "0 6 * * *"}),
        ("PATCH", {"config": {"query": "SELECT 1"}}),
        ("DELETE", None),
    ):
        problem = console.refused(409, method, "/api/sources/archive", body)
        assert "sources.yaml" in problem["detail"]
    assert console.well("GET", "/api/sources/archive") == before
    assert console.well("PATCH", "/api/sources/archive", {"enabled": False})["state"] == "disabled"


def test_a_stored_secret_of_a_file_s_source_goes_in_here(
    console: Console, environment: Path, help_desk: dict[str, Any]
) -> None:
    entry = {"name": "desk", "connector": "servicenow", "config": _without_password(help_desk)}
    file = environment / "sources.yaml"
    file.write_text(yaml.safe_dump({"sources": [entry]}))
    apply(file, console.installation.database)
    changed = console.well("PATCH", "/api/sources/desk", {"config": {"password": help_desk["password"]}})
    assert changed["secrets"]["password"] is True
    assert console.well("POST", "/api/sources/desk/test")["ok"] is True
    assert console.audit()[-1] == ("source changed", "this machine", "desk")


def test_a_file_s_source_is_tested_otherwise_with_the_secret_it_has(
    console: Console, environment: Path, help_desk: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_PASSWORD", help_desk["password"])
    config = {**help_desk, "password": {"env": "DESK_PASSWORD"}}
    file = environment / "sources.yaml"
    file.write_text(
        yaml.safe_dump({"sources": [{"name": "desk", "connector": "servicenow", "config": config}]})
    )
    apply(file, console.installation.database)
    other = {"config": {**_without_password(help_desk), "timeout_seconds": 30}}
    assert console.well("POST", "/api/sources/desk/test", other) == console.well(
        "POST", "/api/sources/desk/test"
    )
    assert console.well("POST", "/api/sources/desk/test", other)["ok"] is True
    wrong = {"config": {**other["config"], "table_name": "no_such_table"}}
    assert console.well("POST", "/api/sources/desk/test", wrong)["ok"] is False


def test_pruning_by_a_file_leaves_the_console_s_sources(
    console: Console, environment: Path, archive: dict[str, Any]
) -> None:
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    file = environment / "sources.yaml"
    file.write_text("sources: []\n")
    assert apply(file, console.installation.database, prune=True).disabled == []
    file.write_text(
        yaml.safe_dump({"sources": [{"name": "archive", "connector": "sqlite", "config": archive}]})
    )
    apply(file, console.installation.database)
    assert console.well("GET", "/api/sources/archive")["origin"] == "file", (
        "a file that names it takes it over"
    )


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"name": "Archive"}, None, "Not understood"),
        ({"name": "class"}, "name", "reserved"),
        ({"schedule": "every day"}, "schedule", "cron"),
        ({"owners": ["nobody"]}, "owners.0", "e-mail"),
        ({"config": {"query": "SELECT 1", "id_column": "id"}}, "config.filepath", "missing"),
        ({"config": {"password": "x"}}, "config.password", "no setting"),
        ({"config": {"query": {"env": "HOME"}}}, "config.query", "sources.yaml"),
        ({"config": {"max_size_mb": "many"}}, "config.max_size_mb", "integer"),
        ({"connector": "typewriter"}, "connector", "there is no connector"),
    ],
)
def test_each_fault_is_told_at_its_field(
    console: Console, archive: dict[str, Any], change: dict[str, Any], field: str | None, said: str
) -> None:
    values: dict[str, Any] = {"name": "archive", "connector": "sqlite", "config": archive}
    if set(change.get("config", {})) & {"max_size_mb", "password"} or "env" in str(change):
        change = {"config": {**archive, **change["config"]}}
    problem = console.refused(422, "POST", "/api/sources", {**values, **change})
    if field is not None:
        assert [error["field"] for error in problem["errors"]] == [field]
    assert said in str(problem)
    assert console.well("GET", "/api/sources") == []


def test_references_to_the_server_s_environment_are_refused(
    console: Console, help_desk: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = canary()
    monkeypatch.setenv("SERVER_SECRET", secret)
    for key in ("password", "username", "instance_url"):
        body = {"config": {**help_desk, key: {"env": "SERVER_SECRET"}}}
        for path in ("/api/connectors/servicenow/test", "/api/sources"):
            values = {"name": "desk", "connector": "servicenow"} if path == "/api/sources" else {}
            problem = console.refused(422, "POST", path, {**values, **body})
            assert "sources.yaml" in problem["detail"] and secret not in str(problem)
    stored = console.refused(
        422,
        "POST",
        "/api/sources",
        {"name": "desk", "connector": "servicenow", "config": {**help_desk, "password": {"encrypted": "x"}}},
    )
    assert stored["errors"][0]["field"] == "config.password"


def test_a_name_is_taken_once(console: Console, archive: dict[str, Any]) -> None:
    values = {"name": "archive", "connector": "sqlite", "config": archive}
    console.well("POST", "/api/sources", values)
    assert "already" in console.refused(409, "POST", "/api/sources", values)["detail"]


def test_two_who_change_a_source_at_once(console: Console, archive: dict[str, Any]) -> None:
    """The later one made their change from what is no longer so."""
    from citysort_dagster import source_editing
    from citysort_dagster.source_configs import SourceUnchangeable, save_source
    from citysort_dagster.sources_file import check_source

    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    database = console.installation.database
    seen = known_source(database, "archive")
    console.well("PATCH", "/api/sources/archive", {"description": "first"})
    late = check_source({**source_editing.as_values(seen), "config": archive, "description": "late"}, {})
    with pytest.raises(SourceUnchangeable, match="somebody else"):
        save_source(database, late, seen, "late")
    assert console.well("GET", "/api/sources/archive")["description"] == "first"


def test_states_of_a_source(console: Console, archive: dict[str, Any]) -> None:
    values = {"name": "archive", "connector": "sqlite", "config": archive, "schedule": "* * * * *"}
    assert console.well("POST", "/api/sources", values)["state"] == "never_synced"
    console.well("POST", "/api/sources/archive/import", {"wait": True, "limit": None})
    assert console.well("GET", "/api/sources/archive")["state"] == "fresh"
    yesterday = now() - timedelta(days=1)
    console.installation.database.write(
        lambda connection: connection.execute(
            sa.update(ConnectorConfig).values(last_sync_at=yesterday, created_at=yesterday)
        )
    )
    late = console.well("GET", "/api/sources/archive")
    assert late["state"] == "late" and late["reason"].startswith("Late: last imported whole")
    Path(archive["filepath"]).write_bytes(b"no database")
    console.well("POST", "/api/sources/archive/import", {"wait": True})
    failing = console.well("GET", "/api/sources/archive")
    assert failing["state"] == "failing" and "filepath" in failing["reason"]
    assert console.well("PATCH", "/api/sources/archive", {"enabled": False})["state"] == "disabled"
    assert console.well("PATCH", "/api/sources/archive", {"enabled": True})["state"] == "failing"


def test_a_source_of_a_connector_that_is_gone_shows_nothing_of_its_settings(
    console: Console, archive: dict[str, Any]
) -> None:
    """Nobody knows any more which of them are secrets."""
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    console.installation.database.write(
        lambda connection: connection.execute(sa.update(ConnectorConfig).values(connector_type="typewriter"))
    )
    shown = console.well("GET", "/api/sources/archive")
    assert shown["connector"] == "typewriter" and shown["config"] == {} and shown["secrets"] == {}
    assert console("GET", "/sources/archive").status_code == console("GET", "/sources").status_code == 200
    tested = console.well("POST", "/api/sources/archive/test")
    assert tested["ok"] is False and "there is no connector" in tested["message"]
