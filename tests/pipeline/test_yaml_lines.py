"""YAML with line numbers: what a person gets wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from citysort_dagster.yaml_lines import YamlError, read_yaml


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


SOURCES = """\
# a comment
sources:
  - name: permits

    config:
      bucket: b
      prefix: scans/
  - {name: notices, config: {
      bucket: c}}
"""


def test_every_value_has_its_line(tmp_path: Path) -> None:
    data, line_of = read_yaml(written(tmp_path, SOURCES))
    assert data["sources"][1] == {"name": "notices", "config": {"bucket": "c"}}
    assert line_of(()) == 2
    assert line_of(("sources",)) == 2
    assert line_of(("sources", 0)) == 3
    assert line_of(("sources", 0, "config")) == 5
    assert line_of(("sources", 0, "config", "prefix")) == 7
    assert line_of(("sources", 1, "config", "bucket")) == 9


def test_what_is_not_there_has_the_line_of_what_is_around_it(tmp_path: Path) -> None:
    _, line_of = read_yaml(written(tmp_path, SOURCES))
    assert line_of(("sources", 0, "config", "region")) == 5
    assert line_of(("sources", 7, "name")) == 2
    assert line_of(("sources", 0, "name", "first")) == 3
    assert line_of(("nothing",)) == 2


def test_merged_keys_have_the_line_where_they_are_written(tmp_path: Path) -> None:
    text = "base: &base\n  days: 1\n  name: a\nother:\n  <<: *base\n  name: b\n"
    data, line_of = read_yaml(written(tmp_path, text))
    assert data["other"] == {"days": 1, "name": "b"}
    assert line_of(("other", "days")) == 2
    assert line_of(("other", "name")) == 6


def test_numbers_and_booleans_as_keys(tmp_path: Path) -> None:
    _, line_of = read_yaml(written(tmp_path, "a: 1\n2:\n  b: 3\n"))
    assert line_of((2, "b")) == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "# nothing\n\n"])
def test_an_empty_file_is_none(tmp_path: Path, text: str) -> None:
    data, line_of = read_yaml(written(tmp_path, text))
    assert data is None
    assert line_of(("sources", 0)) == 1


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands here a second time (first on line 1)"),
        ("a:\n  - x: 1\n    'x': 2\n", 3, "'x' stands here a second time"),
        ("a: 1\nb: [1, 2\n", 3, "expected"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "could not determine a constructor"),
        ("a: 1\nb: 2026-13-45\n", 2, "month must be in 1..12"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 1\nb: &b [1, *b]\n", 2, "contains itself"),
        ("a: 1\nb: \x07\n", 2, "does not allow"),
        ("a: *nothing\n", 1, "undefined alias"),
        ("a: 1\n[1, 2]: 3\n", 2, "unhashable"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, line: int, part: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(written(tmp_path, text))
    assert caught.value.line == line
    assert part in caught.value.message
    assert str(caught.value) == f"line {line}: {caught.value.message}"
    assert "\n" not in str(caught.value)


def test_aliases_cannot_blow_the_content_up(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    with pytest.raises(YamlError, match="more than 100,000 values"):
        read_yaml(written(tmp_path, text))


def test_merges_cannot_blow_the_content_up(tmp_path: Path) -> None:
    text = "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    with pytest.raises(YamlError, match="more than 100,000 values"):
        read_yaml(written(tmp_path, text))


def test_deep_nesting_is_told(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="nested too deeply") as raised:
        read_yaml(written(tmp_path, "a: b\nc: " + "[" * 5000 + "]" * 5000))
    assert raised.value.line == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="cannot be read"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(YamlError, match=r"does not allow|not valid text"):
        read_yaml(written(tmp_path, b"a: \xff\xfe\xff"))
