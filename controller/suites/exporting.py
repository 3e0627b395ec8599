"""Writes what a controller holds as a suite: the way back from the dashboard into a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from controller.errors import NotFoundError
from controller.suites.changes import MARK
from controller.suites.state import State
from streamswarm import contract
from streamswarm.contract import UnknownKindError


def export(
    state: State, *, name: str, wanted: Callable[[Mapping[str, Any]], bool] = lambda test: True
) -> str:
    """Return the tests that are wanted, with their destinations, as the YAML of a suite.

    Parameters that have their default are left out, and so are the tags of suites and tests that others made for a run.
    Raises NotFoundError when there is
    none.
    """
    # What a test made for one of its runs is made again by it, wherever it is applied.
    tests = [test for test in state.tests.values() if wanted(test) and test["origin_id"] is None]
    if not tests:
        raise NotFoundError(
            "there is no test to export", mend="look at the tags: a suite needs at least one test"
        )
    used = {item["name"].lower() for test in tests for item in test["destinations"]}
    values = {
        "suite": name,
        "destinations": [
            _filled(
                name=item["name"],
                address=item["address"],
                description=item["description"],
                tags=_tags(item),
            )
            for key, item in state.destinations.items()
            if key in used
        ],
        "tests": [_test(test, state) for test in tests],
    }
    text: str = yaml.safe_dump(_filled(**values), sort_keys=False, allow_unicode=True, width=120)
    return text


def _test(test: Mapping[str, Any], state: State) -> dict[str, Any]:
    selection = dict(test["selection"])
    if "workers" in selection:
        selection["workers"] = [state.workers.get(worker, worker) for worker in selection["workers"]]
    return _filled(
        name=test["name"],
        description=test["description"],
        kind=test["kind"],
        destinations=[item["name"] for item in test["destinations"]],
        spec=_spec(test),
        selection=None if selection == {"all": True} else selection,
        tags=_tags(test),
        interval_s=_number(test["interval_s"]),
        cron=test["cron"],
        zone=test["zone"] if test["cron"] or test["windows"] else None,
        windows=[dict(window) for window in test["windows"]],
        starts_at=test["starts_at"],
        ends_at=test["ends_at"],
        max_runs=test["max_runs"],
        recurrence=None if test["recurrence"] == "continue" else test["recurrence"],
        paused=test["paused"],
    )


def _spec(test: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that differ from their defaults."""
    try:
        defaults = contract.spec_values(contract.make_spec(test["kind"], {}))
    except UnknownKindError:
        return dict(test["spec"])
    return {
        name: value for name, value in test["spec"].items() if name not in defaults or value != defaults[name]
    }


def _tags(item: Mapping[str, Any]) -> list[str]:
    return [tag for tag in item["tags"] if not tag.startswith(MARK)]


def _number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


def _filled(**values: Any) -> dict[str, Any]:
    """Return the values that say something."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {}, False)}
