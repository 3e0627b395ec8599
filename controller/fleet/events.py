"""What a running playbook reports, in our own words: typed events out of Ansible's stream."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class TaskState(enum.StrEnum):
    """How one task ended on one host, or that it has begun."""

    STARTED = "started"
    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True)
class TaskEvent:
    """One task on one host."""

    host: str
    #: The task's name, without the role's.
    task: str
    state: TaskState
    #: Why, when it failed; what it says, when it only says something.
    message: str = ""
    #: How many tasks the host goes through in this playbook; 0 where that is not known.
    of: int = 0


@dataclass(frozen=True, kw_only=True)
class HostRecap:
    """How one host came out of a run."""

    host: str
    #: Tasks that ran well, changed or not.
    ok: int
    #: Those among them that changed something.
    changed: int
    #: Tasks that failed for good.
    failed: int
    #: Whether the host could not be reached.
    unreachable: bool
    #: What the last failure said; empty when there was none.
    message: str = ""
    #: What the playbook had to say about the host beside that.
    notes: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the host is as the playbook wants it."""
        return not self.failed and not self.unreachable


#: Ansible's event → our state; others say nothing about a host.
_STATES = {
    "runner_on_start": TaskState.STARTED,
    "runner_on_ok": TaskState.OK,
    "runner_on_skipped": TaskState.SKIPPED,
    "runner_on_failed": TaskState.FAILED,
    "runner_on_unreachable": TaskState.UNREACHABLE,
}

#: What is said of a host that is well as far as it came.
_ENDED = (
    "it did not come to the end, as the playbook ended when another host of its batch failed; call it again"
)

#: Tasks that only say something.
_SAYING = ("debug", "ansible.builtin.debug")


class EventReader:
    """Follows one run: turns raw events into ours and keeps what the recap needs."""

    def __init__(self, tasks: int = 0) -> None:
        """`tasks` is how many each host goes through; 0 when that is not known."""
        self._tasks = tasks
        #: Recap of each host, complete once the run has ended.
        self.recaps: tuple[HostRecap, ...] = ()
        #: Text that belongs to no task: warnings, and errors before the first task.
        self.remarks: list[str] = []
        self._item_messages: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._notes: dict[str, list[str]] = {}
        #: Hosts of the batch under way, and those whose batch was ended before its time.
        self._batch: set[str] = set()
        self._ended: set[str] = set()

    def read(self, raw: Mapping[str, Any]) -> TaskEvent | None:
        """Take one raw event; returns ours when it is about a task on a host."""
        name, data = str(raw.get("event", "")), raw.get("event_data") or {}
        host = str(data.get("host", ""))
        if name == "playbook_on_stats":
            self.recaps = self._recaps(data)
        elif name == "playbook_on_play_start":
            self._batch = set()
        elif name == "playbook_on_no_hosts_remaining":
            # Also hosts that are well go no further then, without a failure of their own.
            self._ended |= self._batch
        elif name in ("error", "warning", "verbose", "playbook_on_no_hosts_matched"):
            self._remark(str(raw.get("stdout", "")))
        elif name == "runner_item_on_failed":
            self._item_messages[host] = failure_message(data.get("res"))
        if name not in _STATES or not host:
            return None
        self._batch.add(host)
        return self._task_event(_STATES[name], host, data)

    def _task_event(self, state: TaskState, host: str, data: Mapping[str, Any]) -> TaskEvent:
        result = data.get("res")
        message = ""
        if state is TaskState.OK and str(data.get("task_action", "")) in _SAYING:
            message = failure_message(result)
            self._notes.setdefault(host, []).append(message)
        if state is TaskState.OK and isinstance(result, Mapping) and result.get("changed") is True:
            state = TaskState.CHANGED
        elif state is TaskState.FAILED and data.get("ignore_errors"):
            state = TaskState.OK
        elif state in (TaskState.FAILED, TaskState.UNREACHABLE):
            message = self._item_messages.pop(host, "") or failure_message(result)
            if state is TaskState.UNREACHABLE:
                message = _unreachable_message(message)
            self._failures[host] = message
        return TaskEvent(
            host=host, task=str(data.get("task", "")), state=state, message=message, of=self._tasks
        )

    def _remark(self, text: str) -> None:
        if text.strip():
            self.remarks.append(text.strip())

    def _recaps(self, data: Mapping[str, Any]) -> tuple[HostRecap, ...]:
        def count(kind: str, host: str) -> int:
            return int((data.get(kind) or {}).get(host, 0))

        recaps = []
        for host in sorted(data.get("processed") or {}):
            failed, unreachable = count("failures", host), count("dark", host) > 0
            message = self._failures.get(host, "") if failed or unreachable else ""
            if host in self._ended and not failed and not unreachable:
                failed, message = 1, _ENDED
            recaps.append(
                HostRecap(
                    host=host,
                    ok=count("ok", host),
                    changed=count("changed", host),
                    failed=failed,
                    unreachable=unreachable,
                    message=message,
                    notes=tuple(self._notes.get(host, ())),
                )
            )
        return tuple(recaps)


#: A message that says more is cut in its middle: its beginning says what failed, its end is a log's newest lines.
_LONGEST_MESSAGE = 3000
_BEGINNING = 1000
_CUT = "\n[…]\n"

#: What ssh says when a command with a terminal ends; it is no reason for anything.
_CLOSED = re.compile(r"Shared connection to \S+ closed\.")


def failure_message(result: Any) -> str:
    """Return what a failed task said: a program's own words before Ansible's about it."""
    if not isinstance(result, Mapping):
        return ""
    for key in ("stderr", "module_stderr", "stdout", "msg"):
        text = result.get(key)
        if isinstance(text, str) and (said := _CLOSED.sub("", text).strip()):
            return _shortened(said)
    return ""


def _unreachable_message(said: str) -> str:
    """Return in one line why a host cannot be reached: ssh says much about a key that it does not know."""
    if "Host key verification failed" in said:
        changed = "IDENTIFICATION HAS CHANGED" in said
        what = "is not the one in known_hosts" if changed else "is not in known_hosts"
        return (
            f"its SSH host key {what} (Host key verification failed). Compare the host's own with it, and mend "
            "known_hosts if the host is the right one."
        )
    return " ".join(said.split())


def _shortened(said: str) -> str:
    if len(said) <= _LONGEST_MESSAGE:
        return said
    return said[:_BEGINNING] + _CUT + said[_BEGINNING + len(_CUT) - _LONGEST_MESSAGE :]
