"""Files that people edit, as they are after one slip or another."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

ODD = [0, -1, 10**40, 1e308, float("inf"), float("nan"), "", " ", "\0", "\ud800", "a" * 10_000, "{env: X}"]
KEYS = st.one_of(st.text(max_size=5), st.integers(), st.none(), st.sampled_from(["env", "encrypted"]))
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(ODD),
    st.floats(),
    st.dates(),
    st.binary(max_size=3),
    st.text(max_size=15),
    st.lists(st.one_of(st.none(), st.text(max_size=5), st.integers()), max_size=3),
    st.dictionaries(KEYS, st.text(max_size=5), max_size=2),
)
PIECES = [
    ":", "- ", "&a ", "*a", "<<: *a", "!!python/object:os.system ", "{", "]", "'", '"', "|", "%", "@", "\t", "#",
    "---\n", "? ", "!!binary ", "!!set ", "=", "\x00", "\x85", "\u2028", "\ufeff",
]  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*path, number))


@st.composite
def other_values(draw: st.DrawFn, data: Any) -> Any:
    """The same data with one to three of its values replaced, removed, renamed or moved."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(data))
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        parent = data
        for part in above:
            parent = parent[part]
        change = draw(st.sampled_from(["replace", "replace", "remove", "rename", "nest", "copy"]))
        if change == "remove":
            del parent[last]
        elif change == "rename" and isinstance(parent, dict):
            parent[draw(st.one_of(st.text(max_size=12), st.integers(), st.none(), st.dates()))] = parent.pop(
                last
            )
        elif change == "nest":
            parent[last] = [parent[last]] if draw(st.booleans()) else {"env": parent[last]}
        elif change == "copy" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        else:
            parent[last] = draw(VALUES)
    return data


def written(data: Any) -> bytes:
    """The data as a file."""
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


@st.composite
def slips(draw: st.DrawFn, text: str) -> bytes:
    """The same text with characters or lines missing, doubled, swapped or added."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        at = draw(st.integers(0, len(line)))
        change = draw(st.sampled_from(["insert", "cut", "drop", "double", "indent", "swap"]))
        if change == "insert":
            piece = draw(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)))
            lines[number] = line[:at] + piece + line[at:]
        elif change == "cut":
            lines[number] = line[:at]
        elif change == "drop" and len(lines) > 1:
            del lines[number]
        elif change == "double":
            lines.insert(number, line)
        elif change == "indent":
            lines[number] = " " * draw(st.integers(0, 9)) + line.strip()
        else:
            other = draw(st.integers(0, len(lines) - 1))
            lines[number], lines[other] = lines[other], lines[number]
    return "\n".join(lines).encode(errors="surrogatepass")
