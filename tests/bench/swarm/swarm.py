"""The swarm as its conductor sees it: a few processes that play thousands of workers, one TCP connection each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.deployment import Member
from support.surroundings import clean_environment

_TESTS = Path(__file__).parents[2]
#: One worker of so many waits in a process of its own that is not held up by the work of all the others: how long its
#: results wait is what a worker on a machine of its own sees.
_ONE_OBSERVER_OF = 25
#: Seconds between two looks at all workers, each of which tells its own instants: looks take processor from what is measured.
_LOOK_S = 1.0


class Swarm:
    """Plays members against gateways; a context manager. `bare` holds streams without the worker's session code.

    Few processes: with each more the same members take more of the two processors that the gateway has too, 16 of them
    twice as much as two.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        gateways: Sequence[str],
        folder: Path,
        processes: int = 2,
        bare: bool = False,
    ) -> None:
        self.members = members
        self._first = {"gateways": list(gateways), "ca": members[0].ca_pem.decode(), "bare": bare}
        self._folder = folder
        step = min(_ONE_OBSERVER_OF, len(members))
        rest = [member for number, member in enumerate(members) if number % step]
        #: The members that each process plays; the observers are the first.
        self._parts = [list(members[::step]), *(rest[number::processes] for number in range(processes))]
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Swarm:
        """Start the processes; they have read their certificates when this returns."""
        for number, part in enumerate(self._parts):
            path = self._folder / f"members-{number}.jsonl"
            path.write_text("\n".join(map(_line, part)))
            with (self._folder / f"player-{number}.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "bench.swarm.player"],
                    env=clean_environment(PYTHONPATH=str(_TESTS)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            self._processes.append(process)
            self._say(process, {**self._first, "members": str(path), "observes": number == 0})
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def start(self) -> None:
        """Let every worker dial."""
        self._ask("start")

    def open(self) -> int:
        """Return how many workers have a session and its jobs."""
        return sum(self._ask("open"))

    def current(self) -> list[tuple[float, int, int]]:
        """Return of each worker: since when its jobs are in force (0: no session), their revision, results that wait."""
        return [tuple(item) for answer in self._ask("current") for item in answer]

    def heard(self) -> list[float]:
        """Return of each bare stream when its last message came."""
        return [at for answer in self._ask("heard") for at in answer]

    def produced(self) -> int:
        """Return how many results the swarm has spooled since its start."""
        return sum(self._ask("produced"))

    def rate(self, results_per_s: float) -> None:
        """Let the swarm deliver so many results a second, all together."""
        for process, part in zip(self._processes, self._parts, strict=True):
            self._answer(process, "rate", results_per_s * len(part) / len(self.members))

    def acknowledgements(self) -> list[float]:
        """Return how long results of the observers waited for their acknowledgement, in seconds; each is told once."""
        waited: list[float] = self._answer(self._processes[0], "acknowledgements")
        return waited

    def ends(self) -> list[str]:
        """Return how sessions ended, of all workers."""
        return [end for answer in self._ask("ends") for ends in answer for end in ends]

    def jobs(self) -> list[list[tuple[int, int]]]:
        """Return the jobs in force of each worker, with their versions."""
        return [[(job, version) for job, version in jobs] for answer in self._ask("jobs") for jobs in answer]

    def wait_open(self, seconds: float) -> float:
        """Wait until every worker has a session and its jobs; returns how long that took."""
        started = time.monotonic()
        while (count := self.open()) < len(self.members):
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"{count} of {len(self.members)} workers after {seconds:g} s")
            time.sleep(0.2)
        return time.monotonic() - started

    def wait_delivered(self, seconds: float) -> None:
        """Wait until no result waits for its acknowledgement."""
        deadline = time.monotonic() + seconds
        while left := sum(waiting for _, _, waiting in self.current()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} results are not acknowledged after {seconds:g} s")
            time.sleep(0.2)

    def wait_revision(self, revision: int, seconds: float, *, since: float = 0.0) -> list[float]:
        """Wait until every worker has taken over this job set or a newer one after `since`; returns when each did."""
        deadline = time.monotonic() + seconds
        while True:
            found = [at if has >= revision and at > since else 0.0 for at, has, _ in self.current()]
            if all(found):
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{found.count(0.0)} workers have no job set {revision} after {seconds:g} s"
                )
            time.sleep(_LOOK_S)

    def _ask(self, command: str, argument: Any = None) -> list[Any]:
        for process in self._processes:
            self._say(process, [command, argument])
        return [self._heard_from(process) for process in self._processes]

    def _answer(self, process: subprocess.Popen[str], command: str, argument: Any = None) -> Any:
        self._say(process, [command, argument])
        return self._heard_from(process)

    @staticmethod
    def _heard_from(process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        return json.loads(process.stdout.readline())

    @staticmethod
    def _say(process: subprocess.Popen[str], what: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def _line(member: Member) -> str:
    return json.dumps({"key": member.key_pem.decode(), "chain": member.chain_pem.decode()})
