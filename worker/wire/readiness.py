"""Waiting for a socket, with the instant at which the event loop learnt of it rather than when the waiter ran."""

from __future__ import annotations

import asyncio
import socket
import time


async def writable(sock: socket.socket) -> int:
    """Wait until a socket can be written to, or has failed; return the instant by time.perf_counter_ns."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.add_writer(sock, _note, future)
    try:
        return await future
    finally:
        loop.remove_writer(sock)


async def readable(sock: socket.socket) -> int:
    """Wait until a socket can be read from, or has failed; return the instant by time.perf_counter_ns."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.add_reader(sock, _note, future)
    try:
        return await future
    finally:
        loop.remove_reader(sock)


def _note(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_result(time.perf_counter_ns())
