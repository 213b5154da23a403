from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from citysort_dagster import secrets
from citysort_dagster.secrets import SecretUnavailable
from citysort_dagster.settings import Settings
from connectors.registry import CONNECTOR_TYPES, connector_class

VALUE = "canary-7f3a é\n£"


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, **given)


def test_a_value_comes_back_and_is_not_readable_meanwhile(tmp_path: Path) -> None:
    stored = secrets.encrypt(VALUE, settings(tmp_path))
    assert "canary" not in str(stored)
    assert secrets.is_stored(stored)
    assert secrets.decrypt(stored, settings(tmp_path)) == VALUE


def test_the_key_may_be_a_setting(tmp_path: Path) -> None:
    given = settings(tmp_path, secret_key=Fernet.generate_key().decode())
    assert secrets.decrypt(secrets.encrypt(VALUE, given), given) == VALUE
    assert list(tmp_path.iterdir()) == []


def test_the_key_file_is_made_once_and_for_this_account_alone(tmp_path: Path) -> None:
    secrets.encrypt(VALUE, settings(tmp_path))
    key = tmp_path / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    first = key.read_bytes()
    secrets.encrypt(VALUE, settings(tmp_path))
    assert key.read_bytes() == first
    assert list(tmp_path.iterdir()) == [key]


def test_several_processes_at_once_agree_on_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from citysort_dagster import secrets;"
        "from citysort_dagster.settings import Settings; sys.stdin.read();"
        f"print(secrets.encrypt('x', Settings(data_dir=Path({str(tmp_path)!r})))['encrypted'])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for process in processes:  # all are loaded and wait for the same signal
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    tokens = [process.communicate()[0].strip() for process in processes]
    assert [secrets.decrypt({"encrypted": token}, settings(tmp_path)) for token in tokens] == ["x"] * 6


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    stored = secrets.encrypt(VALUE, settings(tmp_path))
    (tmp_path / "secret.key").chmod(mode)
    for use in (
        lambda: secrets.encrypt(VALUE, settings(tmp_path)),
        lambda: secrets.decrypt(stored, settings(tmp_path)),
    ):
        with pytest.raises(SecretUnavailable, match="can be read by others: chmod 600"):
            use()


def test_a_missing_key_file_is_not_replaced_by_another_key(tmp_path: Path) -> None:
    stored = secrets.encrypt(VALUE, settings(tmp_path))
    (tmp_path / "secret.key").unlink()
    with pytest.raises(SecretUnavailable, match=r"secret\.key is missing: restore it"):
        secrets.resolve({"password": stored}, settings(tmp_path))
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize("key", ["not a key", "é" * 44, "A" * 43])
def test_what_is_no_key_is_called_so_without_being_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(SecretUnavailable, match="CITYSORT_SECRET_KEY does not hold a Fernet key") as raised:
        secrets.encrypt(VALUE, settings(tmp_path, secret_key=key))
    assert key not in str(raised.value)
    (tmp_path / "secret.key").write_bytes(key.encode())
    (tmp_path / "secret.key").chmod(0o600)
    with pytest.raises(SecretUnavailable, match=r"secret\.key does not hold a Fernet key"):
        secrets.encrypt(VALUE, settings(tmp_path))


def test_another_key_gives_a_sentence_that_names_the_setting(tmp_path: Path) -> None:
    stored = secrets.encrypt(VALUE, settings(tmp_path))
    other = settings(tmp_path, secret_key=Fernet.generate_key().decode())
    with pytest.raises(SecretUnavailable, match=r"setting password: .* encrypted with another key") as raised:
        secrets.resolve({"password": stored}, other)
    assert stored["encrypted"] not in str(raised.value)


def test_references_and_stored_values_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWN_PASSWORD", VALUE)
    config = {
        "password": {"env": "TOWN_PASSWORD"},
        "token": secrets.encrypt("other", settings(tmp_path)),
        "port": 5432,
        "allowed_types": ["pdf"],
        "odd": {"env": "A", "more": 1},
    }
    resolved = secrets.resolve(config, settings(tmp_path))
    assert resolved == {**config, "password": VALUE, "token": "other"}


@pytest.mark.parametrize("value", [None, ""])
def test_the_setting_of_an_unset_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("TOWN_PASSWORD", raising=False)
    if value is not None:
        monkeypatch.setenv("TOWN_PASSWORD", value)
    with pytest.raises(SecretUnavailable) as raised:
        secrets.resolve({"password": {"env": "TOWN_PASSWORD"}}, settings(tmp_path))
    assert str(raised.value) == "setting password: the environment variable that it names is not set"


@pytest.mark.parametrize(
    ("connector_type", "expected"),
    [
        ("amazon_s3", {"secret_access_key", "session_token"}),
        ("postgresql", {"password"}),
        ("mysql", {"password"}),
        ("sqlite", set()),
    ],
)
def test_the_secret_settings_of_each_connector(connector_type: str, expected: set[str]) -> None:
    assert secrets.secret_fields(connector_class(connector_type)) >= expected


def test_every_connector_tells_its_secrets() -> None:
    for connector_type in CONNECTOR_TYPES:
        cls = connector_class(connector_type)
        assert secrets.secret_fields(cls) <= set(cls.model_fields)


def test_redacted_settings_show_names_of_variables_only(tmp_path: Path) -> None:
    config = {
        "a": {"env": "NAME"},
        "b": secrets.encrypt(VALUE, settings(tmp_path)),
        "c": VALUE,
        "d": 3,
        "e": {"env": "not-a-Name"},
    }
    redacted = {"a": {"env": "NAME"}, "b": "(set)", "c": "(set)", "d": 3, "e": "(set)"}
    assert secrets.redact(config, {"a", "c", "e"}) == redacted


def test_a_folder_that_cannot_take_the_key_gives_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(SecretUnavailable, match="cannot be used: Is a directory"):
        secrets.encrypt(VALUE, settings(tmp_path))
    assert list(tmp_path.iterdir()) == [tmp_path / "secret.key"]
