"""Expressions over a kind's metrics: `rtt_avg_ms < 20 ms and loss_pct == 0`, as `expression_parser` makes them of text.

They are walked; nothing is ever evaluated as code. What was not measured is neither true nor false: the truth of an
expression may be None (Kleene's logic).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from streamswarm.contract import Metric
from streamswarm.targets import shown
from streamswarm.values import shown_number

#: Value of a metric; None where it was not measured.
Value = Union[float, int, bool, None]  # noqa: UP007  a value, and Python 3.10 evaluates it
Truth = Union[bool, None]  # noqa: UP007


class ExpressionError(ValueError):
    """The text is no expression over this kind's metrics; the message says why, `column` where, from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (at column {column})")
        self.column = column


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one run measured."""

    metrics: Mapping[str, Value]
    #: Rows of repeated groups: group → key → metric → value.
    children: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A value that an expression has looked at."""

    #: As the expression names it: `rtt_avg_ms`, `disks["/"].used_pct`.
    name: str
    value: Value
    #: UCUM.
    unit: str

    @property
    def amount(self) -> str:
        """The value with its unit, rounded for people."""
        if self.value is None:
            return "not measured"
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return f"{_rounded(self.value)}{'' if self.unit == '1' else f' {self.unit}'}"

    def __str__(self) -> str:
        return f"{self.name} was {self.amount}"


@dataclass(frozen=True, kw_only=True)
class Selector:
    """The metric that a comparison is about."""

    metric: Metric
    #: Name of the repeated group; empty for a metric of the kind itself.
    group: str = ""
    #: Key of the row; None for every row.
    key: str | None = None

    def readings(self, measured: Measured) -> tuple[Reading, ...]:
        """Return the values that it names; for every row of a group, by key."""
        if not self.group:
            return (self._reading(self.metric.name, measured.metrics),)
        rows = measured.children.get(self.group, {})
        keys = sorted(rows) if self.key is None else [self.key]
        if not keys:
            return (self._reading(f"{self.group}[*].{self.metric.name}", {}),)
        return tuple(
            self._reading(f'{self.group}["{shown(key)}"].{self.metric.name}', rows.get(key, {}))
            for key in keys
        )

    def _reading(self, name: str, values: Mapping[str, Value]) -> Reading:
        return Reading(name=name, value=values.get(self.metric.name), unit=self.metric.unit)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric compared with constants; true when it holds for any of them."""

    selector: Selector
    operator: str
    #: In the metric's own unit.
    values: tuple[float | int | bool, ...]

    def truth(self, measured: Measured) -> Truth:
        """Whether it holds; None when the metric was not measured."""
        compare = OPERATORS[self.operator]
        return _all(
            None if reading.value is None else any(compare(reading.value, value) for value in self.values)
            for reading in self.selector.readings(measured)
        )

    def readings(self, measured: Measured) -> Iterator[Reading]:
        """Yield the values that it looks at."""
        yield from self.selector.readings(measured)


@dataclass(frozen=True, kw_only=True)
class Not:
    """The opposite of an expression."""

    inner: Expression

    def truth(self, measured: Measured) -> Truth:
        """Whether the inner one does not hold."""
        truth = self.inner.truth(measured)
        return None if truth is None else not truth

    def readings(self, measured: Measured) -> Iterator[Reading]:
        """Yield the values that it looks at."""
        yield from self.inner.readings(measured)


@dataclass(frozen=True, kw_only=True)
class Both:
    """Expressions that must all hold."""

    parts: tuple[Expression, ...]

    def truth(self, measured: Measured) -> Truth:
        """Whether all hold."""
        return _all(part.truth(measured) for part in self.parts)

    def readings(self, measured: Measured) -> Iterator[Reading]:
        """Yield the values that it looks at."""
        for part in self.parts:
            yield from part.readings(measured)


@dataclass(frozen=True, kw_only=True)
class Either:
    """Expressions of which one must hold."""

    parts: tuple[Expression, ...]

    def truth(self, measured: Measured) -> Truth:
        """Whether any holds."""
        truths = [part.truth(measured) for part in self.parts]
        if any(truth is True for truth in truths):
            return True
        return None if None in truths else False

    def readings(self, measured: Measured) -> Iterator[Reading]:
        """Yield the values that it looks at."""
        for part in self.parts:
            yield from part.readings(measured)


Expression = Union[Comparison, Not, Both, Either]  # noqa: UP007  Python 3.10 evaluates it


def _all(truths: Iterator[Truth]) -> Truth:
    found = list(truths)
    if any(truth is False for truth in found):
        return False
    return None if None in found else True


def _rounded(value: float | int) -> str:
    if not isinstance(value, float):
        return str(value)
    # Three decimals above one, three figures below it: nothing that a person reads gets lost.
    return shown_number(float(f"{value:.3f}" if abs(value) >= 1 else f"{value:.3g}"))


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
