"""Waiting for sockets, by the loop itself and by its watch: on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from worker import loop as worker_loop
from worker.wire import readiness
from worker.wire.readiness import either, readable, writable


async def _watched(main: Coroutine[Any, Any, None]) -> None:
    readiness.keep_watch()
    await main


#: Ways to run a coroutine to its end.
RUNS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {
    "asyncio": asyncio.run,
    "asyncio, watched": lambda main: asyncio.run(_watched(main)),
    "uvloop": uvloop.run,
    "the worker's": worker_loop.run,
}
every_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@every_run
def test_what_is_there_and_what_comes(run: Callable[..., None]) -> None:
    """Room to write at once; bytes after 50 ms, with the instant of their coming; the end of the other side too."""

    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            assert await writable(near) <= time.perf_counter_ns()
            for data in (b"one", b"two"):
                began = time.perf_counter_ns()
                asyncio.get_running_loop().call_later(0.05, far.send, data)
                assert 45e6 < await readable(near, 5) - began < 1e9
                assert near.recv(10) == data
            far.close()
            await readable(near, 5)
            assert near.recv(10) == b""

    run(main())


@every_run
def test_whichever_comes_first(run: Callable[..., None]) -> None:
    """A socket that is full: bytes from the other side end the wait, and so does room for more."""

    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    near.send(bytes(10_000))
            with pytest.raises(asyncio.TimeoutError):
                await either(near, 0.02)
            asyncio.get_running_loop().call_later(0.02, far.send, b"one")
            await either(near, 5)
            assert near.recv(10) == b"one"
            asyncio.get_running_loop().call_later(0.02, _empty, far)
            await either(near, 5)
            assert near.send(b"two") == 3

    run(main())


def _empty(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(100_000):
            pass


@every_run
def test_waits_that_end_otherwise_leave_nothing(run: Callable[..., None]) -> None:
    """Time-outs and cancellations; the socket can be closed at once, and another with its number waited for."""

    async def main() -> None:
        for _ in range(3):
            near, far = socket.socketpair()
            with near, far:
                near.setblocking(False)
                with pytest.raises(asyncio.TimeoutError):
                    await readable(near, 0.01)
                task = asyncio.ensure_future(readable(near))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                far.send(b"x")
                await readable(near, 5)

    run(main())


@every_run
def test_two_waits_for_one_socket(run: Callable[..., None]) -> None:
    """For bytes and for room."""

    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            waiting = asyncio.ensure_future(readable(near, 5))
            await asyncio.sleep(0)
            await writable(near, 5)
            assert not waiting.done()
            far.send(b"x")
            await waiting

    run(main())
