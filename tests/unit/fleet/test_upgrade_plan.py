"""The plan of an upgrade: who needs it, canaries first, batches after them."""

from __future__ import annotations

import pytest

from controller.errors import ConfigurationError
from controller.fleet.events import HostRecap
from controller.fleet.upgrades.plan import Move, move_of, plan


def _recap(host: str, note: str = "", *, message: str = "", unreachable: bool = False) -> HostRecap:
    return HostRecap(
        host=host,
        ok=1,
        changed=0,
        failed=int(bool(message) and not unreachable),
        unreachable=unreachable,
        message=message,
        notes=(note,) if note else (),
    )


NEEDED = "1.0+a → 1.1+b"
HERE = "has 1.1+b already"


def test_canaries_go_first_and_the_others_in_batches() -> None:
    """Five hosts, one canary, batches of three: one, three, one."""
    planned = plan([_recap(f"host{number}", NEEDED) for number in range(1, 6)], canary=1, batch=3)
    assert [(step.name, step.hosts) for step in planned.steps] == [
        ("canary", ("host1",)),
        ("batch 1 of 2", ("host2", "host3", "host4")),
        ("batch 2 of 2", ("host5",)),
    ]
    assert planned.steps[0].moves == (Move(host="host1", before="1.0+a", after="1.1+b"),)
    assert planned.hosts == tuple(f"host{number}" for number in range(1, 6))


def test_hosts_that_have_the_release_are_skipped_and_canaries_begin_anew() -> None:
    """So an upgrade goes on that was stopped: with a canary of those that are left."""
    planned = plan([_recap("a", HERE), _recap("b", NEEDED), _recap("c", NEEDED)], canary=1, batch=4)
    assert planned.ready == ("a",)
    assert [step.hosts for step in planned.steps] == [("b",), ("c",)]
    assert plan([_recap("a", HERE)], canary=1, batch=1).steps == ()


def test_hosts_that_cannot_be_upgraded_are_told_with_the_reason() -> None:
    """Unreachable, not provisioned, or of a playbook that said nothing."""
    recaps = [
        _recap("away", message="no route to host", unreachable=True),
        _recap("bare", message="The host has no worker that could be upgraded. Provision it."),
        _recap("odd"),
        _recap("good", NEEDED),
    ]
    planned = plan(recaps, canary=0, batch=10)
    assert dict(planned.left_out) == {
        "away": "no route to host",
        "bare": "The host has no worker that could be upgraded. Provision it.",
        "odd": "the playbook said nothing of its release",
    }
    assert [(step.name, step.hosts) for step in planned.steps] == [("batch 1 of 1", ("good",))]


def test_what_is_no_statement_about_releases_is_none() -> None:
    """Other notes of the playbook are not taken for one."""
    assert move_of(_recap("a", "3 results waited on the host and were left to the new release")) is None
    assert move_of(_recap("a", "see 1.0 → 1.1 in the changelog")) is None


def test_sizes_that_make_no_steps_are_refused() -> None:
    """Batches of none would never end."""
    with pytest.raises(ConfigurationError):
        plan([], canary=1, batch=0)
