"""`python -m bench.swarm.player`: one process that plays many workers; told what to do on its standard input.

The first line is JSON: gateways, CA, and the file with the members to play. Then each line is a command, answered by
one line of JSON. All times are seconds of the machine's monotonic clock, the same in every process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from bench.swarm.members import SwarmWorker, greeting

from streamswarm import collector
from streamswarm.v1 import gateway_pb2
from worker import loop
from worker.identity import Identity, make_identity
from worker.transport import Stream, StreamEndedError, dial

_TICK_S = 0.05


class Player:
    """The workers of this process."""

    def __init__(self, gateways: list[str], identities: list[Identity], *, bare: bool) -> None:
        self._gateways = gateways
        self._identities = identities
        self._bare = bare
        self._latencies: list[float] = []
        self._workers: list[SwarmWorker] = []
        #: Of the bare streams: when the last message came.
        self._heard: dict[Stream, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._rate = 0.0

    async def answer(self, command: str, argument: Any) -> Any:
        """Do what a command says."""
        if command == "start":
            self._start()
        elif command == "open":
            return len(self._heard) if self._bare else sum(bool(item.current_at) for item in self._workers)
        elif command == "heard":
            return list(self._heard.values())
        elif command == "produced":
            return sum(item.queue.next_seq - 1 for item in self._workers)
        elif command == "current":
            return [(item.current_at, item.revision, item.queue.records) for item in self._workers]
        elif command == "rate":
            self._rate = float(argument)
        elif command == "acknowledgements":
            waited, self._latencies[:] = list(self._latencies), []
            return waited
        elif command == "ends":
            return [list(item.ends) for item in self._workers]
        elif command == "jobs":
            return [sorted(item.jobs.items()) for item in self._workers]
        elif command == "stop":
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        else:
            raise ValueError(f"no command `{command}`")
        return None

    def _start(self) -> None:
        if self._bare:
            self._tasks = [asyncio.create_task(self._hold(identity)) for identity in self._identities]
            return
        hello = greeting()
        self._workers = [
            SwarmWorker(identity, self._gateways, hello, self._latencies) for identity in self._identities
        ]
        self._tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        self._tasks.append(asyncio.create_task(self._measure()))

    async def _hold(self, identity: Identity) -> None:
        """Hold a stream that says one word and is answered with one, again if it breaks."""
        while True:
            stream = await dial(self._gateways[0], identity)
            try:
                await stream.send(gateway_pb2.WorkerMessage(hello=gateway_pb2.Hello(spool_id="bare")))
                while True:
                    await stream.receive()
                    self._heard[stream] = time.monotonic()
            except StreamEndedError:
                await asyncio.sleep(random.uniform(0.0, 1.0))
            finally:
                self._heard.pop(stream, None)
                await stream.close()

    async def _measure(self) -> None:
        """Let the workers take turns, so that together they deliver `rate` results a second."""
        due, place, before = 0.0, 0, time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            due += (now - before) * self._rate
            before = now
            for _ in range(int(due)):
                self._workers[place % len(self._workers)].measure()
                place += 1
            due -= int(due)


async def _serve() -> None:
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    first = json.loads(await reader.readline())
    if not first["observes"]:
        os.nice(10)  # it stands for other machines, which take no processor from what is measured
    ca_pem = first["ca"].encode()
    identities = []
    for line in Path(first["members"]).read_text(encoding="ascii").splitlines():
        values = json.loads(line)
        identities.append(
            make_identity(
                key_pem=values["key"].encode(), chain_pem=values["chain"].encode(), ca_pem=ca_pem, gateways=()
            )
        )
    collector.settle()  # as the worker's own process does
    player = Player(first["gateways"], identities, bare=first["bare"])
    while line := await reader.readline():
        command, argument = json.loads(line)
        answer = await player.answer(command, argument)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    loop.run(_serve())
