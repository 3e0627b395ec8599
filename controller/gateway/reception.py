"""Opens sessions in the database: the Hellos that wait go into one transaction.

After a gateway's restart thousands of workers come at once. One by one, their Hellos would cost a transaction each;
so each transaction takes all that have come in a tenth of a second, and a lone Hello still waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from controller.gateway import arrivals, roster
from controller.gateway.arrivals import Arrival, NotListedError, Opened, OpenedSession
from controller.gateway.database import Database, is_transient
from controller.gateway.identity import Peer
from streamswarm.v1.gateway_pb2 import Hello

_log = logging.getLogger(__name__)

#: Hellos that are opened in one transaction; where less wait, so many seconds lie between the beginnings of two.
_TOGETHER, _APART_S = 500, 0.1
#: A worker whose row another transaction holds is tried again after so long, until the second figure has passed: no
#: transaction of a gateway lives for that long.
_AGAIN_S, _PATIENCE_S = 0.05, 12.0
#: While rows are held, transactions that should have ended long ago are looked for this often.
_LOOK_S = 1.0


class BusyError(Exception):
    """The database cannot be reached, or another transaction holds the worker's row for too long."""


@dataclass(kw_only=True)
class _Guest:
    arrival: Arrival
    came_at: float
    opened: asyncio.Future[OpenedSession]

    @property
    def worker_id(self) -> uuid.UUID:
        return self.arrival.peer.worker_id


class Reception:
    """Takes Hellos; `run` is its task. `process_id` is set before the first one comes."""

    def __init__(
        self, database: Database, on_deserted: Callable[[uuid.UUID, int], None] = lambda _worker, _epoch: None
    ) -> None:
        self._database = database
        #: Told of worker and epoch when a session was opened for somebody who has gone away meanwhile.
        self._on_deserted = on_deserted
        self.process_id = 0
        self._waiting: list[_Guest] = []
        #: Those whose Hellos are in the transaction that runs.
        self.served: list[_Guest] = []
        self._something = asyncio.Event()
        self._began_at = -_APART_S
        self._looked_at = 0.0

    def __len__(self) -> int:
        """Return how many Hellos wait for an answer."""
        return len(self._waiting) + len(self.served)

    async def open(self, peer: Peer, hello: Hello) -> OpenedSession:
        """Make this the worker's newest session; raises NotListedError or BusyError."""
        guest = _Guest(
            arrival=Arrival(peer=peer, hello=hello),
            came_at=time.monotonic(),
            opened=asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(guest)
        self._something.set()
        try:
            return await guest.opened
        except asyncio.CancelledError:
            if guest.opened.done() and not guest.opened.cancelled() and guest.opened.exception() is None:
                self._on_deserted(guest.worker_id, guest.opened.result().epoch)
            raise

    async def run(self) -> None:
        """Open sessions until cancelled."""
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while guests := await self._next():
                    self.served = guests
                    held = await self._receive(guests)
                    self.served = []
                    if held:
                        await self._end_stuck()
                    if held and not self._waiting:
                        await asyncio.sleep(_AGAIN_S)
                    self._waiting += held
        finally:
            for guest in self._waiting:
                _refuse(guest, BusyError("the gateway stops"))

    async def _next(self) -> list[_Guest]:
        """Take guests out of the queue, of each worker the first; those that have gone away meanwhile are dropped."""
        if 0 < len(self._waiting) < _TOGETHER:
            await asyncio.sleep(self._began_at + _APART_S - time.monotonic())
        taken: dict[uuid.UUID, _Guest] = {}
        left = []
        for guest in self._waiting:
            if guest.opened.done():
                continue
            if guest.worker_id in taken or len(taken) == _TOGETHER:
                left.append(guest)
            else:
                taken[guest.worker_id] = guest
        self._waiting = left
        if taken:
            self._began_at = time.monotonic()
        return list(taken.values())

    async def _receive(self, guests: list[_Guest]) -> list[_Guest]:
        """Open sessions for guests and tell them; return those whose rows are held and who still have patience."""
        try:
            opened = await self._open(guests)
        except asyncio.CancelledError:
            self._waiting += guests
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the workers dial again
            if len(guests) > 1 and not is_transient(error):
                # One Hello holds what the database does not take; the others shall not suffer for it.
                return [held for guest in guests for held in await self._receive([guest])]
            if not is_transient(error):
                _log.exception("a session of worker %s cannot be opened", guests[0].worker_id)
            for guest in guests:
                _refuse(guest, BusyError(str(error)))
            return []
        held = []
        for guest in guests:
            if guest.worker_id in opened:
                self._answer(guest, opened[guest.worker_id])
            elif time.monotonic() - guest.came_at < _PATIENCE_S:
                held.append(guest)
            else:
                _refuse(guest, BusyError("another transaction holds the worker's row"))
        return held

    async def _end_stuck(self) -> None:
        """Free rows that a gateway holds which was stopped in the middle of storing."""
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        try:
            async with self._database.connection() as connection:
                ended = await roster.end_stuck(connection)
        except Exception as error:  # noqa: BLE001  the next look comes soon, and the guests' own patience ends
            _log.warning("transactions that hold workers' rows cannot be looked for: %s", error)
        else:
            if ended:
                _log.warning("%s transactions of a gateway that stands still were ended", ended)

    def _answer(self, guest: _Guest, opened: OpenedSession | None) -> None:
        if opened is None:
            _refuse(guest, NotListedError())
        elif not guest.opened.done():
            guest.opened.set_result(opened)
        else:
            self._on_deserted(guest.worker_id, opened.epoch)

    async def _open(self, guests: list[_Guest]) -> Opened:
        async with self._database.connection() as connection:
            return await arrivals.open_sessions(
                connection, [guest.arrival for guest in guests], self.process_id
            )


def _refuse(guest: _Guest, error: Exception) -> None:
    if not guest.opened.done():
        guest.opened.set_exception(error)
