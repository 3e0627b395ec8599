"""Conditions on a JSON document: `$.status == "ok" && $.items[0].count >= 3`.

They are comparisons of JSONPath (RFC 9535, section 2.3.5.1) between a singular query, which is names and indexes only,
and a literal, joined by `&&`. A query alone demands that there is such a value. Evaluating one takes as many steps as
it has parts, whatever the document.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamswarm.targets import shown

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = ("<", "<=", ">", ">=")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<name>\.[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)
      | \[\s*(?P<index>-?(?:0|[1-9][0-9]{0,8}))\s*\]
      | \[\s*(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*\]
      | (?P<root>\$)
      | (?P<joined>&&)
      | (?P<operator>==|!=|<=|>=|<|>)
      | (?P<literal>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)
    )\s*""",
    re.VERBOSE,
)
_NOTHING = object()


class ConditionError(ValueError):
    """The text is no condition; the message says where and what is expected."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One comparison."""

    #: The query as it was written.
    query: str
    #: Names and indexes that lead to the value.
    steps: tuple[str | int, ...]
    #: One of `==`, `!=`, `<`, `<=`, `>`, `>=`; None demands only that the value is there.
    operator: str | None
    literal: Any = None

    def problem(self, document: Any) -> str:
        """Return why the document does not fulfil this, or the empty text."""
        value = self._find(document)
        if self.operator is None:
            return f"`{shown(self.query)}` is not there" if value is _NOTHING else ""
        if _holds(value, self.operator, self.literal):
            return ""
        found = "is not there" if value is _NOTHING else f"is {shown(_as_json(value))}"
        return (
            f"`{shown(self.query)}` {found}; the test wants {self.operator} {shown(_as_json(self.literal))}"
        )

    def _find(self, document: Any) -> Any:
        value = document
        for step in self.steps:
            if isinstance(step, str):
                value = value.get(step, _NOTHING) if isinstance(value, dict) else _NOTHING
            elif isinstance(value, list) and -len(value) <= step < len(value):
                value = value[step]
            else:
                return _NOTHING
            if value is _NOTHING:
                return _NOTHING
        return value


def parse(text: str) -> tuple[Condition, ...]:
    """Return the conditions of a text; raises ConditionError."""
    tokens = list(_tokens(text))
    conditions: list[Condition] = []
    while True:
        conditions.append(_parse_one(text, tokens))
        if not tokens:
            return tuple(conditions)
        kind, _value, column, _end = tokens.pop(0)
        if kind != "joined":
            raise ConditionError(f"column {column}: expected `&&` or the end")


def _tokens(text: str) -> list[tuple[str, str, int, int]]:
    """Return (kind, text, column from 1, end) of every token."""
    found: list[tuple[str, str, int, int]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise ConditionError(
                f"column {position + 1}: `{shown(text[position:], 30)}` is neither a path such as `$.a.b[0]`, a comparison, "
                'nor a value such as `"ok"`, `3`, `true`'
            )
        found.append((match.lastgroup, match[match.lastgroup], match.start() + 1, match.end()))
        position = match.end()
    return found


def _parse_one(text: str, tokens: list[tuple[str, str, int, int]]) -> Condition:
    if not tokens or tokens[0][0] != "root":
        column = tokens[0][2] if tokens else len(text) + 1
        raise ConditionError(f"column {column}: a condition begins with `$`, the whole document")
    _kind, _value, column, end = tokens.pop(0)
    steps: list[str | int] = []
    while tokens and tokens[0][0] in ("name", "index", "quoted"):
        kind, value, _column, end = tokens.pop(0)
        steps.append(
            value[1:] if kind == "name" else int(value) if kind == "index" else _string(value, _column)
        )
    query = text[column - 1 : end].strip()
    if not tokens or tokens[0][0] != "operator":
        return Condition(query=query, steps=tuple(steps), operator=None)
    sign, sign_column = tokens[0][1], tokens[0][2]
    tokens.pop(0)
    if not tokens or tokens[0][0] != "literal":
        raise ConditionError(f'column {sign_column}: `{sign}` wants a value after it, such as `"ok"` or `3`')
    _kind, value, column, _end = tokens.pop(0)
    literal = _string(value, column) if value[0] in "\"'" else json.loads(value)
    return Condition(query=query, steps=tuple(steps), operator=sign, literal=literal)


def _string(text: str, column: int) -> str:
    if text[0] == "'":
        swapped = {"\\'": "'", '"': '\\"'}
        inner = re.sub(r'\\.|"', lambda match: swapped.get(match[0], match[0]), text[1:-1])
        text = f'"{inner}"'
    try:
        return str(json.loads(text, strict=False))
    except ValueError as error:
        raise ConditionError(f"column {column}: {shown(text)} is no text: {error}") from error


def _holds(value: Any, sign: str, literal: Any) -> bool:
    """Compare as RFC 9535 does: values of different types are unequal and in no order, nothing equals no literal."""
    if value is _NOTHING:
        return sign == "!="
    if not _comparable(value, literal):
        return sign == "!="
    if sign in _ORDERED and (literal is None or isinstance(literal, bool)):
        return sign in ("<=", ">=") and value == literal
    return _OPERATORS[sign](value, literal)


def _comparable(value: Any, literal: Any) -> bool:
    if isinstance(literal, bool) or isinstance(value, bool):
        return isinstance(literal, bool) and isinstance(value, bool)
    if isinstance(literal, int | float):
        return isinstance(value, int | float)
    return type(value) is type(literal)


def _as_json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"
    return text if len(text) <= 80 else f"{text[:79]}…"
