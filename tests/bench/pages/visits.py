"""Asks for every page of a filled installation again and again, over one connection, as fast as it is answered."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bench.pages.lists import following, variants
from bench.pages.places import Places
from flask import Flask
from support.pages import pages_of

from controller.settings import split_address
from streamswarm import contract
from web.auth.sessions import COOKIE
from web.pages.charts import chart_groups

#: Requests of each page that count, after one that does not; fewer of one that takes so long that it misses the goal anyway,
#: and of one that was so quick each time that it is not among those which decide.
ASKED, ASKED_OF_SLOW, SLOW_MS, ASKED_OF_QUICK, QUICK_MS = 30, 5, 2_000.0, 10, 80.0
#: Pages of rows that are looked through down a list, of which the slowest is measured: the largest tests may stand anywhere.
_DOWN = 250
#: Seconds of a chart.
_RANGES = (300, 86_400, 30 * 86_400)
_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Visit:
    """How long the answers of one page took."""

    path: str
    taken_ms: tuple[float, ...]
    #: Status of the answers; other than 200 the page is not shown.
    status: int

    @property
    def p50_ms(self) -> float:
        """Median."""
        return statistics.median(self.taken_ms)

    @property
    def p95_ms(self) -> float:
        """So much at most of 95 of 100."""
        return statistics.quantiles(self.taken_ms, n=20, method="inclusive")[18]

    @property
    def shown(self) -> tuple[str, float, float]:
        """As the line of figures has it."""
        return self.path, round(self.p50_ms, 1), round(self.p95_ms, 1)


class Visitor:
    """Somebody who is logged in, with one connection that stays open."""

    def __init__(self, address: str, cookie: str = "") -> None:
        host, port = split_address(address, what="the address")
        self._connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)
        self._headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}

    def ask(self, path: str) -> tuple[int, float, str]:
        """Return status, milliseconds to the last byte, and what was answered."""
        # The rows that follow are asked for by a script.
        fragment = {"HX-Request": "true"} if "cursor=" in path else {}
        started = time.perf_counter()
        self._connection.request("GET", path, headers={**self._headers, **fragment})
        answer = self._connection.getresponse()
        body = answer.read()
        return answer.status, (time.perf_counter() - started) * 1000, body.decode()

    def visit(self, path: str) -> Visit:
        """Ask for a page as often as it counts."""
        status, first_ms, _ = self.ask(path)
        statuses, taken = {status}, []
        for asked in range(ASKED_OF_SLOW if first_ms > SLOW_MS else ASKED):
            if asked == ASKED_OF_QUICK and max(taken) < QUICK_MS:
                break
            status, milliseconds, _ = self.ask(path)
            statuses.add(status)
            taken.append(milliseconds)
        return Visit(path=path, taken_ms=tuple(taken), status=max(statuses))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def every_path(app: Flask, visitor: Visitor, places: Iterable[Places]) -> list[str]:
    """Return the paths of all pages and parts of these places, and of lists as they can be asked for."""
    paths = dict.fromkeys(
        path for known in places for parts in (False, True) for path, _ in pages_of(app, known, parts=parts)
    )
    asked = [path for path in paths if not path.endswith(".json")]
    for path in list(asked):
        _, _, page = visitor.ask(path)
        asked += variants(path, page)
        if further := _further(visitor, page):
            asked.append(further)
    return list(dict.fromkeys(asked))


def chart_paths(app: Flask, places: Iterable[Places], now: float) -> list[str]:
    """Return what the charts of these tests ask for, of each range."""
    found = []
    for known in places:
        kind = contract.kind(known["kind"])
        metrics = ",".join(group.first.name for group in chart_groups(kind) if group.main)
        for path, _ in pages_of(app, known, parts=True):
            for seconds in _RANGES if path.endswith(".json") else ():
                asked: dict[str, Any] = {"from": int((now - seconds) * 1000), "to": int(now * 1000)}
                if not path.endswith("/rows.json"):
                    found.append(f"{path}?{urlencode({**asked, 'metrics': metrics})}")
                for child in kind.children if path.endswith("/rows.json") else ():
                    found.append(
                        f"{path}?{urlencode({**asked, 'child': child.name, 'metrics': child.metrics[0].name})}"
                    )
    return list(dict.fromkeys(found))


def _further(visitor: Visitor, page: str) -> str:
    """Return the address of the rows down a list that took longest; empty where nothing follows its first ones."""
    taken: dict[str, float] = {}
    while (path := following(page)) and len(taken) < _DOWN:
        _, taken[path], page = visitor.ask(path)
    return max(taken, key=lambda path: taken[path], default="")


def slowest(visits: Sequence[Visit], most: int = 5) -> list[tuple[str, float, float]]:
    """Return the slowest pages."""
    return [visit.shown for visit in sorted(visits, key=lambda each: -each.p95_ms)[:most]]


def refused(visits: Sequence[Visit]) -> Mapping[str, int]:
    """Return the pages that were not shown, with what was answered."""
    return {visit.path: visit.status for visit in visits if visit.status != 200}
