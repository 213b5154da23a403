from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from citysort_dagster import secrets, source_configs
from citysort_dagster.settings import Settings
from citysort_dagster.source_configs import (
    SourceUnchangeable,
    UnknownSource,
    apply,
    connector_for,
    get_source,
    known_source,
    load_sources,
    remove_source,
    set_enabled,
    set_secret,
)
from citysort_dagster.sources_file import MAX_NAME, SourcesInvalid, read_sources
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import AuditEvent, ConnectorConfig, Document, ImportFailure
from citysort_dagster.store.sync_log import now
from connectors.base import ConfigurationError

CANARY = "canary-2b1c"

S3 = """sources:
  - name: permits
    connector: amazon_s3
    config:
      bucket_name: permits
      access_key_id: {env: PERMITS_KEY_ID}
      secret_access_key: {env: PERMITS_SECRET}
    schedule: "*/15 * * * *"
"""
PG = """sources:
  - name: courts
    connector: postgresql
    config:
      host: localhost
      database: courts
      username: reader
      query: SELECT id, content FROM filings
      id_column: id
      content_column: content
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path / 'citysort.db'}")
    else:
        server = request.getfixturevalue("postgresql_server")
        opened = Database(server.create_database().render_as_string(hide_password=False))
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sources.yaml"


def problems(file: Path, text: str) -> list[tuple[int, str]]:
    file.write_text(text)
    with pytest.raises(SourcesInvalid) as raised:
        read_sources(file, {})
    return [(problem.line, problem.message) for problem in raised.value.problems]


def applied(file: Path, database: Database, text: str, prune: bool = False) -> source_configs.ApplyResult:
    file.write_text(text)
    return apply(file, database, prune)


def events(database: Database) -> list[tuple[str, str | None, dict[str, Any]]]:
    with database.read() as connection:
        rows = connection.execute(sa.select(AuditEvent).order_by(AuditEvent.id)).all()
    assert {row.actor for row in rows} <= {"command line"}
    return [(row.event, row.source, row.details) for row in rows]


def add_document(database: Database, source: str, connector_type: str) -> None:
    values = {
        "id": f"{source}-1",
        "source": source,
        "connector_type": connector_type,
        "external_id": "1",
        "version": "1",
        "filename": "a.pdf",
        "size": 1,
        "sha256": "0" * 64,
        "path": f"{source}-1_a.pdf",
        "source_metadata": {},
        "partition": "2026-01-01",
        "run_id": "run",
        "imported_at": now(),
        "status": "ingested",
        "stage": "imported",
        "fields": {},
        "review_reasons": [],
    }
    database.write(lambda connection: connection.execute(sa.insert(Document).values(**values)))


def changed_line(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("name: permits", "nme: permits", 2, "unknown key 'nme'; did you mean 'name'?"),
        ("name: permits", "nme: permits", 2, "the key name is missing"),
        ("name: permits", "name: Permits", 2, "the name 'Permits' must consist of lower-case letters"),
        ("name: permits", "name: 7permits", 2, "must consist of"),
        ("name: permits", 'name: "per\\nmits"', 2, "the name (…) must consist of"),
        ("name: permits", "name: ../etc", 2, "must consist of"),
        ("name: permits", f"name: {'x' * (MAX_NAME + 1)}", 2, "must not be longer than"),
        ("name: permits", "name: document_text", 2, "is reserved"),
        ("name: permits", "name: lambda", 2, "is reserved"),
        ("name: permits", "name: 2026-01-01", 2, "name must be text"),
        ("name: permits", "name:", 2, "the key name is missing"),
        (
            "connector: amazon_s3",
            "connector: amazon_s4",
            3,
            "'amazon_s4'; did you mean 'amazon_s3'?; there are: ",
        ),
        ("connector: amazon_s3", "colour: red", 2, "the key connector is missing"),
        ("bucket_name: permits", "bucket: permits", 5, "no setting 'bucket'; did you mean 'bucket_name'?"),
        (
            "bucket_name: permits",
            "region: eu-central-1",
            4,
            "the setting bucket_name of amazon_s3 is missing",
        ),
        ("bucket_name: permits", "bucket_name: 7", 5, "bucket_name: Input should be a valid string"),
        ("bucket_name: permits", "bucket_name: 2026-01-01", 5, "bucket_name must be text, a number"),
        (
            "bucket_name: permits",
            "bucket_name: permits\n      concurrency: 0",
            6,
            "concurrency: Input should be",
        ),
        ("bucket_name: permits", "bucket_name: {env: A-B}", 5, "the name of an environment variable"),
        ("{env: PERMITS_SECRET}", CANARY, 7, "secret_access_key is a secret and must not stand in this file"),
        ("{env: PERMITS_SECRET}", f"{{env: '{CANARY}!'}}", 7, "the name of an environment variable"),
        ("{env: PERMITS_SECRET}", f"{{env: {CANARY.replace('-', '')}}}", 7, "never the secret itself"),
        ("{env: PERMITS_SECRET}", f"{{encrypted: {CANARY}}}", 7, "write {env: NAME}"),
        ("{env: PERMITS_SECRET}", f"[{CANARY}]", 7, "write {env: NAME}"),
        ("{env: PERMITS_SECRET}", f"*{CANARY}", 7, "found undefined alias"),
        ("{env: PERMITS_SECRET}", f"!{CANARY}", 7, "could not determine a constructor"),
        ('"*/15 * * * *"', "daily", 8, "schedule must be a cron schedule"),
        ('"*/15 * * * *"', '"* * * * * *"', 8, "schedule must be a cron schedule"),
        ('"*/15 * * * *"', '"0 0 31 2 *"', 8, "schedule must be a cron schedule"),
        ('"*/15 * * * *"', '"0 0 31 2,4 *"', 8, "schedule must be a cron schedule"),
        ('"*/15 * * * *"', "15", 8, "schedule must be text"),
        ('"*/15 * * * *"', '"@daily"\n    enabled: 1', 9, "enabled must be true or false"),
        ('"*/15 * * * *"', '"@daily"\n    owners: bob', 9, "owners must be a list"),
        ('"*/15 * * * *"', '"@daily"\n    owners:\n      - team:a\n      - bob', 11, "an owner must be"),
        ('"*/15 * * * *"', '"@daily"\n    tags: {year: 2026}', 9, "must be text: put them in quotes"),
        ('"*/15 * * * *"', '"@daily"\n    tags: {a: b c}', 9, "a tag and its value consist of"),
        ('"*/15 * * * *"', '"@daily"\n    tags: [a]', 9, "tags must be a mapping"),
        ('"*/15 * * * *"', '"@daily"\n    group: a b', 9, "group must consist of"),
        ('"*/15 * * * *"', '"@daily"\n    group: ""', 9, "group must consist of"),
        ('"*/15 * * * *"', '"@daily"\n    partitions_per_run: 0', 9, "must be a whole number"),
        ('"*/15 * * * *"', '"@daily"\n    partitions_per_run: true', 9, "must be a whole number"),
        ('"*/15 * * * *"', '"@daily"\n    description: [a]', 9, "description must be text"),
        ('"*/15 * * * *"', '"@daily"\n    description: "\\0"', 9, "a character that cannot be stored"),
        ('"*/15 * * * *"', '"@daily"\n    config: {}', 9, "stands here a second time"),
        ("sources:", "source:", 1, "must hold `sources:`"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(file: Path, old: str, new: str, line: int, message: str) -> None:
    found = problems(file, changed_line(S3, old, new))
    assert any(at == line and message in text for at, text in found), found
    assert CANARY not in str(found)


@pytest.mark.parametrize(
    "text", ["", "sources:", "sources: 7", "[]", "text", "sources: [7]", "sources: {a: b}"]
)
def test_what_is_not_a_list_of_sources_is_refused(file: Path, text: str) -> None:
    assert problems(file, text)


def test_a_missing_file_is_refused_with_its_name(file: Path) -> None:
    with pytest.raises(SourcesInvalid, match=r"sources\.yaml: the file cannot be read"):
        read_sources(file, {})


def test_all_problems_are_told_at_once_in_the_order_of_lines(file: Path) -> None:
    text = changed_line(S3, "bucket_name: permits", "bucket: permits")
    text = changed_line(text, "*/15 * * * *", "often")
    text += S3.removeprefix("sources:\n")
    found = problems(file, text)
    assert [line for line, _ in found] == [5, 8, 9]
    assert found[2][1] == "the name 'permits' is taken by the source on line 2"


def test_an_empty_list_is_fine(file: Path) -> None:
    file.write_text("sources: []")
    assert read_sources(file, {}) == []


def test_plain_settings_may_be_references_too_and_are_judged_when_set(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = changed_line(PG, "host: localhost", "host: {env: COURTS_HOST}\n      port: {env: COURTS_PORT}")
    file.write_text(text)
    monkeypatch.delenv("COURTS_PORT", raising=False)
    assert read_sources(file, {})[0].config["port"] == {"env": "COURTS_PORT"}
    monkeypatch.setenv("COURTS_PORT", "5433")
    read_sources(file, {})
    monkeypatch.setenv("COURTS_PORT", "many")
    assert [line for line, _ in problems(file, text)] == [6]


def test_what_is_applied_is_what_the_row_holds(file: Path, database: Database) -> None:
    text = S3 + (
        "    description: Building permits\n    owners: [team:permits, clerk@example.gov]\n"
        "    tags: {retention: permanent}\n    group: city/permits\n    partitions_per_run: 12\n    enabled: false\n"
    )
    result = applied(file, database, text)
    assert (result.created, result.changed, result.unchanged, result.disabled) == (["permits"], {}, [], [])
    source = known_source(database, "permits")
    assert source.connector_type == "amazon_s3"
    assert source.config == {
        "bucket_name": "permits",
        "access_key_id": {"env": "PERMITS_KEY_ID"},
        "secret_access_key": {"env": "PERMITS_SECRET"},
    }
    assert (source.schedule, source.enabled, source.description) == (
        "*/15 * * * *",
        False,
        "Building permits",
    )
    assert (source.owners, source.tags) == (["team:permits", "clerk@example.gov"], {"retention": "permanent"})
    assert (source.group_name, source.partitions_per_run) == ("city/permits", 12)
    assert source.watermark is None
    assert source.created_at.tzinfo == timezone.utc


def test_applying_again_changes_nothing(file: Path, database: Database) -> None:
    applied(file, database, S3)
    before = load_sources(database)
    result = applied(file, database, S3)
    assert (result.created, result.changed, result.unchanged) == ([], {}, ["permits"])
    assert load_sources(database) == before
    assert len(events(database)) == 1


def test_changes_are_told_by_key_and_lists_begin_anew_when_settings_change(
    file: Path, database: Database
) -> None:
    applied(file, database, S3)
    mark = datetime(2026, 3, 1, tzinfo=timezone.utc)

    def set_watermark() -> None:
        database.write(
            lambda connection: connection.execute(sa.update(ConnectorConfig).values(watermark=mark))
        )

    set_watermark()
    later = changed_line(S3, "*/15", "*/5")
    assert applied(file, database, later).changed == {"permits": ["schedule"]}
    assert known_source(database, "permits").watermark == mark

    narrower = changed_line(later, "bucket_name: permits", "bucket_name: permits\n      prefix: scans/")
    assert applied(file, database, narrower).changed == {"permits": ["config.prefix"]}
    assert known_source(database, "permits").watermark is None

    set_watermark()
    assert applied(file, database, later).changed == {"permits": ["config.prefix"]}
    assert known_source(database, "permits").watermark is None
    assert "prefix" not in known_source(database, "permits").config
    assert events(database)[1:] == [
        ("source changed", "permits", {"changed": ["schedule"]}),
        ("source changed", "permits", {"changed": ["config.prefix"]}),
        ("source changed", "permits", {"changed": ["config.prefix"]}),
    ]


def test_sources_that_the_file_no_longer_names_are_disabled_on_request(
    file: Path, database: Database
) -> None:
    applied(file, database, S3)
    result = applied(file, database, PG)
    assert (result.disabled, known_source(database, "permits").enabled) == ([], True)
    assert applied(file, database, PG, prune=True).disabled == ["permits"]
    assert not known_source(database, "permits").enabled
    assert applied(file, database, PG, prune=True).disabled == []
    assert applied(file, database, S3).changed == {"permits": ["enabled"]}


def test_a_file_with_a_mistake_changes_nothing(file: Path, database: Database) -> None:
    with pytest.raises(SourcesInvalid):
        applied(file, database, S3 + changed_line(PG.removeprefix("sources:\n"), "postgresql", "postgres"))
    assert load_sources(database) == []
    assert events(database) == []


def test_a_stored_secret_stays_where_the_file_leaves_it_out(
    file: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    applied(file, database, PG)
    set_secret(database, settings, "courts", "password", CANARY)
    assert secrets.resolve(known_source(database, "courts").config, settings)["password"] == CANARY
    assert applied(file, database, PG).unchanged == ["courts"]
    assert applied(file, database, PG + "      password: null\n").unchanged == ["courts"]
    connector = connector_for(known_source(database, "courts"), settings)
    assert vars(connector)["password"] == CANARY
    assert CANARY not in f"{connector!r} {connector} {connector.model_dump()} {connector.model_dump_json()}"

    monkeypatch.setenv("COURTS_PASSWORD", "another")
    assert applied(file, database, PG + "      password: {env: COURTS_PASSWORD}\n").changed == {
        "courts": ["config.password"]
    }
    with database.read() as connection:
        everything = [list(row) for row in connection.execute(sa.select(ConnectorConfig))]
    assert CANARY not in str([everything, events(database), load_sources(database)])


@pytest.mark.parametrize(
    ("connector", "settings", "setting"),
    [
        ("amazon_s3", "bucket_name: permits\n      access_key_id: AKIA", "secret_access_key"),
        (
            "servicenow",
            "instance_url: https://city.example\n      table_name: incident\n      username: clerk",
            "password",
        ),
    ],
)
def test_a_source_may_wait_for_its_secret_to_be_stored(
    file: Path, database: Database, tmp_path: Path, connector: str, settings: str, setting: str
) -> None:
    text = f"sources:\n  - name: permits\n    connector: {connector}\n    config:\n      {settings}\n"
    given = Settings(data_dir=tmp_path)
    assert applied(file, database, text).created == ["permits"]
    with pytest.raises(ConfigurationError, match=f"source permits: .*{setting}"):
        connector_for(known_source(database, "permits"), given)
    set_secret(database, given, "permits", setting, CANARY)
    assert applied(file, database, text).unchanged == ["permits"]
    assert vars(connector_for(known_source(database, "permits"), given))[setting] == CANARY


def test_only_secret_settings_take_secrets(file: Path, database: Database, tmp_path: Path) -> None:
    applied(file, database, PG)
    with pytest.raises(SourceUnchangeable, match="its secret settings are: password"):
        set_secret(database, Settings(data_dir=tmp_path), "courts", "host", "x")
    with pytest.raises(UnknownSource):
        set_secret(database, Settings(data_dir=tmp_path), "court", "password", "x")


def test_the_connector_of_a_source_with_documents_stays(file: Path, database: Database) -> None:
    other = changed_line(PG, "name: courts", "name: permits")
    applied(file, database, S3)
    assert applied(file, database, other).changed["permits"][0] == "connector"
    applied(file, database, S3)
    add_document(database, "permits", "amazon_s3")
    with pytest.raises(
        SourcesInvalid, match=r"line 2: .* imported by the connector amazon_s3: .* another name"
    ):
        applied(file, database, other)
    remove_source(database, "permits")
    with pytest.raises(SourcesInvalid, match="another name"):
        applied(file, database, other)
    assert applied(file, database, S3).created == ["permits"]


def test_removing_keeps_documents_and_forgets_open_failures(file: Path, database: Database) -> None:
    applied(file, database, S3)
    add_document(database, "permits", "amazon_s3")
    at = now()
    failure = {
        "source": "permits",
        "external_id": "2",
        "version": "1",
        "filename": "b.pdf",
        "partition": "2026-01-01",
        "reason": "gone",
        "refused": False,
        "attempts": 1,
        "first_failed_at": at,
        "last_failed_at": at,
        "run_id": "run",
    }
    database.write(lambda connection: connection.execute(sa.insert(ImportFailure).values(**failure)))
    assert remove_source(database, "permits") == 1
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(Document)).scalar() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(ImportFailure)).scalar() == 0
    assert get_source(database, "permits") is None
    assert events(database)[-1] == ("source removed", "permits", {"open_failures": 1, "documents": 1})
    with pytest.raises(UnknownSource, match="none is configured yet"):
        remove_source(database, "permits")


def test_enabling_and_disabling(file: Path, database: Database) -> None:
    applied(file, database, S3)
    assert set_enabled(database, "permits", False)
    assert not set_enabled(database, "permits", False)
    assert not known_source(database, "permits").enabled
    assert set_enabled(database, "permits", True)
    assert [event for event, _, _ in events(database)] == [
        "source created",
        "source disabled",
        "source enabled",
    ]
    with pytest.raises(UnknownSource, match=r"there is no source 'permit'; did you mean permits\?"):
        set_enabled(database, "permit", True)


def test_sources_load_in_one_query(file: Path, database: Database) -> None:
    applied(file, database, S3 + PG.removeprefix("sources:\n"))
    statements: list[str] = []
    sa.event.listen(
        database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    assert [source.name for source in load_sources(database)] == ["courts", "permits"]
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 1


def test_a_source_whose_secret_is_missing_says_so(
    file: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERMITS_KEY_ID", "id")
    monkeypatch.delenv("PERMITS_SECRET", raising=False)
    applied(file, database, S3)
    with pytest.raises(
        ConfigurationError, match=r"source permits: setting secret_access_key: .* that it names is not set"
    ):
        connector_for(known_source(database, "permits"), Settings(data_dir=tmp_path))


def test_several_that_apply_at_once_create_a_source_once(file: Path, database: Database) -> None:
    file.write_text(S3 + PG.removeprefix("sources:\n"))
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def work() -> None:
        start.wait()
        try:
            apply(file, database)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [event for event, _, _ in events(database)] == ["source created"] * 2


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(
        ["amazon_s3", "postgresql", "mysql", "sqlite", "@daily", "* * * * *", "*/0 * * * *", "team:a"]
    ),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(), st.just("env")), inner, max_size=3),
    ),
    max_leaves=6,
)
_SETTINGS = [
    "bucket_name",
    "secret_access_key",
    "query",
    "id_column",
    "filepath",
    "port",
    "password",
    "anonymous",
]
_CONFIG = st.dictionaries(st.sampled_from(_SETTINGS), _VALUES, max_size=5)
_SOURCE = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from(["a", "b"]), _VALUES),
        "connector": _VALUES,
        "config": st.one_of(_CONFIG, _VALUES),
        "schedule": _VALUES,
        "enabled": _VALUES,
        "description": _VALUES,
        "owners": st.one_of(st.lists(_SCALARS, max_size=3), _VALUES),
        "tags": st.one_of(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), _VALUES),
        "group": _VALUES,
        "partitions_per_run": _VALUES,
    },
)


@examples(max_examples=200, deadline=None)
@given(st.one_of(st.fixed_dictionaries({"sources": st.lists(_SOURCE, max_size=3)}), _VALUES))
def test_any_content_is_either_sources_that_can_be_stored_or_problems(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    _either_sources_or_problems(
        tmp_path_factory, yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "replace")
    )


@examples(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="sources:-[]{}&*!|>%@`\"'#\n\t ,0a", max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_either_sources_or_problems(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    _either_sources_or_problems(tmp_path_factory, content)


def _either_sources_or_problems(factory: pytest.TempPathFactory, content: bytes) -> None:
    file = factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(content)
    try:
        entries = read_sources(file, {})
    except SourcesInvalid as error:
        assert error.problems
        assert all(line >= 1 and message for line, message in error.problems)
    else:
        for entry in entries:
            json.dumps([entry.config, entry.tags, entry.owners], allow_nan=False).encode()
