"""Keeps the worker connected: dials gateways, holds one session after the other, waits in between.

Everything but a clear refusal means "dial again", with full jitter, so that a thousand workers that lost the same
gateway do not come back at the same instant.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from streamswarm.v1 import gateway_pb2
from worker.clock import Clock
from worker.ending import End, SessionEnd
from worker.errors import WorkerError
from worker.identity import Identity, make_identity, new_key, signing_request
from worker.local import Local
from worker.session import Session
from worker.transport import Dial

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.5
#: All workers of a gateway that comes back after a long outage are there again within this time and a little more.
LONGEST_WAIT_S = 15.0
#: A session that held this long lets the waiting start anew.
_STABLE_S = 30.0
_REFUSED_WAIT_S = 300.0
#: Nobody dials in the first part of the time over which the workers of a lost gateway come back: it would not be there yet.
_PAUSE_SHARE = 0.15


class Backoff:
    """Waiting times with full jitter: anything from nothing to a bound that doubles."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def next_s(self, spread_s: float = 0.0) -> float:
        """Return how long to wait.

        While `spread_s`, over which others come back from now on too, is the larger it is the bound, and short waits are
        likelier than long ones: a gateway takes in the more the fewer it has to serve already.
        """
        bound = min(LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        if spread_s > bound:
            pause_s = spread_s * _PAUSE_SHARE
            return self._rng.triangular(pause_s, spread_s, pause_s)
        return self._rng.uniform(0.0, bound)

    def reset(self) -> None:
        self._failures = 0


class Renewal:
    """A renewal of the certificate in progress: holds the new key until its certificate has come."""

    def __init__(self, identity: Identity, save: Callable[[Identity], None]) -> None:
        self._identity = identity
        self._save = save
        self._key_pem = b""

    def start(self) -> bytes:
        """Make a new key; returns the request for its certificate."""
        self._key_pem = new_key()
        return signing_request(self._key_pem)

    async def finish(self, reply: gateway_pb2.RenewReply) -> bool:
        """Keep the new identity; False, with a line in the log, when the old one stays in use."""
        if reply.error:
            log.warning("the certificate was not renewed, it is tried again: %s", reply.error)
            return False
        try:
            renewed = make_identity(
                key_pem=self._key_pem,
                chain_pem=reply.certificate_chain_pem,
                ca_pem=reply.ca_bundle_pem or self._identity.ca_pem,
                gateways=self._identity.gateways,
            )
            if (renewed.worker_id, renewed.trust_domain) != (
                self._identity.worker_id,
                self._identity.trust_domain,
            ):
                log.error(
                    "the renewed certificate is that of another worker, %s; it is not used", renewed.worker_id
                )
                return False
            self._save(renewed)
        except WorkerError as error:
            log.error("the renewed certificate is not used: %s", error)
            return False
        return True


class Uplink:
    """Holds sessions for ever.

    `identify` returns the identity to dial with, waiting until there is one; `local` makes what a session needs
    of the worker for an identity; `ended` is told how each session ended.
    """

    def __init__(
        self,
        *,
        gateways: Sequence[str],
        identify: Callable[[], Awaitable[Identity]],
        local: Callable[[Identity], Local],
        dial: Dial,
        ended: Callable[[SessionEnd], Awaitable[None]],
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._gateways = tuple(gateways)
        self._identify = identify
        self._local = local
        self._dial = dial
        self._told = ended
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._known: tuple[str, ...] = ()
        #: Gateways that are to be tried before any is tried again; the last one first.
        self._queue: list[str] = []
        #: Until when the workers of the gateway that was lost come back, by the steady clock.
        self._spread_until_us = 0
        #: Until when the gateway is taken to be busy with that; those who dial last wait for an answer as well.
        self._busy_until_us = 0

    async def run(self) -> None:
        """Dial and hold sessions until cancelled."""
        backoff = Backoff(self._rng)
        while True:
            identity = await self._identify()
            address = self._next_gateway(identity)
            started_us = self._clock.steady_us()
            end = await self._hold(address, identity)
            if end.welcomed and self._clock.steady_us() - started_us >= _STABLE_S * 1e6:
                backoff.reset()
            if end.welcomed:
                lost_us, spread_us = self._clock.steady_us(), round(end.spread_s * 1e6)
                self._spread_until_us, self._busy_until_us = lost_us + spread_us, lost_us + 2 * spread_us
            await self._told(end)
            await self._wait(address, end, backoff)

    async def _hold(self, address: str, identity: Identity) -> SessionEnd:
        try:
            stream = await self._dial(address, identity)
            return await Session(stream, self._local(identity), busy_until_us=self._busy_until_us).run()
        except Exception as error:
            # Measuring goes on whatever a session stumbles over.
            log.exception("the session with %s failed unexpectedly", address)
            return SessionEnd(end=End.RETRY, reason=f"{type(error).__name__}: {error}", welcomed=False)

    def _next_gateway(self, identity: Identity) -> str:
        self._known = self._gateways or identity.gateways
        if not self._queue:
            self._queue = list(self._known)
            self._rng.shuffle(self._queue)
        if not self._queue:
            raise WorkerError(
                "no gateway is known to this worker",
                mend="set `gateways` in its configuration, or enrol it again",
            )
        return self._queue.pop()

    async def _wait(self, address: str, end: SessionEnd, backoff: Backoff) -> None:
        if end.end is End.RENEWED:
            log.info("session with %s: %s; connecting with the new certificate", address, end.reason)
            self._queue.append(address)
            return
        if end.end in (End.REFUSED, End.REVOKED):
            wait_s = _REFUSED_WAIT_S * self._rng.uniform(0.8, 1.2)
            log.error(
                "the controller refuses this worker (%s: %s); results wait in the spool, dialled again in %.0f s. "
                "To let it back in, enrol it again",
                address,
                end.reason,
                wait_s,
            )
        else:
            spread_s = max(0, self._spread_until_us - self._clock.steady_us()) / 1e6
            wait_s = end.wait_s * self._rng.uniform(1.0, 1.5) + backoff.next_s(spread_s)
            log.warning("session with %s ended: %s; dialling again in %.1f s", address, end.reason, wait_s)
            if end.end is End.ELSEWHERE and not self._queue:
                self._queue = [other for other in self._known if other != address]
                self._rng.shuffle(self._queue)
        await self._clock.sleep(wait_s)
