"""A mesh out of a group of the inventory: one destination for each host, and one test that all others aim at it.

What a mesh has made bears its tags, as what a suite has made bears the suite's: `mesh:GROUP:KIND` tests, `mesh:GROUP`
destinations. A destination that several meshes aim at bears the tag of each and goes with the last.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.errors import ConfigurationError
from controller.fleet.inventory import InventoryHost
from controller.suites.changes import Change, Changes, update
from controller.suites.state import Api, State
from streamswarm import contract
from streamswarm.contract import InvalidInputError
from streamswarm.targets import TargetError, parse_host, shown

#: Begins the tags of what meshes have made.
MARK = "mesh:"
#: Seconds from one run to the next, unless said otherwise.
INTERVAL_S = 30.0
_MOST_CHARACTERS = 100
_LONGEST_TAG = 63
#: What a test that joins a mesh takes from those that are there.
_SCHEDULE = ("interval_s", "cron", "zone", "windows")


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """What is asked for."""

    #: Group of the inventory.
    group: str
    #: Kind of the tests.
    kind: str = "ping"
    #: Parameters of the kind; None leaves those that the mesh's tests have.
    spec: Mapping[str, Any] | None = None
    #: Seconds from one run to the next; None leaves the schedule that the mesh's tests have.
    interval_s: float | None = None
    #: Take the mesh away, whatever the inventory says.
    remove: bool = False

    @property
    def test_mark(self) -> str:
        """Tag of its tests."""
        return f"{MARK}{self.group}:{self.kind}"

    @property
    def destination_mark(self) -> str:
        """Tag of its destinations."""
        return f"{MARK}{self.group}"


@dataclass(frozen=True, kw_only=True)
class MeshPlan:
    """What makes a controller's tests as the mesh wants them."""

    changes: Changes
    #: What people should know: hosts that measure nobody yet.
    notes: tuple[str, ...] = field(default=())


def read_state(api: Api) -> State:
    """Ask a controller for what it holds; workers go by the names of their hosts in the inventory."""
    return State(
        destinations={item["name"].lower(): item for item in api.items("/destinations", limit=500)},
        tests={item["name"].lower(): item for item in api.items("/tests", limit=500, made_for_run=False)},
        workers={item["id"]: item["host_name"] for item in api.items("/workers", limit=500)},
    )


def plan(mesh: Mesh, hosts: Sequence[InventoryHost], state: State) -> MeshPlan:
    """Return what brings destinations and tests in line with the group's hosts.

    Each host's test is for the workers of all others, never for its own. Objects of the same name that no mesh has
    made are conflicts, but for a destination with the same address, which is used as it is. Raises ConfigurationError
    when the group, the kind or an address is of no use.
    """
    _check(mesh)
    members = [] if mesh.remove else [host for host in hosts if mesh.group in host.groups]
    if not members and not mesh.remove:
        groups = sorted({group for host in hosts for group in host.groups})
        raise ConfigurationError(
            f"the inventory has no host in the group `{shown(mesh.group)}`",
            mend=f"name one of its groups ({', '.join(map(shown, groups[:20]))}); --remove takes a mesh away",
        )
    addresses = {_short(host.name): _address(host) for host in members}
    _check_distinct(addresses)
    ids = {name: worker for worker, name in state.workers.items()}
    pattern = _pattern(mesh, state)
    found = [_destination_change(host.name, addresses[host.name], mesh, state) for host in members]
    wanted: set[str] = set()
    for host in members:
        others = sorted(ids[other.name] for other in members if other.name != host.name and other.name in ids)
        if others:
            found.append(_test_change(host, others, mesh, pattern, state))
            wanted.add(_test_name(host, mesh).lower())
    changes = [change for change in found if change is not None]
    changes += _obsolete_tests(mesh, state, wanted)
    changes += _obsolete_destinations(mesh, state, {name.lower() for name in addresses})
    return MeshPlan(
        changes=Changes(changes=tuple(changes), unchanged=found.count(None)),
        notes=tuple(
            f"{host.name} has no worker yet: it is measured and measures nobody until it is enrolled and this is run again"
            for host in members
            if host.name not in ids
        ),
    )


def _check(mesh: Mesh) -> None:
    kinds = contract.kinds()
    fitting = [name for name, kind in kinds.items() if kind.target not in ("none", "url")]
    if mesh.kind not in fitting:
        raise ConfigurationError(
            f"tests of kind `{shown(mesh.kind)}` cannot make a mesh: they aim at no host"
            if mesh.kind in kinds
            else f"there is no kind `{shown(mesh.kind)}`",
            mend=f"use one of {', '.join(fitting)}",
        )
    if len(mesh.test_mark) > _LONGEST_TAG:
        raise ConfigurationError(
            f"the group's name `{shown(mesh.group)}` is too long for a tag",
            mend="make a mesh of a group with a shorter name",
        )


def _test_name(host: InventoryHost, mesh: Mesh) -> str:
    return _short(f"Mesh {mesh.group}: {mesh.kind} {host.name}")


def _short(name: str) -> str:
    if len(name) > _MOST_CHARACTERS:
        raise ConfigurationError(
            f"the name `{shown(name)}` is longer than the {_MOST_CHARACTERS} characters that it may have",
            mend="use a group, or hosts, with shorter names",
        )
    return name


def _address(host: InventoryHost) -> str:
    """Return where others reach a host, in canonical form; raises ConfigurationError for no such address."""
    address = host.measured_address
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    own = address.lower() in ("localhost", "localhost.") if parsed is None else parsed.is_loopback
    if own or (parsed is not None and (parsed.is_unspecified or parsed.is_link_local)):
        raise ConfigurationError(
            f"{host.name} has the address {shown(address)}, at which every host would reach itself",
            mend="give it the address at which the others reach it, in `streamswarm_address`",
        )
    try:
        return parse_host(address)
    except TargetError as error:
        raise ConfigurationError(
            f"the address of {host.name} cannot be tested: {error}",
            mend="set `streamswarm_address` to a host name or an address",
        ) from error


def _check_distinct(addresses: Mapping[str, str]) -> None:
    """Raise ConfigurationError when two hosts have one address: one of them would measure itself."""
    seen: dict[str, str] = {}
    for name, address in addresses.items():
        if address in seen:
            raise ConfigurationError(
                f"{seen[address]} and {name} have the same address {shown(address)}, so one would measure itself",
                mend="give each the address at which the others reach it, in `streamswarm_address`",
            )
        seen[address] = name


def _pattern(mesh: Mesh, state: State) -> dict[str, Any]:
    """Return parameters and schedule of a test that joins: those of the mesh's first one, where it has any."""
    there = [test for test in state.tests.values() if mesh.test_mark in test["tags"]]
    first = min(there, key=lambda test: int(test["id"]), default=None)
    if first is None:
        return {"spec": _spec(mesh, {}), "interval_s": INTERVAL_S}
    return {name: first[name] for name in ("spec", *_SCHEDULE)}


def _spec(mesh: Mesh, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(contract.spec_values(contract.make_spec(mesh.kind, values)))
    except InvalidInputError as error:
        raise ConfigurationError(
            f"the parameters do not fit: {'; '.join(map(str, error.problems))}",
            mend=f"docs/reference/kinds/{mesh.kind}.md has them all",
        ) from error


def _destination_change(name: str, address: str, mesh: Mesh, state: State) -> Change | None:
    there = state.destinations.get(name.lower())
    if there is None:
        body = {
            "name": name,
            "address": address,
            "description": "A host of the inventory.",
            "tags": [mesh.destination_mark],
        }
        return Change(action="create", sort="destination", name=name, body=body)
    if not any(tag.startswith(MARK) for tag in there["tags"]):
        if there["address"] == address:
            return None
        return _conflict("destination", name, f"has the address {shown(there['address'])}")
    tags = list(there["tags"]) + [mesh.destination_mark] * (mesh.destination_mark not in there["tags"])
    return update("destination", there, {"address": address, "tags": tags})


def _test_change(
    host: InventoryHost, others: Sequence[str], mesh: Mesh, pattern: Mapping[str, Any], state: State
) -> Change | None:
    name = _test_name(host, mesh)
    asked: dict[str, Any] = {} if mesh.spec is None else {"spec": _spec(mesh, mesh.spec)}
    if mesh.interval_s is not None:
        asked |= {"interval_s": mesh.interval_s, "cron": ""}
    wanted = {"destinations": [host.name], "selection": {"workers": list(others)}}
    there = state.tests.get(name.lower())
    if there is None:
        body = {
            "name": name,
            "kind": mesh.kind,
            "description": f"Every host of the group {mesh.group} measures {host.name}.",
            "tags": [mesh.test_mark],
            **pattern,
            **asked,
            **wanted,
        }
        return Change(action="create", sort="test", name=name, body=body)
    if mesh.test_mark not in there["tags"]:
        return _conflict("test", name, f"is of the kind `{there['kind']}`")
    shown_there = dict(there, destinations=[item["name"] for item in there["destinations"]])
    return update("test", shown_there, {**asked, **wanted})


def _conflict(sort: Any, name: str, what: str) -> Change:
    reason = f"a {sort} of this name that no mesh has made {what}; rename it, or delete it"
    return Change(action="conflict", sort=sort, name=name, reason=reason)


def _obsolete_tests(mesh: Mesh, state: State, wanted: set[str]) -> Iterator[Change]:
    for key, test in state.tests.items():
        if mesh.test_mark in test["tags"] and key not in wanted:
            yield Change(
                action="delete", sort="test", name=test["name"], id=test["id"], version=test["version"]
            )


def _obsolete_destinations(mesh: Mesh, state: State, wanted: set[str]) -> Iterator[Change]:
    """Yield what becomes of destinations that no test of this group's meshes aims at any more."""
    ours = f"{mesh.destination_mark}:"
    aimed_at: set[str] = set()
    of_others: set[str] = set()
    for test in state.tests.values():
        names = {item["name"].lower() for item in test["destinations"]}
        if mesh.test_mark in test["tags"]:
            continue
        of_others |= names
        if any(tag.startswith(ours) for tag in test["tags"]):
            aimed_at |= names
    for key, there in state.destinations.items():
        if mesh.destination_mark not in there["tags"] or key in wanted | aimed_at:
            continue
        tags = [tag for tag in there["tags"] if tag != mesh.destination_mark]
        if any(tag.startswith(MARK) for tag in tags):
            change = update("destination", there, {"tags": tags})
            if change is not None:
                yield change
        elif key in of_others:
            reason = "tests that no mesh has made aim at it"
            yield Change(action="left", sort="destination", name=there["name"], reason=reason)
        else:
            yield Change(
                action="delete",
                sort="destination",
                name=there["name"],
                id=there["id"],
                version=there["version"],
            )
