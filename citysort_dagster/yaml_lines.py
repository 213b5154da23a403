"""YAML files that people edit: read safely, with the line of every value for error messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from citysort_dagster.quoting import UNSAID, quoted

LineOf = Callable[[tuple[str | int, ...]], int]
"""The line (from 1) of the value at a path such as `("sources", 0, "config", "prefix")`; where
nothing stands at that path, the line of the nearest thing around it."""

MAX_VALUES = 100_000

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_OF_THE_PARSER = re.compile(r"'\\?.'|'<[a-z ]+>'")
"""Punctuation, and what the parser calls the things it expects."""


class YamlError(Exception):
    """The file cannot be read: `message` says why, `line` (from 1) where, None if nowhere in particular.

    The message quotes nothing of the file that may be a secret, written where none belongs."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.message = message
        self.line = line


class _Loader(yaml.SafeLoader):
    """Plain data only. A value that its type cannot hold (`2026-13-45`) is an error with a line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (
            ValueError,
            AttributeError,
            LookupError,
            OverflowError,
        ) as error:  # !!timestamp x, !!bool x, !!int ''
            reason = f": {error}" if isinstance(error, ValueError) else ""
            raise yaml.constructor.ConstructorError(
                None, None, f"this value is not possible{reason}", node.start_mark
            ) from error


def read_yaml(path: Path) -> tuple[Any, LineOf]:
    """The content of a YAML file, and the lines where its values stand. An empty file is None.

    Raises YamlError when the file cannot be read or is not valid YAML, when a mapping says the
    same key twice, and when aliases (https://yaml.org/spec/1.1/#id863390) blow the content up.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise YamlError(f"the file cannot be read ({error.strerror})") from error
    try:
        loader = _Loader(content)
        root = loader.get_single_node()
        if root is None:
            return None, lambda path: 1
        _check(root, {}, set())
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = _QUOTED.sub(
            lambda found: found[0] if _OF_THE_PARSER.fullmatch(found[0]) else UNSAID,
            error.problem or "this is not valid YAML",
        )
        raise YamlError(message, mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = content[: error.position].count(b"\n") + 1 if isinstance(error.position, int) else None
        raise YamlError(f"a character that YAML does not allow ({error.reason})", line) from error
    except UnicodeDecodeError as error:
        raise YamlError(f"the file is not valid text ({error.reason})") from error
    except RecursionError as error:
        raise YamlError("the values are nested too deeply", loader.line + 1) from error
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", a %YAML directive of a thousand digits
        raise YamlError("this is not valid YAML", loader.line + 1) from error
    return data, lambda path: _line(root, path)


def _check(node: yaml.Node, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """The number of values at and below a node with its aliases written out.

    An alias stands for the very same node, so each node is counted once and then looked up.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in open_nodes:
        raise YamlError("an alias contains itself", node.start_mark.line + 1)
    open_nodes.add(id(node))
    size = 1
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    first = seen[key.tag, key.value]
                    message = f"the key {quoted(key.value)} stands here a second time (first on line {first})"
                    raise YamlError(message, key.start_mark.line + 1)
                seen[key.tag, key.value] = key.start_mark.line + 1
            children += [key, value]
    else:
        children = node.value
    for child in children:
        size += _check(child, sizes, open_nodes)
        if size > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES:,} values", node.start_mark.line + 1)
    open_nodes.remove(id(node))
    sizes[id(node)] = size
    return size


def _line(node: yaml.Node, path: tuple[str | int, ...]) -> int:
    line = node.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            # Merged pairs (<<) stand first, so that a key of the mapping's own is met last.
            found = next((pair for pair in reversed(node.value) if pair[0].value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1
