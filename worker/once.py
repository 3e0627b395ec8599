"""Runs jobs once: JSON lines in, JSON lines out, nothing kept. The same probes and policy as the daemon's."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from google.protobuf import json_format

from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from worker import loop, probes
from worker.clock import ControllerTime, SystemClock
from worker.policy import Policy
from worker.resolving import system_resolver
from worker.runner import Runner
from worker.vantage.health import Vantage

#: Every job could be run, whatever the destinations answered.
EXIT_OK = 0
#: At least one job could not be run.
EXIT_NOT_RUN = 1
#: At least one line is no job.
EXIT_BAD_INPUT = 2


def run_lines(
    lines: Iterable[str],
    output: TextIO,
    *,
    policy: Policy,
    all_or_none: bool = False,
    places: int = 64,
    databases: Path | None = None,
    responder_keys: tuple[str, ...] = (),
) -> int:
    """Run the job on each line and write results in the order in which runs end; returns the exit code.

    With `all_or_none` nothing is run unless everything may be: the results say then what may not, and why. `databases`
    and `responder_keys` are what a daemon's configuration has as `databases_dir` and as the keys of responders.
    """
    jobs: list[probe_pb2.Job] = []
    code = EXIT_OK
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            jobs.append(json_format.Parse(line, probe_pb2.Job()))
        except (json_format.ParseError, ValueError, RecursionError) as error:
            code = EXIT_BAD_INPUT
            print(f"line {number} is no job: {shown(str(error), 300)}", file=sys.stderr)  # noqa: T201  the command's message

    def write(result: probe_pb2.Result) -> None:
        values = json_format.MessageToDict(result, preserving_proto_field_name=True)
        output.write(json.dumps(values) + "\n")
        output.flush()

    if code and all_or_none:
        return code
    clock = SystemClock()
    runner = Runner(
        policy=policy,
        clock=clock,
        controller_time=ControllerTime(clock),
        load=probes.load,
        resolve=system_resolver(),
        places=places,
        vantage=Vantage(clock, policy),
        databases=databases,
        responder_keys=responder_keys,
    )
    all_ran = loop.run(_run_all(jobs, write, runner, clock, all_or_none=all_or_none, places=places))
    return code or (EXIT_OK if all_ran else EXIT_NOT_RUN)


async def _run_all(
    jobs: list[probe_pb2.Job],
    write: Callable[[probe_pb2.Result], None],
    runner: Runner,
    clock: SystemClock,
    *,
    all_or_none: bool,
    places: int,
) -> bool:
    refusals = [refusal for job in jobs if (refusal := runner.refusal(job))] if all_or_none else []
    if refusals:
        for refusal in refusals:
            write(refusal)
        return False
    free = asyncio.Semaphore(places)

    async def run(job: probe_pb2.Job) -> probe_pb2.Result:
        async with free:
            return await runner.run(job, clock.wall_us())

    all_ran = True
    for ending in asyncio.as_completed([run(job) for job in jobs]):
        result = await ending
        write(result)
        all_ran = all_ran and result.status in (probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED)
    return all_ran
