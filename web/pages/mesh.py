"""The page that shows who measures whom as a matrix: workers by destinations, each cell the newest run of a pair."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from flask import render_template, request, url_for

from controller.store.queries import matrices
from controller.store.queries.matrices import Matrix, Pair
from streamswarm import contract
from streamswarm.contract import Kind, Metric
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import is_fragment
from web.pages.formatting import clock, quantity
from web.pages.states import run_state, test_look

#: Begins the tags of what `streamswarm fleet mesh` has made: these are offered first.
_MESH = "mesh:"
#: Steps of the shade that tells a small value from a large one.
_SHADES = 5
#: The worse state of a pair that several tests measure is the one that is shown.
_GRAVITY = ("failed", "error", "stale", "missed", "ok", "waiting", "drained", "paused")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one worker last measured of one destination."""

    state: str
    #: How the newest run ended, of a pair that is silent since; empty unless it failed or could not be measured.
    last: str
    text: str
    #: 0 for the smallest value of the matrix to 4 for the largest; None where nothing was measured.
    shade: int | None
    href: str
    #: All of it in words, for titles and screen readers.
    label: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A worker with its cells, in the order of the columns; None where it does not measure a destination."""

    name: str
    href: str
    cells: tuple[Cell | None, ...]


@blueprint.get("/mesh", endpoint="mesh")
@requires("viewer")
def mesh_page() -> str:
    """Show a matrix; a fragment answers another choice, and draws it anew."""
    kinds = {name: kind for name, kind in contract.kinds().items() if kind.target != "none"}
    with transaction() as session:
        known = matrices.tags(session)
        tag, kind = _choice(known, kinds)
        metrics = [metric for metric in kind.metrics if metric.type in ("number", "integer")]
        metric = next((one for one in metrics if one.name == request.args.get("metric")), kind.headline)
        matrix = matrices.read(session, kind.name, metric.name, tag=tag)
    names = dict.fromkeys(name for name, _ in known)
    return render_template(
        "mesh/matrix.html" if is_fragment() else "mesh/page.html",
        tag=tag,
        kind=kind,
        metric=metric,
        metrics=metrics,
        kinds=kinds,
        tags=sorted(names, key=lambda name: (not name.startswith(_MESH), name)),
        matrix=matrix,
        rows=rows_of(matrix, metric, dt.datetime.now(dt.UTC)),
    )


def rows_of(matrix: Matrix, metric: Metric, now: dt.datetime) -> list[Row]:
    """Return the rows of a matrix."""
    values = [pair.value for pair in matrix.pairs if pair.value is not None]
    span = (min(values), max(values)) if values else (0.0, 0.0)
    names, titles = dict(matrix.workers), dict(matrix.destinations)
    # One for each test: there may be ten thousand cells.
    pages = {
        test_id: url_for("pages.test", test_id=test_id) for test_id in {pair.test.id for pair in matrix.pairs}
    }
    cells: dict[uuid.UUID, dict[int, Cell]] = {worker: {} for worker in names}
    for pair in matrix.pairs:
        name = f"{names[pair.worker_id]} → {titles[pair.destination_id]}"
        cell = _cell(pair, name, metric, span, pages[pair.test.id], now)
        of_worker = cells[pair.worker_id]
        known = of_worker.get(pair.destination_id)
        if known is None or _gravity(cell) < _gravity(known):
            of_worker[pair.destination_id] = cell
    return [
        Row(
            name=name,
            href=url_for("pages.worker", worker_id=worker),
            cells=tuple(cells[worker].get(place) for place in titles),
        )
        for worker, name in matrix.workers
    ]


def _gravity(cell: Cell) -> tuple[int, int]:
    return _GRAVITY.index(cell.state), _GRAVITY.index(cell.last or "ok")


def _cell(
    pair: Pair, name: str, metric: Metric, span: tuple[float, float], page: str, now: dt.datetime
) -> Cell:
    look = test_look(pair.test, pair.standing, now)
    last, word = "", look.word
    if look.state == "stale" and look.last_at is not None:
        word = f"{look.word} since {clock(look.last_at)}"
        if pair.status in ("failed", "error"):
            last, ended = run_state(pair.status)
            word = f"{ended} when last heard, {word}"
    text = quantity(pair.value, metric.unit)
    return Cell(
        state=look.state,
        last=last,
        text=text,
        shade=None if pair.value is None else _shade(pair.value, span),
        href=f"{page}?worker={pair.worker_id}&destination={pair.destination_id}",
        label=f"{name}: {word}, {metric.label} {text} ({pair.test.name})",
    )


def _shade(value: float, span: tuple[float, float]) -> int:
    low, high = span
    return 0 if high <= low else min(_SHADES - 1, int(_SHADES * (value - low) / (high - low)))


def _choice(known: Sequence[tuple[str, str]], kinds: dict[str, Kind]) -> tuple[str, Kind]:
    """Return tag and kind that are asked for; at first those of a mesh, or else all tests of the first kind."""
    asked_kind = kinds.get(request.args.get("kind", ""))
    if "tag" in request.args or asked_kind is not None:
        tag = request.args.get("tag", "").strip()
        of_tag = [kinds[kind] for name, kind in known if name == tag and kind in kinds]
        if asked_kind is not None and (asked_kind in of_tag or not of_tag):
            return tag, asked_kind
        return tag, next(iter(of_tag or kinds.values()))
    for tag, kind in known:
        if tag.startswith(_MESH) and kind in kinds:
            return tag, kinds[kind]
    return "", next(iter(kinds.values()))
