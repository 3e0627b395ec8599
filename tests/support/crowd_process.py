"""Many workers in one process: real daemons with real spools, one TCP connection each.

Called with a folder that holds one folder for each worker (identity, data) and `policy.yaml`. Says every ten seconds,
as one JSON line, how many batches were acknowledged since the last line and how long that took. SIGUSR1 lets all end
their sessions within a minute and begin others, as they do by themselves after some 40 minutes; SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections import deque
from pathlib import Path

from streamswarm.v1 import gateway_pb2
from worker.config import WorkerConfig
from worker.daemon import Daemon
from worker.identity import Identity
from worker.transport import Stream, StreamEndedError, dial

_TELL_S = 10.0
#: So long a turn of all sessions takes.
_TURN_S = 60.0

#: Milliseconds from sending a batch to its acknowledgement, since they were last told.
waits_ms: list[float] = []

#: Streams that are open.
streams: set[TimedStream] = set()


class TimedStream:
    """A stream that notes how long each batch of results waits for its acknowledgement, and can be told to end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._sent: deque[tuple[int, float]] = deque()
        self._over = False
        streams.add(self)

    def end(self) -> None:
        """End after the next message."""
        self._over = True

    async def send(self, message: gateway_pb2.WorkerMessage) -> None:
        if message.HasField("results"):
            self._sent.append((message.results.seqs[-1], time.monotonic()))
        await self._stream.send(message)

    async def receive(self) -> gateway_pb2.GatewayMessage:
        if self._over:
            raise StreamEndedError("its turn has come")
        message = await self._stream.receive()
        if message.HasField("ack"):
            now = time.monotonic()
            while self._sent and self._sent[0][0] <= message.ack.acked_seq:
                waits_ms.append((now - self._sent.popleft()[1]) * 1000)
        return message

    async def close(self) -> None:
        streams.discard(self)
        await self._stream.close()


async def timed_dial(address: str, identity: Identity) -> Stream:
    """Dial as workers do."""
    return TimedStream(await dial(address, identity))


async def tell() -> None:
    """Say how the acknowledgements come."""
    while True:
        await asyncio.sleep(_TELL_S)
        told, waits_ms[:] = sorted(waits_ms), []
        line = {"acks": len(told), "waits_ms": [round(wait, 2) for wait in told]}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def turn() -> None:
    """End each of the streams that are open now, one after the other."""
    loop = asyncio.get_running_loop()
    for number, stream in enumerate(list(streams)):
        loop.call_later(_TURN_S * number / len(streams), stream.end)


async def main(folder: Path) -> None:
    """Run all the workers until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, turn)
    telling = asyncio.create_task(tell())
    configurations = [
        WorkerConfig(host_name=path.name, data_dir=path, policy_file=folder / "policy.yaml")
        for path in sorted(folder.iterdir())
        if path.is_dir()
    ]
    await asyncio.gather(*(Daemon(each, dial_gateway=timed_dial).run(stop) for each in configurations))
    telling.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main(Path(sys.argv[1])))
