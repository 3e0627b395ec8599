"""Looks at a TCP connection at regular intervals while something is transferred over it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from worker.wire import tcp_info
from worker.wire.tcp_info import TcpInfo


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look."""

    #: Instant by time.perf_counter_ns.
    at_ns: int
    info: TcpInfo


class Sampler:
    """Collects samples of one socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        #: In order of time.
        self.samples: list[Sample] = []

    def take(self) -> TcpInfo | None:
        """Look now; None where the system shows nothing."""
        info = tcp_info.read(self._sock)
        if info is not None:
            self.samples.append(Sample(at_ns=time.perf_counter_ns(), info=info))
        return info


@contextlib.asynccontextmanager
async def sampling(sock: socket.socket, interval_s: float) -> AsyncIterator[Sampler]:
    """Look at a socket now, once in each interval, and when the block ends; the socket must live longer."""
    sampler = Sampler(sock)
    sampler.take()
    task = asyncio.ensure_future(_repeat(sampler, interval_s))
    try:
        yield sampler
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sampler.take()


async def _repeat(sampler: Sampler, interval_s: float) -> None:
    due = time.monotonic()
    while True:
        # What was missed while the worker was busy is not made up for.
        due = max(due + interval_s, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        sampler.take()
