"""Secrets of sources: kept encrypted, or as the name of the environment variable that holds them.

In a stored configuration a value may be `{"encrypted": TOKEN}` (Fernet,
https://cryptography.io/en/latest/fernet/) or `{"env": NAME}`. Nothing here logs anything, and no
message holds a value.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken

from citysort_dagster.settings import Settings

if TYPE_CHECKING:
    from connectors.base import Connector

KEY_FILE = "secret.key"
HOW_TO_STORE = "citysort sources set-secret"
_PORTABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class SecretUnavailable(Exception):
    """A secret cannot be had; one sentence that names the setting, never a value."""


def is_stored(value: Any) -> bool:
    """Whether this is the stored form of an encrypted value."""
    return _single(value, "encrypted") is not None


def variable(value: Any) -> str | None:
    """The name of the environment variable that `{"env": NAME}` refers to; None for any other value."""
    return _single(value, "env")


def may_name_a_variable(name: str) -> bool:
    """Whether a secret may be referred to by this name: capital letters, digits and _, as POSIX has it
    (https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap08.html).

    Names are shown, and whoever mistakes the place for that of the secret itself is told so by this.
    """
    return _PORTABLE.fullmatch(name) is not None


def _single(value: Any, key: str) -> str | None:
    if isinstance(value, Mapping) and set(value) == {key} and isinstance(value[key], str):
        return str(value[key])
    return None


def encrypt(value: str, settings: Settings) -> dict[str, str]:
    """The stored form of a value. Makes the key file when there is no key yet.

    Raises SecretUnavailable when the key cannot be used.
    """
    return {"encrypted": _fernet(settings, make_key=True).encrypt(value.encode()).decode()}


def decrypt(stored: Mapping[str, str], settings: Settings) -> str:
    """The value behind its stored form. Raises SecretUnavailable without the key it was encrypted with."""
    try:
        return _fernet(settings).decrypt(stored["encrypted"].encode()).decode()
    except InvalidToken:
        raise SecretUnavailable(
            f"the stored value was encrypted with another key than {_key_name(settings)}:"
            f" restore that key, or store the value again with `{HOW_TO_STORE}`"
        ) from None


def resolve(config: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The configuration with every encrypted value and every reference replaced by what it stands for.

    Raises SecretUnavailable for a variable that is unset or empty, and for a key that does not fit.
    """
    resolved = dict(config)
    for name, value in config.items():
        referred = variable(value)
        if referred is not None:
            found = os.environ.get(referred)
            if not found:
                # Not by name: it may be the secret itself, and this is kept in event logs.
                raise SecretUnavailable(f"setting {name}: the environment variable that it names is not set")
            resolved[name] = found
        elif is_stored(value):
            try:
                resolved[name] = decrypt(value, settings)
            except SecretUnavailable as error:
                raise SecretUnavailable(f"setting {name}: {error}") from None
    return resolved


def secret_fields(connector: type[Connector]) -> frozenset[str]:
    """The settings of a connector that are secrets: `writeOnly` in its JSON schema."""
    properties = connector.model_json_schema()["properties"]
    return frozenset(name for name, schema in properties.items() if schema.get("writeOnly"))


def redact(config: Mapping[str, Any], secrets: Collection[str] = ()) -> dict[str, Any]:
    """The configuration for display: references as they are, encrypted values as `(set)`, and the
    same for whatever else stands in a setting named in `secrets`."""
    return {
        name: "(set)"
        if is_stored(value) or (name in secrets and not may_name_a_variable(variable(value) or ""))
        else value
        for name, value in config.items()
    }


def _fernet(settings: Settings, make_key: bool = False) -> Fernet:
    key = settings.secret_key.get_secret_value() or _key_of_file(settings.data_dir / KEY_FILE, make_key)
    try:
        return Fernet(key)
    except ValueError:
        raise SecretUnavailable(
            f"{_key_name(settings)} does not hold a Fernet key (32 bytes in URL-safe base64)"
        ) from None


def _key_name(settings: Settings) -> str:
    if settings.secret_key.get_secret_value():
        return "the setting CITYSORT_SECRET_KEY"
    return f"the key file {settings.data_dir / KEY_FILE}"


def _key_of_file(path: Path, make: bool) -> str:
    try:
        if make and not path.exists():
            _make_key(path)
        with path.open(encoding="ascii") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SecretUnavailable(
                    f"the key file {path} can be read by others: chmod 600 it, and replace the secrets if"
                    " others had access"
                )
            return file.read().strip()
    except FileNotFoundError:
        raise SecretUnavailable(
            f"the key file {path} is missing: restore it, or set CITYSORT_SECRET_KEY to the key"
        ) from None
    except OSError as error:
        raise SecretUnavailable(f"the key file {path} cannot be used: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretUnavailable(f"the key file {path} does not hold a Fernet key") from None


def _make_key(path: Path) -> None:
    # Written whole under another name (O_EXCL, mode 0600) and then linked, which fails when the file
    # is there: of several processes that start at once one wins, and none ever reads half a key.
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        Path(draft).unlink()
