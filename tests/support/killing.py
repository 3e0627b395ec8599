"""The kill loop: kill -9 of everything, at random, under load; afterwards each spool's account is compared with the database."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from support.accounts import Found, compare, waits_beyond
from support.installation import Installation, Part, WorkerPart, patiently
from support.surroundings import wait_for

from streamswarm.v1 import probe_pb2

#: How long it may take, after the last kill, until everything that waited then has been delivered.
DRAINED_WITHIN_S = 30.0
_DAY_US = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is going on while things are killed."""

    workers: int
    destinations: int
    interval_s: float
    #: Results of past days that a killed worker finds in its spool when it comes back.
    late: int


class KillLoop:
    """Kills parts of a running installation, and starts them again."""

    def __init__(self, made: Installation, load: Load, rng: random.Random) -> None:
        self._made = made
        self._load = load
        self._rng = rng
        self._past = _past_instants()
        #: Kills of each part.
        self.kills: Counter[str] = Counter()
        self.late = 0

    def begin(self) -> None:
        """Start everything and wait until every worker delivers."""
        made = self._made
        for part in (*made.gateways, made.keeper):
            part.start()
        for number in range(self._load.workers):
            made.worker(f"host-{number}").start()
        wait_for(
            "all workers connected",
            lambda: made.sql("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL") == [(self._load.workers,)],
            60,
        )  # fmt: skip
        made.make_test(destinations_count=self._load.destinations, interval_s=self._load.interval_s)
        wait_for(
            "results of all workers",
            lambda: made.sql("SELECT count(DISTINCT j.worker_id) FROM result_tcp r JOIN jobs j ON j.id = r.job_id")
            == [(self._load.workers,)],
            60,
        )  # fmt: skip

    def run(
        self, kills: int, *, pause_s: tuple[float, float], between: Callable[[], None] = lambda: None
    ) -> None:
        """Kill so many times, in the end everything at once; `between` is called before each kill."""
        everything = [*self._made.workers, *self._made.gateways, self._made.keeper]
        while sum(self.kills.values()) < kills - len(everything):
            time.sleep(self._rng.uniform(*pause_s))
            between()
            victim = self._rng.choices(
                ["worker", "gateway", "keeper", "postgres", "session"], weights=[8, 8, 2, 3, 1]
            )[0]
            if victim == "postgres":
                self._kill_postgres()
            elif victim == "session":
                patiently(self._made.kill_backend)
                self.kills[victim] += 1
            elif victim == "keeper":
                self._kill([self._made.keeper], victim)
            else:
                parts: Sequence[Part] = self._made.workers if victim == "worker" else self._made.gateways
                several = 1 if self._rng.random() < 0.7 else 2
                self._kill(self._rng.sample(list(parts), min(several, len(parts))), victim)
        self._made.kill_postgres()
        self.kills["postgres"] += 1
        self._kill(everything, "together", between=self._made.postgres.start)

    def drain(self) -> float:
        """Return after how many seconds everything that waited at the last kill is delivered, then end the load."""
        made = self._made
        newest = {worker.name: worker.ledger.newest() for worker in made.workers}
        drained_s = wait_for(
            "what had waited is delivered",
            lambda: all(waits_beyond(worker.ledger, newest[worker.name]) for worker in made.workers),
            4 * DRAINED_WITHIN_S,
        )  # fmt: skip
        patiently(made.delete_tests)
        wait_for("the load has ended", self._stands_still, 120)
        return drained_s

    def compare(self) -> Found:
        """Hold what each worker has spooled against what is stored of its jobs."""
        made = self._made
        return compare(made, {made.worker_id(worker): worker.ledger for worker in made.workers})

    def _stands_still(self) -> bool:
        """Whether nothing waits, and nothing was added for a few of the load's intervals."""
        before = [worker.ledger.newest() for worker in self._made.workers]
        if any(worker.ledger.oldest_waiting() is not None for worker in self._made.workers):
            return False
        time.sleep(3 * self._load.interval_s)
        return before == [worker.ledger.newest() for worker in self._made.workers]

    def _kill(
        self, parts: Sequence[Part], victim: str, *, between: Callable[[], object] = lambda: None
    ) -> None:
        for part in parts:
            part.kill()
            self.kills[victim] += 1
        time.sleep(self._rng.uniform(0, 0.8))
        between()
        for part in parts:
            if isinstance(part, WorkerPart) and self._rng.random() < 0.6:
                self._leave_late_results(part)
            part.start()

    def _kill_postgres(self) -> None:
        self._made.kill_postgres()
        self.kills["postgres"] += 1
        time.sleep(self._rng.uniform(0, 0.8))
        self._made.postgres.start()

    def _leave_late_results(self, worker: WorkerPart) -> None:
        """Have the worker find results of past days in its spool, as after days without a way to the controller."""
        jobs = patiently(
            lambda: self._made.sql("SELECT id FROM jobs WHERE worker_id = %s", self._made.worker_id(worker))
        )
        worker.ledger.add(
            _late_result(self._rng.choice(jobs)[0], due_us)
            for due_us in itertools.islice(self._past, self._load.late)
        )
        self.late += self._load.late


def tell(text: str) -> None:
    """Say how far it is, to those who watch."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _past_instants() -> Iterator[int]:
    """Instants of yesterday and the day before, in turns, each once."""
    today_us = int(dt.datetime.now(dt.UTC).timestamp()) // 86_400 * _DAY_US
    for number in itertools.count():
        yield today_us - (number % 2 + 1) * _DAY_US + number * 173_000 % _DAY_US


def _late_result(job_id: int, due_us: int) -> probe_pb2.Result:
    result = probe_pb2.Result(
        job_id=job_id,
        job_version=1,
        scheduled_at_us=due_us,
        started_at_us=due_us + 200,
        duration_ms=2.0,
        status=probe_pb2.STATUS_OK,
    )
    result.tcp.connect_ms = 1.5
    return result
