"""`python tests/bench/scale.py`: what any number of workers costs, from the costs of one of everything, and how they come back.

The costs are measured by `make bench` with the names that stand beside them; docs/architecture/scale.md says when and how. The
steady state is arithmetic. A restart is played in steps of time: workers dial as the worker's own back-off says, each gateway
takes in as many a second as its processors allow, and who waits too long dials again.
"""

from __future__ import annotations

import argparse
import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from controller.gateway.sessions import heartbeat_s
from worker.session import RETURN_SHARE
from worker.uplink import LONGEST_WAIT_S, Backoff


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one of everything, on the machine that measured them: of gateways, of the database, of keepers."""

    #: KiB of memory for each session, and of the process without any (`sessions`).
    session_kib: float = 116.0
    process_kib: float = 90_000.0
    #: Milliseconds of a processor: to take one worker in, 20 jobs included, of which the TLS handshake (`sessions`).
    connect_ms: float = 1.6
    handshake_ms: float = 1.1
    #: To read, note and answer one heartbeat, and to keep one connection alive for a second (`sessions`).
    heartbeat_ms: float = 0.27
    keepalive_ms_per_s: float = 0.0024
    #: To read, store and acknowledge a batch that holds one result (`keepers`), and each further result in it (`ingest`).
    batch_ms: float = 0.43
    result_ms: float = 0.004
    #: To tell one worker of one changed job (`fanout`).
    job_ms: float = 0.5
    #: Of the database: for a batch that comes alone, for each result, and for each worker that is looked at every second.
    database_batch_ms: float = 0.08
    database_result_ms: float = 0.003
    database_look_ms: float = 0.003
    #: Of a keeper, and of the database for it (`keepers`): a look of diagnosis at a job with one new run; each further run, by
    #: what one of 200 costs at the first look.
    look_ms: float = 0.9
    run_ms: float = 0.0235
    database_look_job_ms: float = 0.26
    database_run_ms: float = 0.0032
    #: To roll a result up, and to rewrite it.
    rolled_ms: float = 0.001
    database_rolled_ms: float = 0.0187
    #: To find once a minute that a job is as it should be, and that a job which was due has delivered.
    planned_ms: float = 0.0733
    database_planned_ms: float = 0.0024
    fresh_ms: float = 0.0191
    database_fresh_ms: float = 0.006
    #: A keeper without anything to do, for a second.
    idle_ms_per_s: float = 7.7
    #: Bytes that one stored result takes, key included (`row-size`).
    row_bytes: float = 291.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many workers there are, and what they do."""

    workers: int
    jobs_each: int = 20
    interval_s: float = 60.0

    @property
    def results_per_s(self) -> float:
        """Results of all workers together."""
        return self.workers * self.jobs_each / self.interval_s


@dataclass(frozen=True, kw_only=True)
class Steady:
    """What it takes when nothing happens but measuring; processors are full ones."""

    results_per_s: float
    heartbeats_per_s: float
    gateways: int
    gateway_processors: float
    gateway_mib: float
    #: Of all keepers together.
    keeper_processors: float
    #: How often diagnosis looks at each job.
    look_every_s: float
    database_processors: float
    database_gib_per_day: float


@dataclass(frozen=True, kw_only=True)
class Return:
    """How the workers come back after all gateways were away."""

    half_s: float
    all_s: float
    #: Dials that were given up and made again.
    in_vain: int


#: As keepers look at all jobs.
_PLANNING_S = 60.0
#: As the worker has it.
PATIENCE_S = 45.0


def gateways_for(load: Load, costs: Costs, *, share: float = 0.6, most_workers: int = 5_000) -> int:
    """Return how many gateways hold a load, each with that share of one processor and no more than so many workers."""
    count = max(1, math.ceil(load.workers / most_workers))
    while steady(load, costs, gateways=count).gateway_processors > share:
        count += 1
    return count


def keepers_for(found: Steady, *, share: float = 0.6) -> int:
    """Return how many keepers do the background work, each with that share of one processor; two, in case one ends."""
    return max(2, math.ceil(found.keeper_processors / share))


def steady(load: Load, costs: Costs, *, gateways: int) -> Steady:
    """Return what each of so many gateways needs, all keepers, and the database for everything."""
    each = load.workers / gateways
    heartbeats = each / heartbeat_s(int(each))
    results = load.results_per_s / gateways
    # A worker sends what it has as soon as it has it; two results meet in a batch only by chance.
    gateway_ms = (
        heartbeats * costs.heartbeat_ms
        + each * costs.keepalive_ms_per_s
        + results * (costs.batch_ms + costs.result_ms)
    )
    jobs = load.workers * load.jobs_each
    every_s = look_every_s(load, costs)
    looks = jobs / every_s
    further = max(0.0, load.results_per_s - looks)
    planned, fresh = jobs / _PLANNING_S, load.results_per_s
    # Diagnosis, planning's look and that for what is overdue are each done by one keeper at a time.
    alone_ms = (
        looks * costs.look_ms + further * costs.run_ms,
        planned * costs.planned_ms,
        fresh * costs.fresh_ms,
    )
    keeper_ms = (
        sum(min(1000.0, each) for each in alone_ms)
        + load.results_per_s * costs.rolled_ms
        + costs.idle_ms_per_s
    )
    database_ms = (
        load.results_per_s * (costs.database_batch_ms + costs.database_result_ms + costs.database_rolled_ms)
        + load.workers * costs.database_look_ms
        + looks * costs.database_look_job_ms
        + further * costs.database_run_ms
        + planned * costs.database_planned_ms
        + fresh * costs.database_fresh_ms
    )
    return Steady(
        results_per_s=load.results_per_s,
        heartbeats_per_s=heartbeats * gateways,
        gateways=gateways,
        gateway_processors=gateway_ms / 1000,
        keeper_processors=keeper_ms / 1000,
        look_every_s=every_s,
        gateway_mib=(costs.process_kib + each * costs.session_kib) / 1024,
        database_processors=database_ms / 1000,
        database_gib_per_day=load.results_per_s * 86_400 * costs.row_bytes / 2**30,
    )


def look_every_s(load: Load, costs: Costs) -> float:
    """Return how often diagnosis looks at each job: at each run, or as often as one keeper can."""
    jobs = load.workers * load.jobs_each
    left = 1.0 - load.results_per_s * costs.run_ms / 1000
    needed = jobs * (costs.look_ms - costs.run_ms) / 1000 / left if left > 0 else math.inf
    return max(load.interval_s, needed)


def come_back(
    load: Load, costs: Costs, *, gateways: int, away_s: float, processors: float = 1.0, seed: int = 1
) -> Return:
    """Play how workers find their gateways again that were away for a while, one queue for each gateway."""
    rng = random.Random(seed)
    each = math.ceil(load.workers / gateways)
    # When each worker first finds its gateway there: waits follow each other until then.
    arrivals = sorted(_first_dial(rng, away_s, heartbeat_s(each) * RETURN_SHARE) for _ in range(each))
    serve_s = costs.connect_ms / 1000 / processors
    queue = list(arrivals)
    done: list[float] = []
    in_vain, free_at = 0, away_s
    while queue:
        dialled = queue.pop(0)
        starts = max(free_at, dialled)
        if starts - dialled > PATIENCE_S:
            # It has given up meanwhile; its handshake was in vain, and it comes again.
            in_vain += 1
            free_at = starts + costs.handshake_ms / 1000 / processors
            _insert(queue, dialled + PATIENCE_S + rng.uniform(0.0, LONGEST_WAIT_S))
            continue
        free_at = starts + serve_s
        done.append(free_at)
    done.sort()
    return Return(half_s=done[len(done) // 2] - away_s, all_s=done[-1] - away_s, in_vain=in_vain * gateways)


def _first_dial(rng: random.Random, away_s: float, spread_s: float) -> float:
    backoff = Backoff(rng)
    now = 0.0
    while now < away_s:
        now += backoff.next_s(max(0.0, spread_s - now))
    return now


def _insert(queue: list[float], instant: float) -> None:
    bisect.insort(queue, instant)


def table(sizes: Sequence[int], costs: Costs) -> str:
    """Return a table in Markdown for so many workers each."""
    lines = [
        "| workers | results/s | gateways | each: processor, memory | keepers, processors of all | each job diagnosed every "
        "| database: processors, GiB a day | all back after 10 s away |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        load = Load(workers=size)
        count = gateways_for(load, costs)
        found = steady(load, costs, gateways=count)
        back = come_back(load, costs, gateways=count, away_s=10.0)
        lines.append(
            f"| {size:,} | {found.results_per_s:,.0f} | {count} | {found.gateway_processors:.2f}, "
            f"{found.gateway_mib:,.0f} MiB | {keepers_for(found)}, {found.keeper_processors:.2f} "
            f"| {found.look_every_s:,.0f} s | {found.database_processors:.1f}, {found.database_gib_per_day:,.0f} "
            f"| {back.all_s:.0f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workers", type=int, nargs="*", default=[100, 1_000, 5_000, 20_000, 100_000])
    print(table(parser.parse_args().workers, Costs()))  # noqa: T201
