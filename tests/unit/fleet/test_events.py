"""Ansible's event stream in our words."""

from __future__ import annotations

from typing import Any

import pytest

from controller.fleet.events import EventReader, HostRecap, TaskEvent, TaskState, failure_message


def _raw(event: str, host: str = "a", task: str = "Do", **data: Any) -> dict[str, Any]:
    return {"event": event, "event_data": {"host": host, "task": task, **data}, "stdout": ""}


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        (_raw("runner_on_start"), TaskState.STARTED),
        (_raw("runner_on_ok", res={"changed": False}), TaskState.OK),
        (_raw("runner_on_ok", res={"changed": True}), TaskState.CHANGED),
        (_raw("runner_on_ok", res={"censored": "hidden"}), TaskState.OK),
        (_raw("runner_on_skipped"), TaskState.SKIPPED),
        (_raw("runner_on_failed", res={}), TaskState.FAILED),
        (_raw("runner_on_failed", res={}, ignore_errors=True), TaskState.OK),
        (_raw("runner_on_unreachable", res={"msg": "no way"}), TaskState.UNREACHABLE),
    ],
)
def test_each_event_has_its_state(raw: dict[str, Any], state: TaskState) -> None:
    """A task's event on a host becomes ours with the state that it means."""
    event = EventReader().read(raw)
    assert event is not None
    assert (event.host, event.task, event.state) == ("a", "Do", state)


@pytest.mark.parametrize("name", ["playbook_on_start", "playbook_on_task_start", "verbose", "unheard_of"])
def test_events_about_no_host_are_not_told(name: str) -> None:
    """What is not about a task on a host gives no event."""
    assert EventReader().read({"event": name, "stdout": "x"}) is None


def test_a_loop_fails_with_what_its_item_said() -> None:
    """The message is the failing item's own, not Ansible's remark about the loop."""
    reader = EventReader()
    reader.read(_raw("runner_item_on_failed", res={"stderr": "no space left"}))
    event = reader.read(_raw("runner_on_failed", res={"msg": "One or more items failed"}))
    assert event == TaskEvent(host="a", task="Do", state=TaskState.FAILED, message="no space left")


def test_the_recap_counts_and_carries_the_last_failure() -> None:
    """Each host's recap has its counts; a failure that was rescued leaves no message."""
    reader = EventReader()
    reader.read(_raw("runner_on_failed", host="rescued", res={"msg": "at first"}))
    reader.read(_raw("runner_on_failed", host="broken", res={"msg": "first"}))
    reader.read(_raw("runner_on_failed", host="broken", res={"msg": "last"}))
    reader.read(_raw("runner_on_unreachable", host="gone", res={"msg": "key"}))
    stats = {
        "processed": {"rescued": 1, "broken": 1, "gone": 1},
        "ok": {"rescued": 5, "broken": 2},
        "changed": {"rescued": 3},
        "failures": {"broken": 1},
        "dark": {"gone": 1},
    }
    reader.read({"event": "playbook_on_stats", "event_data": stats})
    assert reader.recaps == (
        HostRecap(host="broken", ok=2, changed=0, failed=1, unreachable=False, message="last"),
        HostRecap(host="gone", ok=0, changed=0, failed=0, unreachable=True, message="key"),
        HostRecap(host="rescued", ok=5, changed=3, failed=0, unreachable=False, message=""),
    )
    assert [recap.succeeded for recap in reader.recaps] == [False, False, True]


def test_remarks_are_kept() -> None:
    """Errors before the first task are kept for the message."""
    reader = EventReader()
    reader.read({"event": "error", "stdout": "ERROR! no such file\n"})
    reader.read({"event": "verbose", "stdout": ""})
    assert reader.remarks == ["ERROR! no such file"]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"stderr": "own words", "msg": "non-zero return code"}, "own words"),
        (
            {"stderr": "Shared connection to 192.0.2.1 closed.\r\n", "stdout": "over a terminal"},
            "over a terminal",
        ),
        ({"stderr": "", "msg": "said by Ansible"}, "said by Ansible"),
        ({"msg": ["not", "text"]}, ""),
        (None, ""),
    ],
)
def test_a_program_speaks_before_ansible(result: Any, message: str) -> None:
    """What the program itself said comes before what Ansible says about it."""
    assert failure_message(result) == message


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    """What failed stands first and a log's newest line last: both are told, however long the log between them is."""
    said = failure_message({"msg": "The worker has no identity." + "x" * 10_000 + "connection refused"})
    assert said.startswith("The worker has no identity.x")
    assert said.endswith("xconnection refused")
    assert "[…]" in said
    assert len(said) == 3000


def test_a_message_of_just_the_longest_length_is_whole() -> None:
    """Nothing is cut from a message that fits."""
    assert failure_message({"msg": "x" * 3000}) == "x" * 3000


def test_what_a_playbook_only_says_stands_in_the_recap() -> None:
    """The text of `debug` tasks becomes the host's notes, in order; other tasks add none."""
    reader = EventReader()
    reader.read(_raw("runner_on_ok", res={"msg": "3 results wait"}, task_action="ansible.builtin.debug"))
    reader.read(_raw("runner_on_ok", res={"msg": "done"}, task_action="ansible.builtin.file"))
    reader.read({"event": "playbook_on_stats", "event_data": {"processed": {"a": 1}, "ok": {"a": 2}}})
    assert [recap.notes for recap in reader.recaps] == [("3 results wait",)]


def test_a_host_counts_as_well_only_if_it_came_to_the_end() -> None:
    """Where too many of a batch fail, Ansible ends it for all; batches that were over by then are as they were."""
    reader = EventReader()
    for batch in ("a", "bcd"):
        reader.read({"event": "playbook_on_play_start", "event_data": {}})
        for host in batch:
            reader.read(_raw("runner_on_ok", host=host, res={}))
    reader.read(_raw("runner_on_failed", host="b", res={"msg": "no"}))
    reader.read(_raw("runner_on_unreachable", host="d", res={"msg": "gone"}))
    reader.read({"event": "playbook_on_no_hosts_remaining", "event_data": {}})
    stats = {
        "processed": dict.fromkeys("abcd", 1),
        "ok": dict.fromkeys("abcd", 1),
        "failures": {"b": 1},
        "dark": {"d": 1},
    }
    reader.read({"event": "playbook_on_stats", "event_data": stats})
    assert [(recap.succeeded, recap.message[:26]) for recap in reader.recaps] == [
        (True, ""),
        (False, "no"),
        (False, "it did not come to the end"),
        (False, "gone"),
    ]
