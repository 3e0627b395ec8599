"""What a suite would change on a controller: pure comparison of the file with what is there.

What a suite has made bears the tag `suite:<name>`. Whatever does not bear it was made by somebody else and is left alone: a
destination of the same name and address is used as it is, anything else of the same name is a conflict.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.suites.state import State
from controller.suites.suite import Suite, SuiteDestination, SuiteTest
from streamswarm import contract
from streamswarm.targets import shown
from streamswarm.zones import read_instant

#: Begins the tag of what a suite has made.
MARK = "suite:"

Action = Literal["create", "update", "delete", "conflict", "left"]
Sort = Literal["destination", "test"]


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One field of an object that would change."""

    #: `spec.count`, `destinations`.
    path: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Change:
    """One object that would be changed, or that stands in the way."""

    action: Action
    sort: Sort
    name: str
    fields: tuple[FieldChange, ...] = ()
    #: Why it is a conflict, or why it is left.
    reason: str = ""
    #: What the API is to be sent; a test's destinations by name.
    body: Mapping[str, Any] | None = None
    #: The object's id and the version that the change is based on; None for what is not there yet.
    id: int | None = None
    version: int | None = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All that a suite would change, in the order in which it must be done."""

    changes: tuple[Change, ...]
    #: Objects that are as the suite wants them.
    unchanged: int

    def of(self, *actions: Action) -> tuple[Change, ...]:
        """Return the changes of these actions."""
        return tuple(change for change in self.changes if change.action in actions)

    @property
    def conflicts(self) -> tuple[Change, ...]:
        """What stands in the way."""
        return self.of("conflict")

    @property
    def effective(self) -> tuple[Change, ...]:
        """What would really be done."""
        return self.of("create", "update", "delete")


def compare(suite: Suite, state: State, *, prune: bool = False, adopt: bool = False) -> Changes:
    """Return what makes a controller as the suite wants it.

    With `prune`, what the suite has made and no longer names is deleted; with `adopt`, what others have made under the
    same names is taken over.
    """
    mark = MARK + suite.slug
    wanted = tuple(_destinations(suite))
    changes: list[Change] = []
    unchanged = 0
    for destination in wanted:
        change = _destination_change(destination, state, mark, adopt=adopt)
        changes += [change] if change else []
        unchanged += change is None
    for test in suite.tests:
        change = _test_change(test, state, mark, adopt=adopt)
        changes += [change] if change else []
        unchanged += change is None
    changes += _leftovers("test", state.tests, {test.name.lower() for test in suite.tests}, mark, prune=prune)
    names = {destination.name.lower() for destination in wanted}
    used = {
        item["name"].lower()
        for test in state.tests.values()
        if mark not in test["tags"]
        for item in test["destinations"]
    }
    changes += _leftovers("destination", state.destinations, names, mark, prune=prune, used=used)
    return Changes(changes=tuple(changes), unchanged=unchanged)


def _destinations(suite: Suite) -> Iterator[SuiteDestination]:
    """Yield the destinations of the file, and one for each address that a test names directly."""
    seen = {destination.name.lower() for destination in suite.destinations}
    yield from suite.destinations
    for aim in (aim for test in suite.tests for aim in test.aims):
        if aim.target and aim.name.lower() not in seen:
            seen.add(aim.name.lower())
            yield SuiteDestination(name=aim.name, address=aim.target, description="", tags=())


def _destination_change(
    destination: SuiteDestination, state: State, mark: str, *, adopt: bool
) -> Change | None:
    body = {
        "name": destination.name,
        "address": destination.address,
        "description": destination.description,
        "tags": [*destination.tags, mark],
    }
    there = state.destinations.get(destination.name.lower())
    if there is None:
        return Change(action="create", sort="destination", name=destination.name, body=body)
    if mark not in there["tags"] and not adopt:
        if there["address"] == destination.address:
            return None
        return _conflict("destination", destination.name, f"it has the address {shown(there['address'])}")
    return update("destination", there, body)


def _test_change(test: SuiteTest, state: State, mark: str, *, adopt: bool) -> Change | None:
    there = state.tests.get(test.name.lower())
    selection, unknown = _selection(test, state)
    if unknown:
        reason = f"its selection names {', '.join(f'`{shown(name)}`' for name in unknown)}, and there is no such worker"
        return Change(action="conflict", sort="test", name=test.name, reason=reason)
    body: dict[str, Any] = {
        "name": test.name,
        "description": test.description,
        "kind": test.kind.name,
        "spec": contract.spec_values(test.spec),
        "destinations": [aim.name for aim in test.aims if aim.target],
        "selection": selection,
        "tags": [*test.tags, mark],
        **test.schedule,
        "starts_at": _instant(test.schedule["starts_at"]),
        "ends_at": _instant(test.schedule["ends_at"]),
    }
    if test.paused is not None:
        body["paused"] = test.paused
    if there is None:
        return Change(action="create", sort="test", name=test.name, body=body)
    if mark not in there["tags"] and not adopt:
        return _conflict("test", test.name, f"it is of the kind `{there['kind']}`")
    if there["kind"] != test.kind.name:
        reason = f"it is of the kind `{there['kind']}` for good, for results hang on it; give the new one another name"
        return Change(action="conflict", sort="test", name=test.name, reason=reason)
    shown_there = dict(there, destinations=[item["name"] for item in there["destinations"]])
    return update("test", shown_there, body)


def _conflict(sort: Sort, name: str, what: str) -> Change:
    reason = f"a {sort} of this name was not made by this suite; {what}. Rename one of them, or take it over with --adopt"
    return Change(action="conflict", sort=sort, name=name, reason=reason)


def _selection(test: SuiteTest, state: State) -> tuple[Mapping[str, Any], list[str]]:
    """Return the selection with ids of workers, and the names that nobody has."""
    names = test.selection.get("workers")
    if not names:
        return test.selection, []
    ids: dict[str, list[str]] = {}
    for worker, name in state.workers.items():
        ids.setdefault(name, []).append(worker)
    found = sorted(worker for name in names for worker in ids.get(name, []))
    return {**test.selection, "workers": found}, [name for name in names if name not in ids]


def update(sort: Sort, there: Mapping[str, Any], body: Mapping[str, Any]) -> Change | None:
    """Return the change that gives an object these fields, or None when it has them; a test's destinations by name."""
    fields = tuple(
        change
        for name, after in body.items()
        for change in _field_changes(name, _comparable(name, there[name]), _comparable(name, after))
    )
    if not fields:
        return None
    changed = {field.path.partition(".")[0] for field in fields}
    return Change(
        action="update",
        sort=sort,
        name=there["name"],
        fields=fields,
        body={name: value for name, value in body.items() if name in changed},
        id=there["id"],
        version=there["version"],
    )


def _comparable(name: str, value: Any) -> Any:
    """Return a field so that what means the same is the same."""
    if name in ("starts_at", "ends_at") and isinstance(value, str):
        return read_instant(value).astimezone(dt.timezone.utc)
    if name in ("tags", "destinations"):
        return sorted(str(item).lower() for item in value)
    if name == "selection":
        return {key: sorted(inner) if isinstance(inner, list) else inner for key, inner in value.items()}
    return value


def _field_changes(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _field_changes(f"{path}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield FieldChange(path=path, before=before, after=after)


def _leftovers(
    sort: Sort,
    there: Mapping[str, Mapping[str, Any]],
    wanted: Iterable[str],
    mark: str,
    *,
    prune: bool,
    used: Collection[str] = (),
) -> Iterator[Change]:
    names = set(wanted)
    for key, item in there.items():
        if mark not in item["tags"] or key in names:
            continue
        if prune and key in used:
            reason = "tests that this suite has not made aim at it"
            yield Change(action="left", sort=sort, name=item["name"], reason=reason)
        elif prune:
            yield Change(
                action="delete", sort=sort, name=item["name"], id=item["id"], version=item["version"]
            )
        else:
            yield Change(
                action="left",
                sort=sort,
                name=item["name"],
                reason="the suite no longer names it; --prune deletes it",
            )


def _instant(value: dt.datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")
