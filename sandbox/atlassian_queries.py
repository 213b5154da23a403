"""The query languages of Jira and Confluence, as far as documents are searched with them. Both have
the same form; what a condition means is up to the system.

https://support.atlassian.com/jira-software-cloud/docs/use-advanced-search-with-jira-query-language-jql/,
https://developer.atlassian.com/cloud/confluence/advanced-searching-using-cql/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Test = Callable[[Any], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<sign>>=|<=|!=|!~|[=<>~(),])|(?P<word>[^\s()=<>!~,"']+))""",
    re.DOTALL,
)
RESERVED = {"int", "do", "select", "table", "update", "end", "begin", "char", "date", "year", "user"}
"""Some of the words that must stand in quotes."""


class QueryError(ValueError):
    """A query that is not understood, as the vendor words it."""


@dataclass(frozen=True)
class Value:
    """What a field is compared with."""

    text: str
    quoted: bool


@dataclass(frozen=True)
class Condition:
    """`operator` is one of = != > >= < <= ~ !~ in, not in, is, is not."""

    field: str
    operator: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Query:
    """`test` is None where nothing is asked for; `order` holds fields, and whether they descend."""

    test: Test | None
    order: tuple[tuple[str, bool], ...]


def parsed(text: str, meaning: Callable[[Condition], Test]) -> Query:
    """The query. Raises QueryError, as `meaning` may."""
    return _Parser(text, meaning).query()


class _Parser:
    def __init__(self, text: str, meaning: Callable[[Condition], Test]) -> None:
        self._meaning = meaning
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise QueryError(f"Error in the query: expecting something else at character {at + 1}.")
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()

    def query(self) -> Query:
        test = None if self._word("order") or not self._tokens else self._either()
        order: list[tuple[str, bool]] = []
        if self._word("order"):
            self._take("order")
            self._take("by")
            while True:
                field = self._next("word").lower()
                descends = self._word("desc")
                if descends or self._word("asc"):
                    self._tokens.pop(0)
                order.append((field, descends))
                if not self._sign(","):
                    break
                self._take(",")
        if self._tokens:
            raise QueryError(f"Error in the query: '{self._tokens[0][1]}' is not expected.")
        return Query(test, tuple(order))

    def _either(self) -> Test:
        tests = [self._all()]
        while self._word("or"):
            self._take("or")
            tests.append(self._all())
        return lambda row: any(test(row) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._word("and"):
            self._take("and")
            tests.append(self._one())
        return lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        if self._word("not"):
            self._take("not")
            test = self._one()
            return lambda row: not test(row)
        if self._sign("("):
            self._take("(")
            inner = self._either()
            self._take(")")
            return inner
        field = self._next("word").lower()
        operator = self._operator()
        if operator in ("in", "not in"):
            self._take("(")
            values = [self._value()]
            while self._sign(","):
                self._take(",")
                values.append(self._value())
            self._take(")")
        else:
            values = [self._value()]
        return self._meaning(Condition(field, operator, tuple(values)))

    def _operator(self) -> str:
        if self._tokens and self._tokens[0][0] == "sign" and self._tokens[0][1] not in "(),":
            return self._tokens.pop(0)[1]
        first = self._next("word").lower()
        if first == "in":
            return "in"
        if first == "not":
            self._take("in")
            return "not in"
        if first == "is":
            if self._word("not"):
                self._take("not")
                return "is not"
            return "is"
        raise QueryError(f"Error in the query: expecting an operator but got '{first}'.")

    def _value(self) -> Value:
        if self._tokens and self._tokens[0][0] == "string":
            text = self._tokens.pop(0)[1]
            return Value(re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL), True)
        word = self._next("word")
        if word.lower() in RESERVED:
            raise QueryError(f"'{word}' is a reserved word. You must surround it in quotation marks.")
        return Value(word, False)

    def _word(self, word: str) -> bool:
        return bool(self._tokens) and self._tokens[0][0] == "word" and self._tokens[0][1].lower() == word

    def _sign(self, sign: str) -> bool:
        return bool(self._tokens) and self._tokens[0] == ("sign", sign)

    def _take(self, wanted: str) -> None:
        if not self._tokens or self._tokens[0][0] == "string" or self._tokens[0][1].lower() != wanted:
            raise QueryError(f"Error in the query: expecting '{wanted}'.")
        self._tokens.pop(0)

    def _next(self, kind: str) -> str:
        if not self._tokens or self._tokens[0][0] != kind:
            raise QueryError("Error in the query: it ends too early, or something is out of place.")
        return self._tokens.pop(0)[1]
