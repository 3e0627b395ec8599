"""Destinations and thousands of tests of every kind: a few with thousands of lines, a mesh, and what people make day by day."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from streamswarm import contract
from streamswarm.contract import Kind

#: Lines of each kind whose past is made result by result; that of all others is copied from theirs.
PATTERNS = 16
#: Seconds between runs: of most tests, and of those that are watched closely. All divide an hour.
SLOW_S, QUICK_S = 300, 60
MESH_TAG = "mesh:core:ping"
#: How many of a hundred tests are of a kind; a kind that is not named has one.
_SHARES = {"ping": 40, "tcp": 12, "dns": 12, "http": 12, "traceroute": 6, "tls": 6, "mtu": 4, "system": 4}
_TEAMS = ("network", "voice", "shop", "storage", "office")
_SEED = 20_260_329


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A test as its row has it."""

    id: int
    name: str
    kind: str
    destinations: tuple[int, ...]
    selection: dict[str, Any]
    tags: list[str] = field(default_factory=list)
    interval_s: float | None = SLOW_S
    cron: str = ""
    paused: bool = False
    starts_at: dt.datetime | None = None
    ends_at: dt.datetime | None = None
    recurrence: str = "continue"
    #: The test that made this one, and for when.
    origin_id: int | None = None
    origin_at: dt.datetime | None = None
    created_at: dt.datetime


@dataclass(kw_only=True)
class Definitions:
    """All that is defined."""

    tests: list[Definition] = field(default_factory=list)
    #: Test of each kind and interval whose lines the others are copied from.
    patterns: dict[tuple[str, int], int] = field(default_factory=dict)
    #: The test that all workers run, and the destination that most tests aim at.
    everywhere: int = 0
    hub: int = 0
    mesh: list[int] = field(default_factory=list)
    #: Those that another test has made for one run each.
    once: list[int] = field(default_factory=list)
    ordinary: list[int] = field(default_factory=list)


class Maker:
    """Makes definitions; the same each time."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        workers: Sequence[uuid.UUID],
        *,
        now: dt.datetime,
        days: int,
    ) -> None:
        self._connection = connection
        self._workers = [str(worker) for worker in workers]
        self._chance = random.Random(_SEED)
        self._now = now
        self._first_day = now - dt.timedelta(days=days + 1)
        self._numbers = itertools.count(1)
        self._places: dict[str, list[int]] = {"none": []}
        self.made = Definitions()

    def make(self, tests: int) -> Definitions:
        """Make so many tests, and their destinations."""
        self._make_destinations(max(PATTERNS, tests // 5))
        self._make_patterns()
        self._make_wide()
        self._make_mesh(max(3, min(50, len(self._workers) // 10)))
        self._make_once(tests // 50)
        kinds = [kind for name, kind in contract.kinds().items() for _ in range(_SHARES.get(name, 1))]
        while len(self.made.tests) < tests:
            self._make_ordinary(self._chance.choice(kinds))
        self._store()
        return self.made

    def _make_destinations(self, count: int) -> None:
        forms = {
            "host": "gate-{0:04}.example.net",
            "host_port": "service-{0:04}.example.net:443",
            "url": "https://shop-{0:04}.example.net/",
        }
        rows = []
        for number, (form, address) in zip(
            range(1, 3 * count + 1), itertools.cycle(forms.items()), strict=False
        ):
            self._places.setdefault(form, []).append(number)
            rows.append(
                (
                    number,
                    address.format(number).split("/")[-2 if form == "url" else 0],
                    address.format(number),
                )
            )
        self._places["host_or_network"] = self._places["host"]
        with (
            self._connection.cursor() as cursor,
            cursor.copy("COPY destinations (id, name, address, tags, description) FROM STDIN") as copy,
        ):
            for number, name, address in rows:
                copy.write_row(
                    (
                        number,
                        name,
                        address,
                        Jsonb([_TEAMS[number % 5]]),
                        f"Watched for the {_TEAMS[number % 5]} team.",
                    )
                )

    def _add(self, **values: Any) -> int:
        values.setdefault("created_at", self._now - dt.timedelta(days=5))
        made = Definition(id=next(self._numbers), **values)
        self.made.tests.append(made)
        return made.id

    def _aim(self, kind: Kind, count: int = 1) -> tuple[int, ...]:
        known = self._places[kind.target]
        return tuple(sorted(self._chance.sample(known, min(count, len(known)))))

    def _make_patterns(self) -> None:
        for kind in contract.kinds().values():
            for interval_s in (QUICK_S, SLOW_S) if kind.name == "ping" else (SLOW_S,):
                self.made.patterns[kind.name, interval_s] = self._add(
                    name=f"Watched for long: {kind.label}, every {interval_s} s",
                    kind=kind.name,
                    destinations=self._aim(kind),
                    selection={"workers": self._workers[:PATTERNS]},
                    tags=["long"],
                    interval_s=interval_s,
                    created_at=self._first_day,
                )

    def _make_wide(self) -> None:
        self.made.hub = self._places["host"][0]
        self.made.everywhere = self._add(
            name="Round trip from everywhere",
            kind="ping",
            destinations=(self.made.hub,),
            selection={"all": True},
            interval_s=QUICK_S,
        )
        self._add(name="All hosts", kind="system", destinations=(), selection={"all": True})
        self._add(
            name="Names at the edge",
            kind="dns",
            destinations=self._aim(contract.kind("dns")),
            selection={"groups": ["edge"]},
        )

    def _make_mesh(self, hosts: int) -> None:
        members = self._workers[:hosts]
        for number, place in enumerate(self._places["host"][1 : hosts + 1]):
            others = [worker for other, worker in enumerate(members) if other != number]
            self.made.mesh.append(
                self._add(
                    name=f"Mesh core: ping host-{number:05}",
                    kind="ping",
                    destinations=(place,),
                    selection={"workers": others},
                    tags=[MESH_TAG],
                    interval_s=QUICK_S,
                )
            )

    def _make_once(self, count: int) -> None:
        values: dict[str, Any] = {
            "kind": "ping",
            "destinations": (self.made.hub,),
            "selection": {"workers": self._workers[:1]},
        }
        origin = self._add(
            name="Asked for again", interval_s=None, cron="*/15 * * * *", recurrence="new_test", **values
        )
        for number in range(1, count + 1):
            at = self._now.replace(second=0, microsecond=0) - number * dt.timedelta(minutes=15)
            made = {
                "starts_at": at,
                "origin_id": origin,
                "origin_at": at,
                "created_at": at,
                "interval_s": None,
            }
            self.made.once.append(self._add(name=f"Asked for again {at:%Y-%m-%d %H:%M}", **values, **made))

    def _make_ordinary(self, kind: Kind) -> None:
        number = len(self.made.tests)
        chosen = self._chance.sample(self._workers, min(self._chance.randint(1, 5), len(self._workers)))
        if number % 12 == 0:
            chosen.append(self._workers[PATTERNS])
        destinations = self._aim(kind, 2 if number % 10 == 0 else 1)
        if number % 8 == 0 and kind.target in ("host", "host_or_network"):
            destinations = (self.made.hub,)
        values: dict[str, Any] = {"selection": {"workers": sorted(set(chosen))}}
        if number % 400 == 13:
            values["selection"] = {"sites": [f"ams{1 + number // 400 % 4}"]}
        elif number % 400 == 14:
            values["selection"] = {"sites": ["nowhere"]}
        if number % 40 == 17:
            values["paused"] = True
        elif number % 50 == 18:
            values["ends_at"] = self._now - dt.timedelta(hours=30)
        elif number % 100 == 19:
            values["starts_at"] = self._now + dt.timedelta(days=1)
        elif number % 40 == 20:
            values |= {"interval_s": None, "cron": "*/5 * * * *"}
        team = _TEAMS[number % 5]
        made = self._add(
            name=f"{kind.label} of the {team} team {number:05}",
            kind=kind.name,
            destinations=destinations,
            tags=[team],
            **values,
        )
        if number % 400 > 20:
            self.made.ordinary.append(made)

    def _store(self) -> None:
        specs = {name: Jsonb(contract.spec_values(contract.make_spec(name, {}))) for name in contract.kinds()}
        own = [item.name for item in dataclasses.fields(Definition) if item.name != "destinations"]
        columns = [*own, "description", "spec", "version", "planned_version", "created_by", "updated_at"]
        with self._connection.cursor() as cursor:
            with cursor.copy(f"COPY tests ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                for test in self.made.tests:
                    values = [getattr(test, name) for name in own]
                    told = f"Made for the benchmark of pages, as number {test.id}."
                    copy.write_row(
                        [
                            *(Jsonb(value) if isinstance(value, dict | list) else value for value in values),
                            *(told, specs[test.kind], 1, 1, "user:ada", test.created_at),
                        ]
                    )
            with cursor.copy("COPY test_destinations (test_id, destination_id) FROM STDIN") as copy:
                for test_id, place in self._aims():
                    copy.write_row((test_id, place))
        for table in ("tests", "destinations"):
            number = f"(SELECT max(id) FROM {table})"
            self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {number})".encode()
            )

    def _aims(self) -> Iterator[tuple[int, int]]:
        for test in self.made.tests:
            for place in test.destinations:
                yield test.id, place
