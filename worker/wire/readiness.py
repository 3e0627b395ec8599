"""Waiting for a socket, with the instant at which the event loop learnt of it rather than when the waiter ran.

A wait costs one registration and, with a time-out, one timer: no task of its own. However it ends, nothing of it is left,
so that the socket can be closed at once. On a loop that has a watch, sockets are registered with that: two system calls,
where the loop itself may make up to eleven.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import time
import weakref


async def writable(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be written to, or has failed; return the instant by time.perf_counter_ns.

    Raises asyncio.TimeoutError when that takes longer than `timeout_s`.
    """
    return await _wait(sock.fileno(), timeout_s, write=True)


async def readable(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be read from, or has failed; return the instant by time.perf_counter_ns.

    Raises asyncio.TimeoutError when that takes longer than `timeout_s`.
    """
    return await _wait(sock.fileno(), timeout_s, write=False)


def keep_watch() -> None:
    """Give the running loop a watch, which ends with it; without epoll there is none."""
    loop = asyncio.get_running_loop()
    if sys.platform.startswith("linux") and loop not in _watches:
        _watches[loop] = _Watch(loop)


class _Watch:
    """One epoll for all sockets of a loop, which alone is registered with the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Future[int]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def begin(self, descriptor: int, future: asyncio.Future[int], *, write: bool) -> bool:
        """Watch a descriptor; False when somebody waits for it already."""
        if descriptor in self._waiting:
            return False
        self._epoll.register(descriptor, select.EPOLLOUT if write else select.EPOLLIN)
        self._waiting[descriptor] = future
        return True

    def end(self, descriptor: int, future: asyncio.Future[int]) -> None:
        """Watch it no longer."""
        if self._waiting.get(descriptor) is future:
            del self._waiting[descriptor]
            self._epoll.unregister(descriptor)

    def _wake(self) -> None:
        now_ns = time.perf_counter_ns()
        for descriptor, _events in self._epoll.poll(0):
            future = self._waiting.pop(descriptor)
            self._epoll.unregister(descriptor)
            if not future.done():
                future.set_result(now_ns)


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = weakref.WeakKeyDictionary()


async def _wait(descriptor: int, timeout_s: float | None, *, write: bool) -> int:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    watch = _watches.get(loop)
    watched = watch is not None and watch.begin(descriptor, future, write=write)
    if not watched:
        (loop.add_writer if write else loop.add_reader)(descriptor, _note, future)
    timer = None if timeout_s is None else loop.call_later(timeout_s, _give_up, future)
    try:
        return await future
    finally:
        if timer is not None:
            timer.cancel()
        if watch is not None and watched:
            watch.end(descriptor, future)
        elif write:
            loop.remove_writer(descriptor)
        else:
            loop.remove_reader(descriptor)


def _note(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_result(time.perf_counter_ns())


def _give_up(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_exception(asyncio.TimeoutError())
