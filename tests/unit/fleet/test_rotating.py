"""The rotation of the root in one go, over steps and renewals that are told what to answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.fleet.events import HostRecap
from controller.fleet.operations import Recap
from controller.fleet.rotating import rotate_root
from controller.gateway.rotation import NotYetError, Stage

GOOD = Recap(hosts=(HostRecap(host="a", ok=3, changed=1, failed=0, unreachable=False),))
BAD = Recap(hosts=(HostRecap(host="a", ok=3, changed=1, failed=1, unreachable=False),))


class World:
    """Notes what is done, in order."""

    def __init__(self, *renewals: Recap, late: int = 0) -> None:
        self.done: list[str] = []
        self._renewals: Iterator[Recap] = iter(renewals)
        self._late = late
        self._stages = iter([Stage.TRUSTED, Stage.SWITCHED, Stage.SINGLE])

    def begin_at(self, stage: Stage) -> World:
        """Pass over the steps that were taken before."""
        while stage is not Stage.SINGLE and next(self._stages) is not stage:
            pass
        return self

    def step(self) -> Stage:
        """Take a step, the second one only after some refusals."""
        if "trusted" in self.done and self._late:
            self._late -= 1
            raise NotYetError("1 workers have no certificate yet")
        stage = next(self._stages)
        self.done.append(stage.value)
        return stage

    def renew(self) -> Recap:
        """Renew."""
        self.done.append("renew")
        return next(self._renewals)

    def run(self, at: Stage = Stage.SINGLE, *, cancelled: bool = False) -> Recap:
        """Rotate."""
        self.begin_at(at)
        return rotate_root(
            at=at, step=self.step, renew=self.renew, cancelled=lambda: cancelled, sleep=lambda _: None
        )


def test_every_step_is_followed_by_a_renewal() -> None:
    """Trust, renew, switch, renew, drop; workers that come back late are waited for."""
    world = World(GOOD, GOOD, late=5)
    assert world.run().succeeded
    assert world.done == ["trusted", "renew", "switched", "renew", "single"]


@pytest.mark.parametrize(
    ("at", "rest"),
    [
        (Stage.TRUSTED, ["renew", "switched", "renew", "single"]),
        (Stage.SWITCHED, ["renew", "single"]),
    ],
)
def test_it_goes_on_where_it_was(at: Stage, rest: list[str]) -> None:
    """A rotation that was broken off renews first: nobody knows who has."""
    world = World(GOOD, GOOD)
    assert world.run(at).succeeded
    assert world.done == rest


def test_a_host_that_has_not_renewed_ends_it_before_anything_is_taken_away() -> None:
    """Both roots stay trusted."""
    world = World(GOOD, BAD)
    assert not world.run().succeeded
    assert world.done == ["trusted", "renew", "switched", "renew"]


def test_workers_that_never_come_along_are_told() -> None:
    """Those of hosts that are not in the inventory, for example."""
    world = World(GOOD, late=1000)
    with pytest.raises(NotYetError):
        world.run()
    assert world.done == ["trusted", "renew"]


def test_it_can_be_stopped_between_steps() -> None:
    """After the renewal under way."""
    world = World(GOOD)
    world.run(cancelled=True)
    assert world.done == ["trusted", "renew"]
