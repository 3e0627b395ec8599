"""Makes expressions of text.

The grammar:

    expression  = term { "or" term }
    term        = factor { "and" factor }
    factor      = "not" factor | "(" expression ")" | comparison
    comparison  = metric [ operator value | "in" "(" value { "," value } ")" ]
    metric      = name | group "[" ( text | "*" ) "]" "." name
    operator    = "<" | "<=" | ">" | ">=" | "==" | "!="
    value       = number [ unit ] | "true" | "false"

A metric alone must be a boolean one. A unit after a number is checked against the metric's and converted (`0.2 s` for a
metric in `ms`). `disks["/"].used_pct` is one row of a repeated group, `disks[*].used_pct` stands for each of its rows.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

from streamswarm.contract import Kind, Metric
from streamswarm.expressions import (
    OPERATORS,
    Both,
    Comparison,
    Either,
    Expression,
    ExpressionError,
    Not,
    Selector,
)
from streamswarm.targets import shown

MAX_LENGTH = 1000
_MOST_TOKENS = 200
_DEEPEST = 20

#: Units that can be converted into each other, by their size; UCUM, with the words that people write.
_DIMENSIONS: tuple[dict[str, float], ...] = (
    {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0},
    {"By": 1.0, "B": 1.0, "kBy": 1e3, "kB": 1e3, "MBy": 1e6, "MB": 1e6, "GBy": 1e9, "GB": 1e9,
     "KiBy": 2.0**10, "KiB": 2.0**10, "MiBy": 2.0**20, "MiB": 2.0**20, "GiBy": 2.0**30, "GiB": 2.0**30},
    {"By/s": 1.0, "kBy/s": 1e3, "MBy/s": 1e6, "GBy/s": 1e9,
     "bit/s": 0.125, "kbit/s": 125.0, "Mbit/s": 125e3, "Gbit/s": 125e6},
)  # fmt: skip

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<sign><=|>=|==|!=|<|>|\(|\)|\[|\]|\.|,|\*|%|/|=|&&|\|\||!)
    )""",
    re.VERBOSE | re.ASCII,
)
_INSTEAD = {"=": "==", "&&": "and", "||": "or", "!": "not"}
_WORDS = ("and", "or", "not", "in", "true", "false")


def parse(text: str, kind: Kind) -> Expression:
    """Return the expression that the text is; raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"has {len(text)} characters; {MAX_LENGTH} is the most", MAX_LENGTH)
    return _Parser(text, kind).whole()


@dataclass(frozen=True, kw_only=True)
class _Token:
    #: `number`, `name`, `text`, `sign` or `end`.
    sort: str
    text: str
    #: From 1.
    column: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ExpressionError(f"`{shown(text[at:], 20)}` is not understood", at + 1)
        sort = match.lastgroup or ""
        found.append(_Token(sort=sort, text=match[sort], column=match.start(sort) + 1))
        if len(found) > _MOST_TOKENS:
            raise ExpressionError(f"has more than {_MOST_TOKENS} words and signs", found[-1].column)
        at = match.end()
    return [*found, _Token(sort="end", text="", column=len(text) + 1)]


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, kind: Kind) -> None:
        self._kind = kind
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Expression:
        if self._next.sort == "end":
            raise ExpressionError(f"is empty; write something like `{self._example()}`", 1)
        expression = self._either()
        if self._next.sort != "end":
            token = self._take()
            raise ExpressionError(
                f"`{shown(token.text)}` is not expected here; join comparisons with `and` or `or`",
                token.column,
            )
        return expression

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        if token.sort == "sign" and token.text in _INSTEAD:
            raise ExpressionError(
                f"`{token.text}` is no operator here; write `{_INSTEAD[token.text]}`", token.column
            )
        self._at += token.sort != "end"
        return token

    def _took(self, text: str) -> bool:
        """Take the next token when it is that word or sign."""
        if self._next.sort in ("name", "sign") and self._next.text == text:
            self._take()
            return True
        return False

    def _require(self, text: str, why: str) -> None:
        token = self._next
        if not self._took(text):
            raise ExpressionError(f"`{text}` is missing {why}", token.column)

    def _either(self) -> Expression:
        parts = [self._both()]
        while self._took("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(parts=tuple(parts))

    def _both(self) -> Expression:
        parts = [self._factor()]
        while self._took("and"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else Both(parts=tuple(parts))

    def _factor(self) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ExpressionError(f"is nested more than {_DEEPEST} deep", self._next.column)
        try:
            if self._took("not"):
                return Not(inner=self._factor())
            if self._took("("):
                inner = self._either()
                self._require(")", "after this")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Expression:
        selector = self._selector()
        metric = selector.metric
        if self._took("in"):
            self._require("(", "after `in`")
            values = [self._value(metric)]
            while self._took(","):
                values.append(self._value(metric))
            self._require(")", "after the last value")
            return Comparison(selector=selector, operator="==", values=tuple(values))
        if self._next.text in OPERATORS:
            sign = self._take()
            if metric.type == "boolean" and sign.text not in ("==", "!="):
                raise ExpressionError(f"`{metric.name}` is true or false; compare it with `==`", sign.column)
            return Comparison(selector=selector, operator=sign.text, values=(self._value(metric),))
        if metric.type != "boolean":
            sign = self._take() if self._next.text in _INSTEAD else self._next
            raise ExpressionError(
                f"`{metric.name}` is a number; compare it, for example `{metric.name} < 20`",
                sign.column,
            )
        return Comparison(selector=selector, operator="==", values=(True,))

    def _selector(self) -> Selector:
        token = self._take()
        if token.sort != "name" or token.text in _WORDS:
            said = f"`{shown(token.text)}` stands" if token.text else "nothing stands"
            raise ExpressionError(
                f"{said} where a metric of `{self._kind.name}` must, as in `{self._example()}`", token.column
            )
        if self._took("["):
            return self._row(token)
        known = {metric.name: metric for metric in self._kind.metrics}
        if token.text not in known:
            raise ExpressionError(self._unknown(token.text, list(known)), token.column)
        return Selector(metric=known[token.text])

    def _row(self, group: _Token) -> Selector:
        children = {child.name: child for child in self._kind.children}
        if group.text not in children:
            raise ExpressionError(
                f"`{group.text}` is no group of rows of `{self._kind.name}`"
                + (f"; there are {', '.join(children)}" if children else ", which has none"),
                group.column,
            )
        token = self._take()
        if token.sort != "text" and token.text != "*":
            raise ExpressionError('a row is named in quotes, as `["/"]`, or by `[*]` for all', token.column)
        self._require("]", "after the row")
        self._require(".", "between the row and its metric")
        name = self._take()
        known = {metric.name: metric for metric in children[group.text].metrics}
        if name.text not in known:
            raise ExpressionError(self._unknown(name.text, list(known)), name.column)
        key = None if token.text == "*" else token.text[1:-1]
        return Selector(metric=known[name.text], group=group.text, key=key)

    def _value(self, metric: Metric) -> float | int | bool:
        token = self._take()
        if token.sort == "name" and token.text in ("true", "false"):
            if metric.type != "boolean":
                raise ExpressionError(f"`{metric.name}` is a number, not true or false", token.column)
            return token.text == "true"
        if token.sort != "number":
            said = f"`{shown(token.text)}`" if token.text else "nothing"
            raise ExpressionError(f"{said} stands where a number must", token.column)
        if metric.type == "boolean":
            raise ExpressionError(f"`{metric.name}` is true or false, not a number", token.column)
        number = float(token.text)
        if not math.isfinite(number):
            raise ExpressionError(f"`{shown(token.text)}` is too large", token.column)
        unit = self._unit()
        if unit is not None:
            number *= _factor_between(unit, metric)
        return number

    def _unit(self) -> _Token | None:
        """Take the unit behind a number, if there is one: `ms`, `%`, `Mbit/s`."""
        token = self._next
        if token.text == "%":
            return self._take()
        metrics = (metric.name for metric in self._kind.metrics)
        if token.sort != "name" or token.text in (*_WORDS, *metrics):
            return None
        self._take()
        if self._next.text != "/":
            return token
        self._take()
        return _Token(sort="name", text=f"{token.text}/{self._take().text}", column=token.column)

    def _unknown(self, name: str, known: list[str]) -> str:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(known)}"
        return f"`{shown(name)}` is not a metric of `{self._kind.name}`; {hint}"

    def _example(self) -> str:
        metric = self._kind.headline
        return f"{metric.name} < 20" + ("" if metric.unit == "1" else f" {metric.unit}")


def _factor_between(unit: _Token, metric: Metric) -> float:
    """Return what a number in that unit is multiplied with to be in the metric's."""
    if unit.text == metric.unit:
        return 1.0
    for sizes in _DIMENSIONS:
        if unit.text in sizes and metric.unit in sizes:
            return sizes[unit.text] / sizes[metric.unit]
    said = "has no unit" if metric.unit == "1" else f"is in {metric.unit}"
    raise ExpressionError(f"the unit `{shown(unit.text)}` is wrong: `{metric.name}` {said}", unit.column)
