"""Runs jobs once on inventory hosts that need no worker: brought, run, fetched, removed again.

The host's side is the playbook `run.yml`. It makes one folder on each host, named after the run, and everything lies in
it; so a run that was stopped half-way can be cleared away by that name.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from controller.errors import StreamSwarmError
from controller.fleet.ansible import private_folder
from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import OnEvent, OperationError, PlaybookRequest, Recap, run_playbook
from controller.suites.execution import as_lines, result_of
from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2

#: The task of the role during which the jobs run.
MEASURING = "Run the jobs"
#: Longest reason that is told of a host, in characters.
_LONGEST = 500


@dataclass(frozen=True, kw_only=True)
class HostAnswer:
    """What came from one host."""

    host: str
    #: In the order in which the runs ended.
    results: tuple[probe_pb2.Result, ...] = ()
    #: Why there are no results, in one line; empty when there are.
    problem: str = ""
    #: What went wrong beside measuring, in one line; empty when nothing did.
    remark: str = ""
    #: When the jobs began there by this machine's clock, seconds since the epoch.
    started_at: float
    #: Seconds that they took, with the way there and back.
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came of a run on several hosts."""

    #: By name. When the run was stopped: only those that could not be cleared, with the reason as their problem.
    hosts: tuple[HostAnswer, ...]
    #: Whether it was stopped from here before its end.
    cancelled: bool = False


def run_once(
    request: PlaybookRequest,
    jobs: Sequence[probe_pb2.Job],
    *,
    on: str,
    become: bool = False,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Answers:
    """Run the jobs once on each host that the pattern `on` names, and leave nothing there.

    With `become` the jobs run as root. When `cancelled` becomes true the run is stopped and the hosts are cleared.
    Raises OperationError when no host was reached at all.
    """
    watch = _Watch(on_event)
    with private_folder() as private:
        ours = _prepared(request, jobs, on=on, become=become, private=private)
        try:
            recap = run_playbook("run.yml", ours, private=private, on_event=watch.take, cancelled=cancelled)
        except StreamSwarmError:
            if watch.begun:
                _clear(ours, private=private, on_event=on_event)
            raise
        if recap.cancelled:
            left = _clear(ours, private=private, on_event=on_event) if watch.begun else ()
            return Answers(hosts=left, cancelled=True)
        return Answers(hosts=tuple(_answer(host, watch, private / "results") for host in recap.hosts))


class _Watch:
    """Passes events on and keeps when the jobs ran on each host."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        #: Whether something was done on any host.
        self.begun = False
        self._now = time.time()
        self._times: dict[str, tuple[float, float]] = {}

    def take(self, event: TaskEvent) -> None:
        self.begun = True
        if event.task == MEASURING:
            now = time.time()
            started, _ = self._times.get(event.host, (now, now))
            self._times[event.host] = (now, now) if event.state is TaskState.STARTED else (started, now)
        self._on_event(event)

    def times(self, host: str) -> tuple[float, float]:
        """Return when the jobs began there, and how long they took; now and 0 when they never did."""
        started, ended = self._times.get(host, (self._now, self._now))
        return started, max(0.0, ended - started)


def _prepared(
    request: PlaybookRequest, jobs: Sequence[probe_pb2.Job], *, on: str, become: bool, private: Path
) -> PlaybookRequest:
    """Lay the jobs ready for the playbook, and return the request with the variables that name them."""
    given, results = private / "jobs.jsonl", private / "results"
    given.write_text(as_lines(jobs), encoding="utf-8")
    results.mkdir()
    variables = {
        "streamswarm_hosts": on,
        "streamswarm_worker_once_jobs": str(given),
        "streamswarm_worker_once_results": str(results),
        "streamswarm_worker_once_id": secrets.token_hex(8),
    }
    if become:
        variables["streamswarm_worker_once_become"] = "true"
    return dataclasses.replace(request, variables={**request.variables, **variables})


def _clear(request: PlaybookRequest, *, private: Path, on_event: OnEvent) -> tuple[HostAnswer, ...]:
    """End what still runs on the hosts and remove its folders; returns the hosts where that failed."""
    try:
        recap = run_playbook("run.yml", request, private=private, on_event=on_event, tags="cleanup")
    except OperationError:
        recap = Recap(hosts=())
    now = time.time()
    return tuple(
        HostAnswer(host=host.host, problem=_line(host), started_at=now, duration_s=0.0)
        for host in recap.hosts
        if not host.succeeded
    )


def _answer(host: HostRecap, watch: _Watch, folder: Path) -> HostAnswer:
    started_at, duration_s = watch.times(host.host)
    answer = HostAnswer(host=host.host, started_at=started_at, duration_s=duration_s)
    try:
        lines = (folder / f"{host.host}.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return dataclasses.replace(answer, problem=_line(host))
    try:
        results = tuple(_checked(line) for line in lines if line.strip())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        problem = f"it answered with something that is no result: {shown(str(error), 200)}"
        return dataclasses.replace(answer, problem=problem)
    return dataclasses.replace(answer, results=results, remark="" if host.succeeded else _line(host))


def _checked(line: str) -> probe_pb2.Result:
    """Return the result on a line; a host may write whatever it likes."""
    result = result_of(line)
    if result.detail_json:
        json.loads(result.detail_json)
    return result


def _line(host: HostRecap) -> str:
    """Return in one line why a host failed."""
    said = " ".join(host.message.split()) or "it ended before it had said why"
    return shown(f"unreachable: {said}" if host.unreachable else said, _LONGEST)
