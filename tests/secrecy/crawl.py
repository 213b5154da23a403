"""Asks a GraphQL server everything that it can be asked: its own schema says what that is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

INTROSPECTION = """{ __schema { queryType { name } types { kind name
  possibleTypes { name }
  fields(includeDeprecated: true) { name type { ...T } args { name defaultValue type { ...T } } }
} } }
fragment T on __Type {
  kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }
}"""

MOST_FIELDS = 3_000
WITHIN_THEMSELVES = {"PythonError"}
"""Types that are asked for within themselves, once: what caused an error."""
TRIES = 30


class Query(NamedTuple):
    """A query for a field of the root."""

    field: str
    text: str
    variables: Mapping[str, Any]


class Crawl:
    """Queries for every field of the root, with all that is below it, `depth` steps deep.

    `ask` answers a query and its variables with the whole answer. `arguments` are the values of arguments
    by the name of the argument, or of field and argument: `logsForRun.runId`. Fields that insist on others
    are left out, and so are those that the server itself cannot answer.
    """

    def __init__(self, ask: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self.arguments: Mapping[str, Any] = {}
        self.depth = 3
        self._ask = ask
        schema = ask(INTROSPECTION, {})["data"]["__schema"]
        self._types = {found["name"]: found for found in schema["types"]}
        self._root = schema["queryType"]["name"]
        self._left_out: set[str] = set()
        self._fields = 0

    def run(self, only: Collection[str] = ()) -> tuple[set[str], dict[str, Any]]:
        """Asks for these fields of the root, without any for all; those that were answered, and the errors
        of those that never were."""
        answered, refused = set(), {}
        for field in self._types[self._root]["fields"]:
            if only and field["name"] not in only:
                continue
            for _ in range(TRIES):
                query = self._query(field)
                if query is None:
                    break
                answer = self._ask(query.text, query.variables)
                if answer.get("data"):
                    answered.add(query.field)
                    break
                refused[query.field] = answer["errors"]
                before = len(self._left_out)
                self._left_out.update(_culprits(answer["errors"]))
                if len(self._left_out) == before:
                    break
        return answered, {name: errors for name, errors in refused.items() if name not in answered}

    def _query(self, field: Mapping[str, Any]) -> Query | None:
        given = self._given(field)
        if given is None:
            return None
        self._fields = 0
        selection = self._selection(_named(field["type"]), (self._root,))
        if selection is None:
            return None
        declared = ", ".join(f"${name}: {_written(type_)}" for name, (type_, _) in given.items())
        passed = ", ".join(f"{name}: ${name}" for name in given)
        head = f"query({declared})" if given else "query"
        call = f"{field['name']}({passed})" if given else field["name"]
        variables = {name: value for name, (_, value) in given.items()}
        return Query(field["name"], f"{head} {{ {call} {selection} }}", variables)

    def _given(self, field: Mapping[str, Any]) -> dict[str, tuple[Any, Any]] | None:
        given = {}
        for argument in field["args"]:
            name = argument["name"]
            for key in (f"{field['name']}.{name}", name):
                if key in self.arguments:
                    given[name] = (argument["type"], self.arguments[key])
                    break
            else:
                if _insists(argument):
                    return None
        return given

    def _selection(self, name: str, path: tuple[str, ...]) -> str | None:
        """What to ask of a type; empty for a plain value, None where nothing can be asked."""
        found = self._types[name]
        if found["kind"] in ("SCALAR", "ENUM"):
            return ""
        if len(path) > self.depth or self._fields > MOST_FIELDS:
            return None
        if path.count(name) > (name in WITHIN_THEMSELVES):
            return None
        members = (
            [name] if found["kind"] == "OBJECT" else [member["name"] for member in found["possibleTypes"]]
        )
        parts = ["__typename"]
        for member in members:
            fields = []
            for field in self._types[member]["fields"]:
                alias = f"{member}__{field['name']}"
                if alias in self._left_out or any(map(_insists, field["args"])):
                    continue
                below = self._selection(_named(field["type"]), (*path, name))
                if below is not None:
                    self._fields += 1
                    fields.append(f"{alias}: {field['name']} {below}")
            if fields:
                parts.append(f"... on {member} {{ {' '.join(fields)} }}")
        return "{ " + " ".join(parts) + " }"


def _culprits(errors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The fields below the root that errors are about."""
    for error in errors:
        names = [part for part in error.get("path", ()) if isinstance(part, str) and "__" in part]
        if names:
            yield names[-1]


def _insists(argument: Mapping[str, Any]) -> bool:
    return argument["type"]["kind"] == "NON_NULL" and argument["defaultValue"] is None


def _named(type_: Mapping[str, Any]) -> str:
    while type_.get("ofType"):
        type_ = type_["ofType"]
    return str(type_["name"])


def _written(type_: Mapping[str, Any]) -> str:
    if type_["kind"] == "NON_NULL":
        return f"{_written(type_['ofType'])}!"
    if type_["kind"] == "LIST":
        return f"[{_written(type_['ofType'])}]"
    return str(type_["name"])
