"""The page to read about a kind, made of what stands beside its messages and fields in the contract.

One source for the pages below docs/reference/kinds and for the dashboard's help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamswarm.contract import Child, Kind, Metric
from streamswarm.values import Parameter, shown_number

_TARGETS = {
    "host": "a host name or an address",
    "host_or_network": "a host name, an address, or a network such as `192.0.2.0/24`",
    "host_port": "a host name or an address, with or without a port",
    "url": "an `http` or `https` URL",
    "none": "nothing: a test of this kind looks at the worker's own host and has no destination",
}
_BETTER = {"lower": "lower", "higher": "higher", "neither": ""}
_LAYERS = {
    "resolver": "the resolution of names",
    "path": "the network path",
    "target": "the destination",
    "vantage": "the worker's host",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of a page; the first column holds names as they stand in suites, columns and the API."""

    title: str
    #: What is to be said before it, or empty.
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that there is to read about one kind. Texts may have words between backticks, which are code."""

    name: str
    title: str
    #: One sentence.
    summary: str
    paragraphs: tuple[str, ...]
    parameters: tuple[Table, ...]
    metrics: tuple[Table, ...]


def page(kind: Kind) -> Page:
    """Return the page of a kind."""
    return Page(
        name=kind.name,
        title=kind.label,
        summary=kind.description,
        paragraphs=tuple(_paragraphs(kind)),
        parameters=tuple(_parameter_tables(kind)),
        metrics=(*_metric_tables(kind.metrics), *map(_child_table, kind.children)),
    )


def _paragraphs(kind: Kind) -> Iterator[str]:
    yield from filter(None, kind.manual.split("\n\n"))
    yield f"It aims at {_TARGETS.get(kind.target, kind.target)}."
    headline = kind.headline
    yield f"In lists and on overviews `{headline.name}` ({headline.label}) stands for it."


def _parameter_tables(kind: Kind) -> Iterator[Table]:
    for title, advanced in (("Parameters", False), ("Further parameters", True)):
        rows = tuple(_parameter(item) for item in kind.parameters if item.advanced is advanced)
        if rows:
            columns = ("parameter", "label", "unit", "default", "values", "what it does")
            yield Table(title=title, text="", columns=columns, rows=rows)


def _parameter(item: Parameter) -> tuple[str, ...]:
    return (
        item.name,
        item.label,
        item.unit,
        _default(item),
        ", ".join(_values(item)),
        " ".join(_said(item)),
    )


def _said(item: Parameter) -> Iterator[str]:
    yield item.description
    name, _, wanted = item.regular_expression.partition("=")
    if name:
        when = f"With `{name}: {wanted}` it is a regular expression, which" if wanted else "It"
        yield f"{when} is checked where the test is made: an expression that workers cannot use is refused."


def _default(item: Parameter) -> str:
    if item.default in (None, "", []):
        return ""
    values = item.default if isinstance(item.default, list) else [item.default]
    return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def _values(item: Parameter) -> Iterator[str]:
    if item.repeated:
        yield "a list"
    if item.choices:
        yield f"one of {', '.join(item.choices)}" if not item.repeated else f"of {', '.join(item.choices)}"
    elif item.type == "boolean":
        yield "true or false"
    elif item.min is not None or item.max is not None:
        yield _range(item)


def _range(item: Parameter) -> str:
    words = " characters" if item.type == "string" else ""
    if item.min is None:
        return f"up to {shown_number(item.max or 0)}{words}"
    if item.max is None:
        return f"from {shown_number(item.min)}{words}"
    return f"{shown_number(item.min)} to {shown_number(item.max)}{words}"


def _metric_tables(metrics: Iterable[Metric]) -> Iterator[Table]:
    groups: dict[str, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(metric.group, []).append(metric)
    for group, members in groups.items():
        yield _metric_table(group, "", members)


def _child_table(child: Child) -> Table:
    text = f"One row for each `{child.key}`."
    title = child.name.replace("_", " ").capitalize()
    return _metric_table(title, f"{child.manual} {text}".strip(), child.metrics)


def _metric_table(title: str, text: str, metrics: Iterable[Metric]) -> Table:
    return Table(
        title=title,
        text=text,
        columns=("metric", "label", "unit", "better", "what it is", "defined by"),
        rows=tuple(
            (
                metric.name,
                metric.label,
                metric.unit if metric.unit != "1" else "",
                _BETTER[metric.better],
                " ".join(_described(metric)),
                metric.reference,
            )
            for metric in metrics
        ),
    )


def _described(metric: Metric) -> Iterator[str]:
    yield metric.description
    if metric.layer in _LAYERS:
        yield f"Diagnosis takes it as a sign of {_LAYERS[metric.layer]}."
    if metric.distribution:
        yield "Percentiles over time are kept."
    if metric.event:
        how = "true" if metric.type == "boolean" else "another one than in the run before"
        yield f"When it is {how}, charts and the API tell the event *{metric.event}*."
