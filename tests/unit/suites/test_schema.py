"""The JSON Schema for editors says the same as the reader."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from controller.suites.document import Document
from controller.suites.schema import suite_schema
from controller.suites.suite import SuiteError, check
from streamswarm import contract

SCHEMA = suite_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

RIGHT = """\
suite: Office
destinations: [{name: Router, address: 192.0.2.1, tags: [a]}]
tests:
  - {name: Ping, kind: ping, destinations: Router, spec: {count: 5}, assert: loss_pct == 0, interval_s: 10}
  - {name: Web, kind: http, destinations: ["http://a.example/"], spec: {valid_status: [200, 204]}, expect: failed}
  - {name: Host, kind: system, assert: [cpu_busy_pct < 90], selection: {labels: {a: b}}, paused: true}
  - {name: All, kind: system, selection: {all: true}, starts_at: "2030-01-01T00:00:00Z", spec: null}
  - name: Mornings
    kind: system
    cron: 30 8 * * 1-5
    zone: Europe/Berlin
    windows: [{days: [mon, fri], from: 08:00, to: 17:30}, {from: "22:00", to: 02:00}]
    max_runs: 100
    recurrence: new_test
"""


def reader_accepts(values: Any) -> bool:
    """Whether the reader takes a suite."""
    try:
        check(Document(name="s.yaml", values=values, lines={"": 1}))
    except SuiteError:
        return False
    return True


def test_the_schema_is_one() -> None:
    """It keeps to the rules of JSON Schema 2020-12."""
    Draft202012Validator.check_schema(SCHEMA)


def test_a_right_suite_is_right() -> None:
    """Both take it."""
    values = yaml.safe_load(RIGHT)
    assert [error.message for error in VALIDATOR.iter_errors(values)] == []
    assert reader_accepts(values)


@pytest.mark.parametrize(
    "test",
    [
        {"name": "a"},
        {"name": "a", "kind": "pong"},
        {"name": "a", "kind": "ping"},
        {"name": "a", "kind": "system", "destinations": ["192.0.2.1"]},
        {"name": "a", "kind": "ping", "destinations": ["192.0.2.1"], "spec": {"count": 0}},
        {"name": "a", "kind": "ping", "destinations": ["192.0.2.1"], "spec": {"colour": "red"}},
        {"name": "a", "kind": "dns", "destinations": ["192.0.2.1"], "spec": {"record_type": "Z"}},
        {"name": "a", "kind": "dns", "destinations": ["192.0.2.1"], "spec": {"query_name": "a b"}},
        {"name": "a", "kind": "http", "destinations": ["http://a.example/"], "spec": {"valid_status": [99]}},
        {"name": "a", "kind": "system", "expect": "refused"},
        {"name": "a", "kind": "system", "assert": [5]},
        {"name": "a", "kind": "system", "interval_s": 0.5},
        {"name": "a", "kind": "system", "selection": {"all": False}},
        {"name": "a", "kind": "system", "selection": {"site": ["x"]}},
        {"name": "a", "kind": "system", "selection": {}},
        {"name": "a", "kind": "system", "tags": ["a b"]},
        {"name": "a", "kind": "system", "paused": "yes"},
        {"name": "", "kind": "system"},
        {"name": "a", "kind": "system", "retries": 3},
    ],
)
def test_what_the_reader_refuses_an_editor_underlines(test: dict[str, Any]) -> None:
    """Faults that a schema can know are in it."""
    values = {"tests": [test]}
    assert not reader_accepts(values)
    assert not VALIDATOR.is_valid(values)


@given(st.data())
def test_parameters_that_the_reader_takes_the_schema_takes(data: st.DataObject) -> None:
    """Whatever values of the declared types are drawn: the reader and the schema agree."""
    kind = data.draw(st.sampled_from(list(contract.kinds().values())))
    drawn = {
        "integer": st.integers(-10, 70_000),
        "number": st.floats(-10, 70_000),
        "boolean": st.booleans(),
        "string": st.text(max_size=5),
    }
    spec = {}
    for parameter in kind.parameters:
        value = drawn[parameter.type]
        if parameter.choices:
            value = st.sampled_from([*parameter.choices, "other"])
        if data.draw(st.booleans()):
            spec[parameter.name] = data.draw(st.lists(value, max_size=3) if parameter.repeated else value)
    target = {
        "host": "192.0.2.1",
        "host_or_network": "192.0.2.0/24",
        "host_port": "192.0.2.1:53",
        "url": "http://192.0.2.1/",
        "none": None,
    }[kind.target]
    test = {"name": "a", "kind": kind.name, "spec": spec, **({"destinations": [target]} if target else {})}
    if reader_accepts({"tests": [test]}):
        assert [error.message for error in VALIDATOR.iter_errors({"tests": [test]})] == []
