"""What a session with a gateway needs of the worker around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from streamswarm.v1 import gateway_pb2
from worker.clock import Clock, ControllerTime
from worker.spool.records import Record


class ResultQueue(Protocol):
    """What a session needs of the spool."""

    @property
    def spool_id(self) -> str: ...
    @property
    def next_seq(self) -> int: ...
    @property
    def first_unacked_seq(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def alarm(self) -> str: ...
    async def read(self, after_seq: int, *, limit: int, max_bytes: int) -> list[Record]: ...
    async def wait_beyond(self, seq: int, spool_id: str) -> None: ...
    def sent(self, seq: int) -> None: ...
    def acknowledge(self, seq: int) -> None: ...
    async def become_another(self, reason: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Local:
    """What a session needs of the worker around it."""

    spool: ResultQueue
    clock: Clock
    time: ControllerTime
    #: Returns Hello without spool and clock, which the session fills in.
    hello: Callable[[], gateway_pb2.Hello]
    #: Called after Welcome.
    welcomed: Callable[[gateway_pb2.Welcome], Awaitable[None]]
    #: Takes over a set of jobs.
    take_jobs: Callable[[gateway_pb2.JobSet], Awaitable[None]]
    #: Returns the revision of the jobs in force, the number of runs under way, and what is wrong with the host's access
    #: to the network.
    state: Callable[[], tuple[int, int, str]]
    #: When to renew the certificate and when it ends, in the controller's time.
    renew_at_us: int
    not_after_us: int
    #: Returns a certificate request for a new key.
    start_renewal: Callable[[], bytes]
    #: Takes over the answer; False when it is of no use.
    finish_renewal: Callable[[gateway_pb2.RenewReply], Awaitable[bool]]
    #: Set while somebody wants the certificate renewed before its time.
    renew_now: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when the worker ends: what waits is delivered at once.
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
