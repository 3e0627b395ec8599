"""Waiting for a socket, with the instant at which the event loop learnt of it rather than when the waiter ran.

A wait costs one registration with the loop and, with a time-out, one timer: no task of its own. However it ends, nothing
of it is left in the loop, so that the socket can be closed at once.
"""

from __future__ import annotations

import asyncio
import socket
import time


async def writable(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be written to, or has failed; return the instant by time.perf_counter_ns.

    Raises asyncio.TimeoutError when that takes longer than `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    timer = None if timeout_s is None else loop.call_later(timeout_s, _give_up, future)
    loop.add_writer(sock, _note, future)
    try:
        return await future
    finally:
        loop.remove_writer(sock)
        if timer is not None:
            timer.cancel()


async def readable(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be read from, or has failed; return the instant by time.perf_counter_ns.

    Raises asyncio.TimeoutError when that takes longer than `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    timer = None if timeout_s is None else loop.call_later(timeout_s, _give_up, future)
    loop.add_reader(sock, _note, future)
    try:
        return await future
    finally:
        loop.remove_reader(sock)
        if timer is not None:
            timer.cancel()


def _note(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_result(time.perf_counter_ns())


def _give_up(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_exception(asyncio.TimeoutError())
