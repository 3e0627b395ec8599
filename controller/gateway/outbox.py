"""What a session still has to say to its worker: the newest of each, never a queue that grows.

A worker that does not read costs no memory: acknowledgements and job sets replace their predecessors.
"""

from __future__ import annotations

import asyncio

from controller.gateway.jobs import Change, Jobs
from streamswarm.v1 import gateway_pb2

#: A message, or one that is serialised already.
Outgoing = gateway_pb2.GatewayMessage | bytes


class Outbox:
    """Filled by the session, the rounds and the pipeline; emptied by the session's writer."""

    __slots__ = (
        "_acked_seq",
        "_change",
        "_finishing",
        "_goodbye",
        "_heartbeat",
        "_renewed",
        "_something",
        "_spool_id",
        "finished",
        "sent_jobs",
    )

    def __init__(self, spool_id: str) -> None:
        self._spool_id = spool_id
        self._something = asyncio.Event()
        self._acked_seq: int | None = None
        self._renewed: gateway_pb2.RenewReply | None = None
        self._heartbeat: gateway_pb2.HeartbeatReply | None = None
        self._change: Change | None = None
        #: What the worker was told to run; None before the first set.
        self.sent_jobs: Jobs | None = None
        self._goodbye: gateway_pb2.GatewayMessage | None = None
        #: Nothing comes after what `take` returned last.
        self.finished = False
        self._finishing = False

    @property
    def jobs_revision(self) -> int | None:
        """Revision of the newest job set that was handed in; None before the first."""
        newest = self.sent_jobs if self._change is None else self._change.wanted
        return None if newest is None else newest.revision

    def acknowledge(self, seq: int) -> None:
        """Say that everything up to `seq` is stored."""
        self._acked_seq = seq
        self._something.set()

    def renewed(self, reply: gateway_pb2.RenewReply) -> None:
        """Answer a renewal."""
        self._renewed = reply
        self._something.set()

    def heartbeat(self, reply: gateway_pb2.HeartbeatReply) -> None:
        """Answer a heartbeat."""
        self._heartbeat = reply
        self._something.set()

    def change_jobs(self, change: Change) -> None:
        """Bring the worker to another job set, unless it was sent another one since this was worked out.

        Then the next look finds the difference that is left.
        """
        if change.base is self.sent_jobs:
            self._change = change
            self._something.set()

    def finish(self, goodbye: gateway_pb2.GatewayMessage | None) -> None:
        """Say what is left, then the goodbye, then nothing more."""
        self._goodbye = goodbye
        self._finishing = True
        self._something.set()

    async def take(self) -> list[Outgoing]:
        """Wait until there is something to say and return all of it; it counts as said."""
        await self._something.wait()
        self._something.clear()
        messages: list[Outgoing] = []
        if self._acked_seq is not None:
            ack = gateway_pb2.Ack(spool_id=self._spool_id, acked_seq=self._acked_seq)
            messages.append(gateway_pb2.GatewayMessage(ack=ack))
        if self._renewed is not None:
            messages.append(gateway_pb2.GatewayMessage(renewed=self._renewed))
        if self._change is not None and not self._finishing:
            messages.append(self._change.message)
            self.sent_jobs = self._change.wanted
        if self._heartbeat is not None:
            messages.append(gateway_pb2.GatewayMessage(heartbeat=self._heartbeat))
        self._acked_seq = self._renewed = self._heartbeat = self._change = None
        if self._finishing:
            self.finished = True
            if self._goodbye is not None:
                messages.append(self._goodbye)
        return messages
