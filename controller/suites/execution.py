"""Runs suites once from this machine: jobs go to `python -m worker --once`, results come back line by line.

It is the same call that an agentless run makes on another host; the controller's side imports nothing of the worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from controller.errors import StreamSwarmError
from controller.suites.outcome import Outcome, State, SuiteRun, judge
from controller.suites.suite import Aim, Suite, SuiteTest
from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2

MAX_RUNS = 10_000
#: Where `worker` is imported from; a folder of that name in the user's own must not be taken for it.
_PROGRAMS = Path(__file__).resolve().parents[2]
_LAST_WORDS = 2000
_STOP_S = 5.0


class ExecutionError(StreamSwarmError):
    """The process that measures could not do its work."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What runs from this machine may do, and what they are given."""

    #: A worker's policy file; None for the built-in rules.
    policy: Path | None = None
    #: Whether loopback addresses may be tested.
    allow_loopback: bool = False
    #: Folder with databases about addresses; file with the key of the workers' responders.
    databases_dir: Path | None = None
    responder_key_file: Path | None = None

    def options(self) -> list[str]:
        """Return them as the worker's options."""
        paths = {
            "--policy": self.policy,
            "--databases-dir": self.databases_dir,
            "--responder-key-file": self.responder_key_file,
        }
        given = [
            word for name, path in paths.items() if path is not None for word in (name, str(path.resolve()))
        ]
        return [*given, *(["--allow-loopback"] if self.allow_loopback else [])]


@dataclass(frozen=True, kw_only=True)
class _Run:
    suite: int
    test: SuiteTest
    aim: Aim


class Judge:
    """The runs that suites make from one place: their jobs, and what came of them."""

    def __init__(
        self,
        suites: Sequence[Suite],
        *,
        host: str = "",
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """Number the runs; raises ExecutionError when there are too many.

        `host` is where they run, empty for this machine; `on_outcome` is told of each as it ends.
        """
        self._suites = suites
        self._host = host
        self._on_outcome = on_outcome
        self._runs = [
            _Run(suite=index, test=test, aim=aim)
            for index, suite in enumerate(suites)
            for test in suite.tests
            for aim in test.aims
        ]
        self._outcomes: dict[int, Outcome] = {}
        if len(self._runs) > MAX_RUNS:
            raise ExecutionError(
                f"these suites make {len(self._runs)} runs; {MAX_RUNS} is the most", mend="run them in parts"
            )

    @property
    def jobs(self) -> list[probe_pb2.Job]:
        """One job for each run, to be measured once."""
        return [
            probe_pb2.Job(job_id=number, version=1, target=run.aim.target, spec=run.test.spec)
            for number, run in enumerate(self._runs, start=1)
        ]

    def take(self, result: probe_pb2.Result) -> None:
        """Judge the result of one job; raises ExecutionError for one that nobody asked for."""
        if not 1 <= result.job_id <= len(self._runs):
            raise ExecutionError(
                f"a result came for the job {result.job_id}, which there is not", mend="please report this"
            )
        run = self._runs[result.job_id - 1]
        self._outcomes[result.job_id - 1] = judge(run.test, run.aim, result)
        self._on_outcome(self._outcomes[result.job_id - 1])

    def verdict(self, *, started_at: float, duration_s: float) -> tuple[SuiteRun, ...]:
        """Return how each suite came out once all results are in; raises ExecutionError when one is missing.

        When a test could not be run, none was started: the others are told as waiting for it.
        """
        refused = any(outcome.state is State.NOT_RUN for outcome in self._outcomes.values())
        for number, run in enumerate(self._runs):
            if number not in self._outcomes and not refused:
                raise ExecutionError(
                    f"the run of `{shown(run.test.name)}` has no result although its process ended well",
                    mend="please report this",
                )
        return self._close("not started, for another test cannot be run", started_at, duration_s)

    def nothing(self, problem: str, *, started_at: float, duration_s: float) -> tuple[SuiteRun, ...]:
        """Return the suites' runs on a host that could measure nothing, each test with the problem as its reason."""
        self._outcomes.clear()
        return self._close(problem, started_at, duration_s, problem=problem)

    def _close(
        self, reason: str, started_at: float, duration_s: float, *, problem: str = ""
    ) -> tuple[SuiteRun, ...]:
        for number, run in enumerate(self._runs):
            if number not in self._outcomes:
                self.take(_not_started(number + 1, run, reason))
        return tuple(
            SuiteRun(
                suite=suite,
                outcomes=tuple(
                    self._outcomes[number] for number, run in enumerate(self._runs) if run.suite == index
                ),
                started_at=started_at,
                duration_s=duration_s,
                host=self._host,
                problem=problem,
            )
            for index, suite in enumerate(self._suites)
        )


def execute(
    suites: Sequence[Suite],
    *,
    permissions: Permissions,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> tuple[SuiteRun, ...]:
    """Run every test of every suite once; nothing is sent unless all of them may be run.

    `on_outcome` is told of each as it ends. Raises ExecutionError.
    """
    judging = Judge(suites, on_outcome=on_outcome)
    started_at, started = time.time(), time.perf_counter()
    _measure(judging.jobs, permissions, judging.take)
    return judging.verdict(started_at=started_at, duration_s=time.perf_counter() - started)


def as_lines(jobs: Sequence[probe_pb2.Job]) -> str:
    """Return jobs as `python -m worker --once` takes them: a line of JSON for each."""
    return "".join(json_format.MessageToJson(job, indent=None) + "\n" for job in jobs)


def result_of(line: str) -> probe_pb2.Result:
    """Return the result on a line that `python -m worker --once` wrote; raises json_format.ParseError."""
    return json_format.Parse(line, probe_pb2.Result(), ignore_unknown_fields=True)


def _not_started(number: int, run: _Run, reason: str) -> probe_pb2.Result:
    return probe_pb2.Result(
        job_id=number,
        kind=run.test.kind.name,
        status=probe_pb2.STATUS_MISSED,
        failure_source=probe_pb2.FAILURE_SOURCE_SCHEDULE,
        failure_reason=probe_pb2.FAILURE_REASON_SUSPENDED,
        error=reason,
    )


def _measure(
    jobs: Sequence[probe_pb2.Job], permissions: Permissions, take: Callable[[probe_pb2.Result], None]
) -> None:
    """Hand the jobs to a worker process and its results to `take`."""
    command = [sys.executable, "-m", "worker", "--once", "--all-or-none", *permissions.options()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=_PROGRAMS,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"},
            text=True,
            encoding="utf-8",
        )
        if process.stdin is None or process.stdout is None:
            raise TypeError("the process was started without its pipes")
        try:
            try:
                process.stdin.write(as_lines(jobs))
                process.stdin.close()
            except BrokenPipeError:
                pass  # it says why on stderr
            for line in process.stdout:
                take(result_of(line))
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        finally:
            process.stdout.close()
        # 1 says that some job could not be run; its result tells why.
        if code not in (0, 1):
            log.seek(0)
            raise ExecutionError(_last_words(log.read(), code))


def _last_words(said: bytes, code: int) -> str:
    """Return what the process said before it ended, or how it ended when it said nothing."""
    lines = said.decode("utf-8", "replace").strip()[-_LAST_WORDS:].splitlines()
    if not lines:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"the process that measures {how} before it had measured everything"
    return "\n".join(shown(line, 500) for line in lines).removeprefix("Error: ")
