"""Any `.env` and any setting: it works, or one sentence names the setting."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from citysort_dagster.settings import Settings
from tests.fuzz.conftest import Installation

NAMES = sorted(f"CITYSORT_{name.upper()}" for name in Settings.model_fields if name != "data_dir")
ADDRESSES = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["postgresql", "postgresql+psycopg", "sqlite", "s3", "gs", "file", "https", ""]),
    st.sampled_from(["", "user:pass@", "@", "user:p@ss@", ":@"]),
    st.sampled_from(["127.0.0.1:1", "", "/", "127.0.0.1:x", "[::1", "127.0.0.1:99999999"]),
    st.sampled_from(["", "/", "/name", "//nowhere/x.db", "/../..", "/a//b"]),
    st.sampled_from(
        [
            "",
            "?",
            "?plugin=x",
            "?port=x",
            "?timeout=x",
            "?a=b&a=c",
            "#x",
            "?options=-c%20x",
            "?connect_timeout=x",
        ]
    ),
)
# A setting is text that the system's environment can hold.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
VALUES = st.one_of(
    ADDRESSES,
    TEXT,
    st.sampled_from(
        ["~", "~nobody/x", ".", "daily", "2026-01-01", "0001-01-01", "9999-12-31", "a" * 5_000, "/dev/null"]
    ),
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=2))
def test_any_value_of_a_setting(installation: Installation, environment: dict[str, str]) -> None:
    installation.run(["sources", "list"], environment)


@settings(max_examples=25)
@given(st.one_of(TEXT, st.sampled_from(["~nobody/x", "/dev/null", "/dev/null/x", "a" * 300, "/proc/x"])))
def test_any_data_folder(installation: Installation, text: str) -> None:
    given_path = text if text.startswith(("/dev", "/proc", "~nobody")) else f"below/{text.replace('/', '_')}"
    installation.run(["sources", "list"], {"CITYSORT_DATA_DIR": given_path})


LINES = st.one_of(
    st.builds("{}={}".format, st.sampled_from(NAMES), VALUES),
    st.builds("export {} = '{}'".format, st.sampled_from(NAMES), VALUES),
    st.text(max_size=30),
    st.sampled_from(["=", "A", "A=${B}", "A=${A}", 'A="', "A='\\", "#", "\ufeffA=1", "A\0=1", "A=\0"]),
)


@settings(max_examples=100)
@given(
    st.one_of(
        st.lists(LINES, max_size=4).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass")),
        st.binary(max_size=60),
    )
)
def test_any_file_of_settings(installation: Installation, content: bytes) -> None:
    file = installation.folder / ".env"
    file.write_bytes(content)
    try:
        installation.run(["sources", "list"])
    finally:
        file.unlink()


def test_a_file_of_settings_that_is_none(installation: Installation) -> None:
    file = installation.folder / ".env"
    file.mkdir()
    try:
        assert installation.run(["sources", "list"]).code == 0
    finally:
        file.rmdir()
