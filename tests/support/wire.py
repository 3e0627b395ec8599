"""One stream between a worker and a gateway, as a pair of queues that can be cut, held up, and left half open."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from streamswarm.v1 import gateway_pb2
from worker.transport import StreamEndedError


class Wire:
    """One stream between a worker and a gateway. Both ends are here; each sees messages as they come off the wire."""

    def __init__(self) -> None:
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        #: While set, nothing gets through that way; it waits.
        self.hold_up = self.hold_down = False
        self.worker_cut = self.gateway_cut = False
        #: The gateway has ended the call: after what it has sent, the worker hears that.
        self.finished = False
        self.worker_end = WorkerEnd(self)
        self.gateway_end = GatewayEnd(self)
        self._changed = asyncio.Event()

    def change(self) -> None:
        """Wake whoever waits for something."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something holds."""
        while not true():
            await self._changed.wait()

    def cut(self, *, worker: bool = True, gateway: bool = True) -> None:
        """End the connection as those ends see it; what was on the way to an end that sees it is lost."""
        if worker:
            self.worker_cut = True
            self.down.clear()
        if gateway:
            self.gateway_cut = True
            self.up.clear()
        self.change()


class WorkerEnd:
    """The wire as a worker's session sees it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send(self, message: gateway_pb2.WorkerMessage) -> None:
        if self._wire.worker_cut:
            raise StreamEndedError("UNAVAILABLE")
        self._wire.up.append(message.SerializeToString())
        self._wire.change()

    async def receive(self) -> gateway_pb2.GatewayMessage:
        wire = self._wire
        await wire.until(lambda: wire.worker_cut or (not wire.hold_down and (wire.down or wire.finished)))
        if wire.worker_cut or not wire.down:
            raise StreamEndedError("UNAVAILABLE")
        return gateway_pb2.GatewayMessage.FromString(wire.down.popleft())

    async def close(self) -> None:
        self._wire.cut(gateway=False)


class GatewayEnd:
    """The wire as a gateway's session sees it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def read(self) -> gateway_pb2.WorkerMessage | None:
        wire = self._wire
        await wire.until(lambda: wire.gateway_cut or (wire.up and not wire.hold_up))
        if wire.gateway_cut:
            raise ConnectionError("cut")
        return gateway_pb2.WorkerMessage.FromString(wire.up.popleft())

    async def write(self, message: gateway_pb2.GatewayMessage | bytes) -> None:
        if self._wire.gateway_cut:
            raise ConnectionError("cut")
        self._wire.down.append(message if isinstance(message, bytes) else message.SerializeToString())
        self._wire.change()
