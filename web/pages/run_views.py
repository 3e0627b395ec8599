"""What a run has measured as pictures: the phases as a waterfall, the way as a graph, the course of a transfer.

Pure: from metrics and detail to geometry; templates write the SVG. Workers write details as they like, so whatever
does not have the expected shape is no picture, and stands among the rest of the detail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamswarm.contract import Child, Kind, Metric
from web.pages.formatting import quantity

#: The group of metrics that follow each other in time, in the order of the contract.
PHASES = "Phases"
#: Colours there are for phases and lines.
_COLOURS = 8
_ROW, _COLUMN, _NODE = 56, 40, 8
_CHART_WIDTH, _CHART_HEIGHT = 600, 110
#: Suffix of a column's name → its unit, UCUM.
_SUFFIXES = {"_ms": "ms", "_bytes": "By", "bytes": "By", "_pct": "%"}
#: Names of columns that are not written as words.
_CAPITALS = {"rtt": "RTT"}
#: What is longer, or larger, was never measured.
_LONGEST_MS, _LARGEST = 1e9, 1e18
#: Of more hops, alternatives or points nobody could make anything.
_MOST_HOPS, _MOST_NODES, _MOST_POINTS = 64, 8, 1000


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a waterfall; places in percent of the whole."""

    label: str
    description: str
    text: str
    x: float
    width: float
    colour: int


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """Phases that follow each other, of one request."""

    title: str
    total: str
    phases: tuple[Phase, ...]


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One step of the way: who answered there, and how fast."""

    ttl: str
    #: Address and name of each who answered; empty for a silent hop.
    routers: tuple[tuple[str, str], ...]
    #: Fastest and slowest answer in words; empty for a silent hop.
    text: str
    #: Left edge and width of the span of its round-trip times, in percent of the slowest of the way.
    x: float
    width: float
    lost: int
    sent: int


@dataclass(frozen=True, kw_only=True)
class Path:
    """The way as a graph: a row for each hop, a node for each who answered, a line for each flow."""

    width: int
    height: int
    row: int
    hops: tuple[Hop, ...]
    #: `d` of each line between hops that follow each other.
    lines: tuple[str, ...]
    #: Middle of each node, and whether anybody answered there.
    nodes: tuple[tuple[float, float, bool], ...]
    radius: int
    slowest: str


@dataclass(frozen=True, kw_only=True)
class Course:
    """One figure over the time of a transfer."""

    label: str
    top: str
    last: str
    path: str
    width: int
    height: int
    colour: int


def waterfalls(
    kind: Kind, metrics: Mapping[str, Any], children: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> tuple[Waterfall, ...]:
    """Return a waterfall for each request that the run made; none where fewer than two phases were measured."""
    found: list[Waterfall] = []
    for child in kind.children:
        for key, row in children.get(child.name, {}).items():
            drawn = _waterfall(f"{child.key.capitalize()} {key}", child, row)
            if drawn is not None:
                found.append(drawn)
    if not found:
        drawn = _waterfall("", kind, metrics)
        if drawn is not None:
            found.append(drawn)
    return tuple(found)


def path(detail: Mapping[str, Any]) -> Path | None:
    """Return the graph of `hops` in the shape of RIPE Atlas; None when the detail has none."""
    try:
        told = [(str(hop["hop"]), list(hop["result"])) for hop in detail["hops"]][:_MOST_HOPS]
        answers = [[_answer(one) for one in results] for _, results in told]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    times = [rtt for hop in answers for _, _, rtt, _ in hop if rtt is not None]
    if not told or not any(address for hop in answers for address, _, _, _ in hop):
        return None
    slowest = max(times, default=0.0) or 1.0
    hops: list[Hop] = []
    nodes: list[tuple[float, float, bool]] = []
    lines: list[str] = []
    before: dict[int, float] = {}
    before_y = 0.0
    most = (
        max(min(_MOST_NODES, len({address for address, _, _, _ in hop if address})) for hop in answers) or 1
    )
    for number, ((ttl, _), hop) in enumerate(zip(told, answers, strict=True)):
        routers = {address: name for address, name, _, _ in hop if address}
        places = list(routers)[:_MOST_NODES]
        y = number * _ROW + _ROW / 2
        across = {address: _COLUMN * (index + 0.5) for index, address in enumerate(places)}
        now: dict[int, float] = {}
        for address, _, _, flow in hop:
            if address in across:
                now[flow] = across[address]
            elif flow not in now:
                now[flow] = _COLUMN * 0.5
        lines += dict.fromkeys(
            f"M{before[flow]:g} {before_y:g}L{x:g} {y:g}" for flow, x in now.items() if flow in before
        )
        nodes += [(x, y, True) for x in across.values()] or [(_COLUMN * 0.5, y, False)]
        before, before_y = now, y
        rtts = [rtt for _, _, rtt, _ in hop if rtt is not None]
        hops.append(
            Hop(
                ttl=ttl,
                routers=tuple(routers.items()),
                text=_between(rtts),
                x=round(100 * min(rtts, default=0.0) / slowest, 2),
                width=round(max(1.0, 100 * (max(rtts, default=0.0) - min(rtts, default=0.0)) / slowest), 2),
                lost=sum(not address for address, _, _, _ in hop),
                sent=len(hop),
            )
        )
    return Path(
        width=_COLUMN * most,
        height=_ROW * len(hops),
        row=_ROW,
        hops=tuple(hops),
        lines=tuple(lines),
        nodes=tuple(nodes),
        radius=_NODE,
        slowest=quantity(slowest, "ms"),
    )


def courses(detail: Mapping[str, Any]) -> tuple[str, tuple[Course, ...]]:
    """Return how long the `timeline` of a transfer is, and each of its figures as a line; nothing without one."""
    timeline = detail.get("timeline")
    if not isinstance(timeline, Mapping):
        return "", ()
    times = _numbers(timeline.get("t_ms"))
    if len(times) < 2 or any(time is None for time in times):
        return "", ()
    found: list[Course] = []
    for name, column in timeline.items():
        values = _numbers(column)
        if name == "t_ms" or len(values) != len(times) or not any(value is not None for value in values):
            continue
        known = [value for value in values if value is not None]
        unit = next((unit for suffix, unit in _SUFFIXES.items() if name.endswith(suffix)), "1")
        top = max(known) or 1.0
        label = name.removesuffix("_ms").removesuffix("_bytes").replace("_", " ")
        found.append(
            Course(
                label=_CAPITALS.get(label, label.capitalize()),
                top=quantity(max(known), unit),
                last=quantity(known[-1], unit),
                path=_line(times, values, top),
                width=_CHART_WIDTH,
                height=_CHART_HEIGHT,
                colour=len(found) % _COLOURS + 1,
            )
        )
    return quantity(times[-1], "ms"), tuple(found)


def _waterfall(title: str, source: Kind | Child, values: Mapping[str, Any]) -> Waterfall | None:
    phases: list[tuple[Metric, float]] = [
        (metric, float(values[metric.name]))
        for metric in source.metrics
        if metric.group == PHASES and metric.unit == "ms" and values.get(metric.name) is not None
    ]
    total = sum(length for _, length in phases)
    if len(phases) < 2 or total <= 0:
        return None
    at = 0.0
    drawn: list[Phase] = []
    for number, (metric, length) in enumerate(phases):
        drawn.append(
            Phase(
                label=metric.label,
                description=metric.description,
                text=quantity(length, "ms"),
                x=round(100 * at / total, 2),
                width=round(max(0.4, 100 * length / total), 2),
                colour=number % _COLOURS + 1,
            )
        )
        at += length
    return Waterfall(title=title, total=quantity(total, "ms"), phases=tuple(drawn))


def _answer(one: Mapping[str, Any]) -> tuple[str, str, float | None, int]:
    """Return address, name, round-trip time and flow of an answer; no address when none came."""
    rtt = one.get("rtt")
    if rtt is not None and not 0 <= float(rtt) < _LONGEST_MS:
        raise ValueError("no round-trip time")
    return (
        str(one.get("from") or ""),
        str(one.get("name") or ""),
        None if rtt is None else float(rtt),
        int(one.get("flow") or 0),
    )


def _between(rtts: Sequence[float]) -> str:
    if not rtts:
        return ""
    low, high = quantity(min(rtts), "ms"), quantity(max(rtts), "ms")
    return low if low == high else f"{low} to {high}"


def _numbers(column: Any) -> list[float | None]:
    if not isinstance(column, list) or len(column) > _MOST_POINTS:
        return []
    fine = all(
        value is None or (isinstance(value, int | float) and 0 <= value < _LARGEST) for value in column
    )
    return [None if value is None else float(value) for value in column] if fine else []


def _line(times: Sequence[float | None], values: Sequence[float | None], top: float) -> str:
    """Return the `d` of a line that lifts the pen where nothing was measured."""
    length = max(time or 0.0 for time in times) or 1.0
    parts: list[str] = []
    down = False
    for time, value in zip(times, values, strict=True):
        if value is None:
            down = False
            continue
        x, y = _CHART_WIDTH * (time or 0.0) / length, _CHART_HEIGHT - 2 - (_CHART_HEIGHT - 6) * value / top
        parts.append(f"{'L' if down else 'M'}{x:.1f} {y:.1f}")
        down = True
    return "".join(parts)
