"""What the inventory says of a host is brought to its worker, and to no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from controller.fleet.description import describe
from controller.fleet.inventory import InventoryHost

WORKER = {
    "id": "a",
    "host_name": "edge-1",
    "state": "connected",
    "site": "oslo",
    "labels": {"rack": "7"},
    "groups": ["workers", "edge"],
    "intended_policy": {"deny": ["192.0.2.0/24"]},
}


class Api:
    """Answers as the REST API does and keeps the changes that it was asked for."""

    def __init__(self, *workers: dict[str, Any]) -> None:
        self._workers = workers
        self.changes: list[tuple[str, Mapping[str, Any]]] = []

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """List workers."""
        return (worker for worker in self._workers if query["search"] in worker["host_name"])

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Nothing is made here."""
        raise AssertionError(path)

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Note a change."""
        self.changes.append((path, body))
        return {}

    def delete(self, path: str, **query: Any) -> None:
        """Nothing is deleted here."""
        raise AssertionError(path)


def host(**more: Any) -> InventoryHost:
    """Return edge-1 as WORKER describes it, but for what is given."""
    about = {"site": "oslo", "labels": {"rack": "7"}, "groups": ("edge", "workers")}
    about |= {"policy": WORKER["intended_policy"]} | more
    return InventoryHost(name="edge-1", address="192.0.2.1", measured_address="192.0.2.1", **about)


def test_a_worker_as_described_is_left_alone() -> None:
    """The order of groups means nothing; hosts of similar names are other hosts."""
    api = Api(WORKER, {**WORKER, "id": "b", "host_name": "edge-10", "site": ""})
    assert describe(api, host()) == ""
    assert api.changes == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"site": ""}, "site"),
        ({"labels": {}}, "labels"),
        ({"groups": ("workers",), "labels": {"rack": "8"}}, "groups, labels"),
        ({"policy": {}}, "intended policy"),
    ],
)
def test_only_what_differs_is_brought(changed: dict[str, Any], said: str) -> None:
    """A host's own words, with what was brought in words."""
    api = Api(WORKER)
    assert describe(api, host(**changed)) == f"{said} brought to the controller"
    wanted = {name: sorted(value) if name == "groups" else value for name, value in changed.items()}
    if "policy" in wanted:
        wanted["intended_policy"] = wanted.pop("policy")
    assert api.changes == [("/workers/a", wanted)]


def test_a_revoked_worker_is_not_described() -> None:
    """It speaks for no host any more."""
    api = Api({**WORKER, "state": "revoked"})
    assert describe(api, host(site="bergen")) == ""
    assert api.changes == []


def test_a_policy_that_the_worker_was_never_told_is_brought_without_a_word() -> None:
    """Every worker is told once; one that only a run of Ansible can read is not."""
    api = Api({**WORKER, "intended_policy": None})
    assert describe(api, host()) == ""
    assert api.changes == [("/workers/a", {"intended_policy": WORKER["intended_policy"]})]
    api = Api(WORKER)
    assert describe(api, host(policy=None)) == ""
    assert api.changes == []
