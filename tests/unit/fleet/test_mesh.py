"""Destinations and tests out of a group of the inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from controller.errors import ConfigurationError
from controller.fleet.inventory import InventoryHost
from controller.fleet.mesh import Mesh, MeshPlan, plan
from controller.suites.state import State


class World:
    """A controller in miniature: does what a plan says, as the API would."""

    def __init__(self, *workers: str) -> None:
        self.destinations: dict[str, dict[str, Any]] = {}
        self.tests: dict[str, dict[str, Any]] = {}
        self.workers = {f"id-{name}": name for name in workers}
        self._next = 0

    def state(self) -> State:
        """What it holds."""
        return State(destinations=self.destinations, tests=self.tests, workers=self.workers)

    def put(self, sort: str, **values: Any) -> None:
        """Make an object."""
        self._next += 1
        where = self.tests if sort == "test" else self.destinations
        where[values["name"].lower()] = {"id": self._next, "version": 1, "tags": [], **values}

    def run(self, mesh: Mesh, hosts: Sequence[InventoryHost]) -> MeshPlan:
        """Plan, and do it."""
        planned = plan(mesh, hosts, self.state())
        assert not planned.changes.conflicts, planned.changes.conflicts
        for change in planned.changes.effective:
            where = self.tests if change.sort == "test" else self.destinations
            body: dict[str, Any] = dict(change.body or {})
            if "destinations" in body:
                body["destinations"] = [{"name": name} for name in body["destinations"]]
            if change.action == "create":
                self.put(change.sort, **({"cron": "", "zone": "UTC", "windows": []} | body))
            elif change.action == "update":
                where[change.name.lower()] |= body
            else:
                del where[change.name.lower()]
        return planned

    def pairs(self) -> set[tuple[str, str]]:
        """Who measures whom."""
        return {
            (self.workers[worker], destination["name"])
            for test in self.tests.values()
            for worker in test["selection"]["workers"]
            for destination in test["destinations"]
        }


def _hosts(addresses: Mapping[str, str], *groups: str) -> list[InventoryHost]:
    return [
        InventoryHost(name=name, address=address, measured_address=address, groups=("edge", *groups))
        for name, address in addresses.items()
    ]


THREE = _hosts({"a": "192.0.2.1", "b": "192.0.2.2", "c": "2001:db8::3"})
ALL = {(one, other) for one in "abc" for other in "abc" if one != other}
MESH = Mesh(group="edge")


def test_every_host_measures_every_other_one_and_none_itself() -> None:
    """A test for each host, run by the workers of all others; a second time there is nothing to do."""
    world = World("a", "b", "c", "stranger")
    first = world.run(MESH, THREE)
    assert len(first.changes.of("create")) == 6
    assert world.pairs() == ALL
    assert {item["address"] for item in world.destinations.values()} == {
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::3",
    }
    assert {tuple(item["tags"]) for item in world.tests.values()} == {("mesh:edge:ping",)}
    assert world.tests["mesh edge: ping a"]["interval_s"] == 30
    again = world.run(MESH, THREE)
    assert (again.changes.changes, again.changes.unchanged, again.notes) == ((), 6, ())


def test_hosts_come_and_go() -> None:
    """Tests and destinations follow the inventory, and one that joins is like the others."""
    world = World("a", "b", "c")
    world.run(Mesh(group="edge", spec={"count": 3}, interval_s=10), THREE[:2])
    assert world.pairs() == {("a", "b"), ("b", "a")}
    world.tests["mesh edge: ping a"]["spec"] = {"count": 4}
    world.run(MESH, THREE)
    assert world.pairs() == ALL
    assert world.tests["mesh edge: ping c"]["interval_s"] == 10
    assert world.tests["mesh edge: ping c"]["spec"] == {"count": 4}, (
        "the first test of the mesh is the pattern"
    )
    world.run(MESH, THREE[1:])
    assert world.pairs() == {("b", "c"), ("c", "b")}
    assert set(world.destinations) == {"b", "c"}
    world.run(Mesh(group="edge", remove=True), [])
    assert (world.tests, world.destinations) == ({}, {})


def test_what_is_asked_for_changes_all_tests() -> None:
    """Parameters and interval that are given hold for the tests that are there; others are left as they are."""
    world = World("a", "b")
    world.run(MESH, THREE[:2])
    world.run(Mesh(group="edge", interval_s=60), THREE[:2])
    assert {test["interval_s"] for test in world.tests.values()} == {60}
    world.run(Mesh(group="edge", spec={"count": 7}), THREE[:2])
    assert {(test["interval_s"], test["spec"]["count"]) for test in world.tests.values()} == {(60, 7)}


def test_an_address_that_changes_is_followed() -> None:
    """The destination moves; the test stays, and its results with it."""
    world = World("a", "b")
    world.run(MESH, THREE[:2])
    moved = _hosts({"a": "198.51.100.1", "b": "192.0.2.2"})
    [change] = world.run(MESH, moved).changes.effective
    assert (change.action, change.sort, change.name) == ("update", "destination", "a")
    assert world.destinations["a"]["address"] == "198.51.100.1"


def test_a_host_without_a_worker_is_measured_and_told() -> None:
    """It is a destination for the others; a host that nobody else could measure has no test."""
    world = World("a")
    planned = world.run(MESH, THREE[:2])
    assert world.pairs() == {("a", "b")}
    assert planned.notes == (
        "b has no worker yet: it is measured and measures nobody until it is enrolled and this is run again",
    )


def test_kinds_and_groups_share_destinations() -> None:
    """A destination goes with the last mesh that aims at it, be it another kind's or another group's."""
    hosts = _hosts({"a": "192.0.2.1", "b": "192.0.2.2"}, "all-of-them")
    world = World("a", "b")
    for mesh in (MESH, Mesh(group="edge", kind="tcp"), Mesh(group="all-of-them")):
        world.run(mesh, hosts)
    assert len(world.tests) == 6
    assert world.destinations["a"]["tags"] == ["mesh:edge", "mesh:all-of-them"]
    world.run(Mesh(group="edge", remove=True), [])
    assert world.destinations["a"]["tags"] == ["mesh:edge", "mesh:all-of-them"], "the tcp mesh aims at it"
    world.run(Mesh(group="edge", kind="tcp", remove=True), [])
    assert world.destinations["a"]["tags"] == ["mesh:all-of-them"]
    world.run(Mesh(group="all-of-them", remove=True), [])
    assert (world.tests, world.destinations) == ({}, {})


def test_what_others_have_made_is_left_alone() -> None:
    """The same destination is used as it is and stays; another of the name, or a test of the name, is in the way."""
    world = World("a", "b")
    world.put("destination", name="A", address="192.0.2.1")
    world.run(MESH, THREE[:2])
    assert world.destinations["a"]["tags"] == []
    world.run(Mesh(group="edge", remove=True), [])
    assert set(world.destinations) == {"a"}

    world.destinations["a"]["address"] = "203.0.113.9"
    world.put("test", name="Mesh edge: ping b", kind="tcp", destinations=[])
    conflicts = plan(MESH, THREE[:2], world.state()).changes.conflicts
    assert [(change.sort, change.name) for change in conflicts] == [
        ("destination", "a"),
        ("test", "Mesh edge: ping b"),
    ]
    assert "203.0.113.9" in conflicts[0].reason


def test_a_destination_that_a_persons_test_aims_at_is_left() -> None:
    """Removing the mesh keeps it, and says why."""
    world = World("a", "b")
    world.run(MESH, THREE[:2])
    world.put("test", name="Mine", destinations=[{"name": "a"}], selection={"workers": []})
    planned = world.run(Mesh(group="edge", remove=True), [])
    assert [(change.name, change.reason) for change in planned.changes.of("left")] == [
        ("a", "tests that no mesh has made aim at it")
    ]
    assert set(world.destinations) == {"a"}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "::", "169.254.7.7", "fe80::1"])
def test_an_address_at_which_hosts_reach_themselves_is_refused(address: str) -> None:
    """Nobody would measure the host that is meant."""
    with pytest.raises(ConfigurationError, match="reach itself") as caught:
        plan(MESH, _hosts({"a": address, "b": "192.0.2.2"}), World("a", "b").state())
    assert "streamswarm_address" in caught.value.mend


@pytest.mark.parametrize(
    ("mesh", "hosts", "says"),
    [
        (Mesh(group="nowhere"), THREE, "no host in the group `nowhere`"),
        (Mesh(group="edge", kind="system"), THREE, "cannot make a mesh"),
        (Mesh(group="edge", kind="http"), THREE, "cannot make a mesh"),
        (Mesh(group="edge", kind="pong"), THREE, "there is no kind `pong`"),
        (Mesh(group="edge", spec={"count": 0}), THREE, "count"),
        (Mesh(group="e" * 60), _hosts({"a": "192.0.2.1"}, "e" * 60), "too long for a tag"),
        (MESH, _hosts({"a" * 101: "192.0.2.1"}), "longer than the 100 characters"),
        (MESH, _hosts({"a": "192.0.2.1", "b": "192.0.2.1"}), "a and b have the same address"),
        (MESH, _hosts({"a": "-f", "b": "192.0.2.1"}), "cannot be tested"),
        (MESH, _hosts({"a": "192.0.2.0/24", "b": "192.0.2.1"}), "cannot be tested"),
    ],
)
def test_what_makes_no_mesh_is_refused(mesh: Mesh, hosts: list[InventoryHost], says: str) -> None:
    """Each with its reason, before anything is changed."""
    with pytest.raises(ConfigurationError, match=says):
        plan(mesh, hosts, World("a", "b", "c").state())
