"""Waiting for a socket, with the instant at which the event loop learnt of it rather than when the waiter ran.

A wait costs one registration and, with a time-out, one timer: no task of its own. However it ends, nothing of it is left,
so that the socket can be closed at once. On a loop that has a watch, sockets are registered with that: two system calls,
where the loop itself may make up to eleven. Engines keep their sockets under a watch in any case: uvloop's own stops
looking at a socket that has something in its error queue.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import time
import weakref
from collections.abc import Callable


async def writable(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be written to, or has failed; return the instant by time.perf_counter_ns.

    Raises asyncio.TimeoutError when that takes longer than `timeout_s`.
    """
    return await _wait(sock.fileno(), timeout_s, write=True, read=False)


async def readable(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be read from, or has failed; return the instant by time.perf_counter_ns.

    Raises asyncio.TimeoutError when that takes longer than `timeout_s`.
    """
    return await _wait(sock.fileno(), timeout_s, write=False, read=True)


async def either(sock: socket.socket, timeout_s: float | None = None) -> int:
    """Wait until a socket can be read from or written to, or has failed; as the others do."""
    return await _wait(sock.fileno(), timeout_s, write=True, read=True)


def keep_watch() -> None:
    """Give the running loop a watch, which ends with it; without epoll there is none."""
    if sys.platform.startswith("linux"):
        _watch_of(asyncio.get_running_loop()).kept = True


def add_reader(loop: asyncio.AbstractEventLoop, sock: socket.socket, callback: Callable[[], object]) -> None:
    """Have a callback called while a socket has something to read, in its error queue too (Linux)."""
    _watch_of(loop).add_reader(sock.fileno(), callback)


def remove_reader(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Undo `add_reader`; the socket must still be open."""
    _watches[loop].remove_reader(sock.fileno())


class _Watch:
    """One epoll for sockets of a loop, which alone is registered with the loop.

    It is closed when nobody needs it any more, unless it is `kept`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._readers: dict[int, Callable[[], object]] = {}
        self.kept = False
        loop.add_reader(self._epoll.fileno(), self._wake)

    def begin(self, descriptor: int, future: asyncio.Future[int], *, write: bool, read: bool) -> bool:
        """Watch a descriptor; False when somebody waits for it already."""
        if descriptor in self._waiting or descriptor in self._readers:
            return False
        self._epoll.register(descriptor, (select.EPOLLOUT if write else 0) | (select.EPOLLIN if read else 0))
        self._waiting[descriptor] = future
        return True

    def end(self, descriptor: int, future: asyncio.Future[int]) -> None:
        """Watch it no longer."""
        if self._waiting.get(descriptor) is future:
            del self._waiting[descriptor]
            self._epoll.unregister(descriptor)
        self._close_unneeded()

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Have a callback called while there is something to read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        """Call it no longer."""
        del self._readers[descriptor]
        self._epoll.unregister(descriptor)
        self._close_unneeded()

    def _close_unneeded(self) -> None:
        if not (self.kept or self._readers or self._waiting or self._epoll.closed):
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            del _watches[self._loop]

    def _wake(self) -> None:
        now_ns = time.perf_counter_ns()
        for descriptor, _events in self._epoll.poll(0):
            reader = self._readers.get(descriptor)
            if reader is not None:
                reader()
                continue
            future = self._waiting.pop(descriptor, None)
            if future is None:  # a reader before it has let go of this one
                continue
            self._epoll.unregister(descriptor)
            if not future.done():
                future.set_result(now_ns)


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = weakref.WeakKeyDictionary()


def _watch_of(loop: asyncio.AbstractEventLoop) -> _Watch:
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch(loop)
    return watch


async def _wait(descriptor: int, timeout_s: float | None, *, write: bool, read: bool) -> int:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    watch = _watches.get(loop)
    watched = watch is not None and watch.begin(descriptor, future, write=write, read=read)
    if not watched:
        if write:
            loop.add_writer(descriptor, _note, future)
        if read:
            loop.add_reader(descriptor, _note, future)
    timer = None if timeout_s is None else loop.call_later(timeout_s, _give_up, future)
    try:
        return await future
    finally:
        if timer is not None:
            timer.cancel()
        if watch is not None and watched:
            watch.end(descriptor, future)
        else:
            if write:
                loop.remove_writer(descriptor)
            if read:
                loop.remove_reader(descriptor)


def _note(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_result(time.perf_counter_ns())


def _give_up(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_exception(asyncio.TimeoutError())
