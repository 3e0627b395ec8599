"""What a worker announces takes effect at once, and the later the more often it changes: versions of jobs stay few."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session
from support.keepers import World

from controller.keeper import plan
from controller.store.entities import JobVersion
from controller.store.queries import plans


class _Announcer:
    """A worker that says what it can do, and a test of kind `ping` by cron that it may run."""

    def __init__(self, engine: Engine, world: World) -> None:
        self._engine = engine
        self.world = world
        self.id = world.worker("a", kinds={"ping": {"available": True}}, contract_version=2)
        self.test = world.test(
            "p", "ping", [world.destination("x", "192.0.2.1")], interval_s=None, cron="* * * * *"
        )
        plan.plan_worker(engine, self.id)

    def says(self, *, ping: bool = True, contract: int = 2, reason: str = "") -> int:
        """Announce, and let planning look; return how many jobs it changed."""
        with self._engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE workers SET contract_version = :contract, kinds = jsonb_build_object('ping', "
                    "jsonb_build_object('available', CAST(:ping AS boolean), 'reason', CAST(:reason AS text))) "
                    "WHERE id = :id"
                ),
                {"contract": contract, "ping": ping, "reason": reason, "id": self.id},
            )
        return plan.plan_everything(self._engine)

    def goes_by(self, span: dt.timedelta) -> None:
        """Let so much time have passed."""
        with self._engine.begin() as connection:
            connection.execute(text("UPDATE workers SET ability_at = ability_at - :span"), {"span": span})

    @property
    def versions(self) -> int:
        with Session(self._engine) as session:
            return session.scalars(select(func.count()).select_from(JobVersion)).one()

    @property
    def skips(self) -> list[str]:
        with Session(self._engine) as session:
            found = plans.read_skips(session, self.test, now=dt.datetime.now(dt.UTC))
        return [skip.reason for skip in found]


@pytest.fixture
def announcer(engine: Engine, world: World) -> _Announcer:
    """It has its job."""
    made = _Announcer(engine, world)
    assert made.versions == 1
    return made


MINUTE = dt.timedelta(seconds=61)


def test_a_first_change_counts_at_once_and_so_does_one_after_a_quiet_day(announcer: _Announcer) -> None:
    """A kind that goes and comes back, days apart, is what honest workers do."""
    for ping, jobs in ((False, 0), (True, 1)) * 3:
        assert announcer.says(ping=ping) == 1
        assert len(announcer.world.jobs()) == jobs
        announcer.goes_by(dt.timedelta(hours=25))


@pytest.mark.parametrize("what", ["kinds", "contract"])
def test_a_worker_that_flips_all_day_makes_few_versions(announcer: _Announcer, what: str) -> None:
    """Every minute another state, for five hours and more: after the first handful one change an hour takes effect."""
    changed = 0
    for number in range(320):
        flip = number % 2 == 1
        changed += announcer.says(ping=flip) if what == "kinds" else announcer.says(contract=1 + flip)
        announcer.goes_by(MINUTE)
    assert 7 <= changed <= 12
    assert announcer.versions <= 1 + changed


def test_what_it_says_in_the_end_is_followed(announcer: _Announcer) -> None:
    """Within an hour, and the page says meanwhile why there is no job."""
    for number in range(120):
        announcer.says(ping=number % 2 == 1)
        announcer.goes_by(MINUTE)
    announcer.goes_by(dt.timedelta(hours=1))
    announcer.says(ping=True)
    announcer.goes_by(dt.timedelta(hours=1))
    assert announcer.says(ping=False, reason="no right") == 1
    assert announcer.world.jobs() == []
    assert announcer.skips == ["the worker cannot run `ping`: no right"]
    assert announcer.says(ping=True) == 0
    assert announcer.skips == [f"the worker cannot run `ping`: {plans.NOT_YET}"]
    announcer.goes_by(dt.timedelta(hours=1))
    assert announcer.says(ping=True) == 1
    assert announcer.skips == []


def test_a_clock_that_leaps_and_is_set_back_delays_no_change(announcer: _Announcer) -> None:
    """A change of a time to come is no reason to wait until then."""
    announcer.says(ping=False)
    announcer.goes_by(-dt.timedelta(days=60))
    assert announcer.says(ping=True) == 1


def test_another_reason_is_no_change(announcer: _Announcer) -> None:
    """Texts may differ with every Hello, for example by a number in them: no change is spent on that."""
    assert announcer.says(ping=False, reason="1") == 1
    for number in range(5):
        assert announcer.says(ping=False, reason=str(number)) == 0
    announcer.goes_by(MINUTE)
    assert announcer.says(ping=True) == 1


def test_others_do_not_wait_for_it(announcer: _Announcer, engine: Engine, world: World) -> None:
    """A worker that enrols, and one whose test is changed by a person, have their jobs at once."""
    for number in range(20):
        announcer.says(ping=number % 2 == 1)
    other = world.worker("b", kinds={"ping": {"available": True}}, contract_version=2)
    assert plan.plan_worker(engine, other) == 1
    world.change(announcer.test, cron="*/5 * * * *")
    assert plan.plan_tests(engine, [announcer.test]) == 1 + len(_jobs_of(world, announcer.id))


def _jobs_of(world: World, worker: uuid.UUID) -> list[int]:
    return [job.id for job in world.jobs() if job.worker_id == worker]
