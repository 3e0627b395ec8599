"""Suites: what a right one becomes, and every fault of a wrong one with file and line."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.suites.document import Document, parse
from controller.suites.suite import Suite, SuiteError, check, slug
from streamswarm import contract

RIGHT = """\
suite: Office edge!
description: What the office needs
destinations:
  - name: Router
    address: 192.0.2.1
    tags: [office]
  - {name: Site, address: "https://www.example.org/"}
tests:
  - name: Router answers
    kind: ping
    destinations: [router, 2001:db8::1]
    spec: {count: 5}
    assert:
      - rtt_avg_ms < 20
      - loss_pct == 0
    interval_s: 10
    selection: {sites: [berlin], labels: {os: linux}}
    tags: [edge]
    starts_at: 2030-01-31T08:00:00+01:00
  - name: Telnet is closed
    kind: tcp
    destinations: 192.0.2.1:23
    expect: failed
  - name: Site
    kind: http
    destinations: [Site]
    assert: status == 200
  - name: Host
    kind: system
"""


def suite(text: str) -> Suite:
    """The suite of a text."""
    return check(parse(text, name="s.yaml"))


def faults(text: str) -> list[str]:
    """What is said of a wrong suite, line by line."""
    with pytest.raises(SuiteError) as caught:
        suite(text)
    return caught.value.message.splitlines()


def test_a_right_suite() -> None:
    """Names, defaults, aims in canonical form, assertions parsed, schedule read."""
    found = suite(RIGHT)
    assert (found.name, found.file) == ("Office edge!", "s.yaml")
    router, telnet, site, host = found.tests
    assert [(aim.name, aim.target) for aim in router.aims] == [
        ("Router", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ]
    assert contract.spec_values(router.spec)["count"] == 5
    assert contract.spec_values(router.spec)["interval_ms"] == 200
    assert [assertion.text for assertion in router.assertions] == ["rtt_avg_ms < 20", "loss_pct == 0"]
    assert router.selection == {"sites": ["berlin"], "labels": {"os": "linux"}}
    assert router.schedule["starts_at"] == dt.datetime(2030, 1, 31, 7, tzinfo=dt.timezone.utc)
    assert (router.schedule["interval_s"], router.at) == (10, "s.yaml:9")
    assert (telnet.expect, router.expect) == ("failed", "ok")
    assert telnet.aims[0].target == "192.0.2.1:23"
    assert site.aims[0].target == "https://www.example.org/"
    assert [aim.target for aim in host.aims] == [""]
    assert host.selection == {"all": True}


def test_two_suites_never_share_a_slug() -> None:
    """A plain name is its own slug, whatever its case; of any other a digest tells it from the rest."""
    assert slug("Office edge") == slug("office EDGE") == "office-edge"
    names = ["Case", "CASE!!", "case?", "日本", "Ω", "", "-", "a b", "a-b!", "x" * 60, "x" * 61, "suite"]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", word) and len(word) <= 50 for word in slugs)


def test_a_suite_without_a_name_has_its_files() -> None:
    """The file's name stands in for the suite's."""
    assert suite("tests: [{name: Host, kind: system}]").name == "s"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tests: []", "s.yaml:1: tests: are missing"),
        ("suite: x", "s.yaml:1: tests: are missing"),
        ("- a", "must be a mapping"),
        ("tests: 5", "s.yaml:1: tests: must be a list"),
        ("test: []\ntests: [{name: a, kind: system}]", "s.yaml:1: test: there is no such field"),
        ("tests:\n  - 5", "s.yaml:2: tests[0]: must be a mapping"),
        ("tests:\n  - kind: system", "s.yaml:2: tests[0].name: must not be empty"),
        ("tests:\n  - name: a", "s.yaml:2: tests[0].kind: is missing; there are ping, tcp"),
        ("tests:\n  - name: a\n    kind: pong", "s.yaml:3: tests[0].kind: `pong` is not a probe kind"),
        ("tests:\n  - name: a\n    kind: [ping]", "s.yaml:3: tests[0].kind:"),
        ("tests:\n  - name: a\n    kind: ping", "s.yaml:2: tests[0].destinations: are missing"),
        (
            "tests:\n  - name: a\n    kind: system\n    destinations: [192.0.2.1]",
            "s.yaml:4: tests[0].destinations: must be left out",
        ),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations:\n      - 192.0.2.1\n      - No such thing",
            "s.yaml:6: tests[0].destinations[1]: `No such thing` has white space",
        ),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations: [192.0.2.1, 192.0.2.1]",
            "destinations[1]: `192.0.2.1` is there twice",
        ),
        ("tests:\n  - name: a\n    kind: ping\n    destinations: [5]", "`5` is not text; put it into quotes"),
        ("tests:\n  - name: a\n    kind: ping\n    destinations: [2852039166]", "is not text; put it into quotes"),
        ('tests:\n  - name: a\n    kind: ping\n    destinations: ["2852039166"]', "is not an address in the usual form"),
        ('tests:\n  - name: a\n    kind: ping\n    destinations: ["file:///etc/passwd"]', "is not a host name"),
        ('tests:\n  - name: a\n    kind: ping\n    destinations: ["::1%lo"]', "has a zone, which only link-local"),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations: [192.0.2.1]\n    spec:\n      count: 0",
            "s.yaml:6: tests[0].spec.count: 0 is below the smallest value, 1",
        ),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations: [192.0.2.1]\n    spec: {timeout_ms: 2 s}",
            "s.yaml:5: tests[0].spec.timeout_ms: `2 s` is not a whole number of ms",
        ),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations: [192.0.2.1]\n    spec: {packets: 2}",
            "tests[0].spec.packets: `ping` has no such parameter",
        ),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations: [192.0.2.1]\n    assert:\n      - rtt_avg_ms < 20 %",
            "s.yaml:6: tests[0].assert[0]: `rtt_avg_ms < 20 %`: the unit `%` is wrong: `rtt_avg_ms` is in ms (at column 17)",
        ),
        (
            "tests:\n  - name: a\n    kind: ping\n    destinations: [192.0.2.1]\n    assert: rtt < 20",
            "s.yaml:5: tests[0].assert: `rtt < 20`: `rtt` is not a metric of `ping`",
        ),
        ("tests:\n  - name: a\n    kind: system\n    assert: [5]", "`5` is not an expression"),
        ("tests:\n  - name: a\n    kind: system\n    expect: refused", "tests[0].expect: must be one of ok, failed"),
        ("tests:\n  - name: a\n    kind: system\n    selection: all", "tests[0].selection: must be"),
        ("tests:\n  - name: a\n    kind: system\n    selection: {site: x}", "selection.site: there is no such way to select"),
        ("tests:\n  - name: a\n    kind: system\n    selection: {}", "names no worker"),
        ("tests:\n  - name: a\n    kind: system\n    selection: {workers: [5]}", "selection.workers[0]: `5` is not the name"),
        ("tests:\n  - name: a\n    kind: system\n    selection: {all: true, sites: [x]}", "takes either all workers or those that are named"),
        ("tests:\n  - name: a\n    kind: system\n    interval_s: 0.1", "must lie between 1 and 2678400 s"),
        ("tests:\n  - name: a\n    kind: system\n    starts_at: 2030-01-01", "must be an instant"),
        ("tests:\n  - name: a\n    kind: system\n    starts_at: 2030-01-01T00:00:00", "lacks its zone"),
        (
            "tests:\n  - name: a\n    kind: system\n    starts_at: 2030-01-01T00:00:00Z\n    ends_at: 2029-01-01T00:00:00Z",
            "s.yaml:5: tests[0].ends_at: must lie after starts_at",
        ),
        ("tests:\n  - {name: a, kind: system}\n  - {name: A, kind: system}", "s.yaml:3: tests[1].name: `A` is there twice"),
        ("destinations: [{name: a}]\ntests: [{name: a, kind: system}]", "destinations[0].address: must not be empty"),
        (
            "destinations:\n  - {name: a, address: x}\n  - {name: A, address: y}\ntests: [{name: a, kind: system}]",
            "s.yaml:3: destinations[1].name: `A` is there twice",
        ),
        (
            "destinations:\n  - {name: a, address: 'x y'}\ntests: [{name: a, kind: ping, destinations: [a]}]",
            "s.yaml:2: destinations[0].address: `x y` has white space",
        ),
        (
            "destinations:\n  - {name: Web, address: 'http://a.example/'}\ntests:\n  - name: a\n    kind: ping\n    destinations: [Web]",
            "s.yaml:6: tests[0].destinations[0]: ",
        ),
        (
            "tests:\n  - {name: a, kind: ping, destinations: [192.0.2.1], interval_s: 2,\n     spec: {count: 11}}",
            "tests[0].interval_s: a run takes at least 2 s by its parameters, so it cannot come every 2 s",
        ),
        ("tests:\n  - {name: a, kind: system, retries: 3}", "tests[0].retries: there is no such field"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_file_and_line(text: str, expected: str) -> None:
    """Each fault says where it is and what would be right."""
    said = faults(text)
    assert any(expected in line for line in said), said


def test_all_faults_come_at_once() -> None:
    """One look at the message mends the file; a faulty destination does not accuse the tests that use it."""
    said = faults(
        "destinations:\n  - {name: a, address: 'x y'}\n"
        "tests:\n"
        "  - {name: p, kind: ping, destinations: [a], spec: {count: 0, ttl: 0}}\n"
        "  - {name: q, kind: nothing}\n"
    )
    assert [line.split(" ")[0] for line in said] == ["s.yaml:2:", "s.yaml:4:", "s.yaml:4:", "s.yaml:5:"]


def test_not_more_faults_than_people_read() -> None:
    """The rest is counted."""
    said = faults("tests:\n" + "  - {name: a, kind: nothing}\n" * 30)
    assert len(said) == 21
    assert said[-1].startswith("… and ")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["name", "kind", "spec", "destinations", "assert", "expect", "selection", "tags", "interval_s", "starts_at", "paused"]
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {"tests": st.lists(st.dictionaries(FIELDS, ANYTHING, max_size=6), max_size=3) | ANYTHING},
        optional={"suite": ANYTHING, "destinations": ANYTHING, "other": ANYTHING},
    )
    | ANYTHING
)
def test_whatever_the_values_are_the_answer_is_a_suite_or_a_message(values: Any) -> None:
    """No values that YAML can hold break the reader."""
    try:
        check(Document(name="s.yaml", values=values, lines={"": 1}))
    except SuiteError as error:
        assert error.message.startswith("s.yaml:1: ")
