"""Decides which requests of other workers for the marks of their packets are answered; without sockets.

Of whom it answers it keeps nothing: the challenge that every request but the first has to show is computed anew from the
address that it came from. It keeps which requests were answered, for as long as each could be repeated: none is
answered twice. How much that is has a bound, for how often it answers has one.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import struct
from collections.abc import Callable, Sequence

from worker.policy import Policy
from worker.probing import IPAddress, ProbeFailure
from worker.wire import mark_messages
from worker.wire.mark_messages import CHALLENGE_S, FRESH_S, MAC_BYTES, MarkMessage, Sort

log = logging.getLogger(__name__)

#: Openings, and requests that show a challenge, that are answered in a second, of everybody together, and as many at
#: once: each has room of its own, so that neither keeps the other from being answered.
MOST_OPENED_PER_S = 100
MOST_SEEN_PER_S = 500
#: No request is good for longer: an opening from so long before its time by our clock to so long after it.
_MEMORY_US = 2 * max(FRESH_S, CHALLENGE_S) * 1_000_000
#: That openings come with a wrong time is told no more often.
_TELL_AGAIN_US = 600_000_000


class Answering:
    """Decides what is answered to whom.

    `steady_us` is a clock that is never set, `now_us` one that tells microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        responder_keys: Sequence[str],
        policy: Policy,
        *,
        steady_us: Callable[[], int],
        now_us: Callable[[], int],
    ) -> None:
        self._keys = [mark_messages.derived(key) for key in responder_keys]
        self._policy = policy
        self._steady_us = steady_us
        self._now_us = now_us
        #: Known to nobody else; challenges are made with it.
        self._own = secrets.token_bytes(32)
        self._rooms = {
            Sort.OPEN: _Room(MOST_OPENED_PER_S, steady_us()),
            Sort.MARKED: _Room(MOST_SEEN_PER_S, steady_us()),
        }
        self._answered = _Memory(steady_us())
        self._told_us: int | None = None

    def answer(self, data: bytes, octet: int | None, sender: IPAddress, port: int) -> bytes | None:
        """Return the answer to a datagram that came with that octet; None when there is none."""
        now_us = self._steady_us()
        mac = data[-MAC_BYTES:]
        if self._answered.has(mac, now_us):
            return None
        read = mark_messages.read(data, self._keys)
        if read is None or not self._allowed(sender):
            return None
        request, key = read
        reply = self._reply(request, octet, sender, port, now_us // (CHALLENGE_S * 1_000_000))
        if reply is None or not self._rooms[request.sort].take(now_us):
            return None
        self._answered.add(mac)
        return mark_messages.packed(reply, key)

    def _reply(
        self, request: MarkMessage, octet: int | None, sender: IPAddress, port: int, period: int
    ) -> MarkMessage | None:
        if request.sort is Sort.OPEN and self._is_fresh(request, sender):
            challenge = self._challenge(request.nonce, sender, port, period)
            return MarkMessage(
                sort=Sort.OPENED, nonce=request.nonce, sequence=request.sequence, challenge=challenge
            )
        if request.sort is Sort.MARKED and octet is not None:
            good = [self._challenge(request.nonce, sender, port, each) for each in (period, period - 1)]
            if any(hmac.compare_digest(request.challenge, each) for each in good):
                return MarkMessage(
                    sort=Sort.SEEN, nonce=request.nonce, sequence=request.sequence, octet=octet
                )
        return None

    def _is_fresh(self, request: MarkMessage, sender: IPAddress) -> bool:
        away_s = (request.at_us - self._now_us()) / 1e6
        if abs(away_s) <= FRESH_S:
            return True
        steady_us = self._steady_us()
        if self._told_us is None or steady_us - self._told_us >= _TELL_AGAIN_US:
            self._told_us = steady_us
            log.warning(
                "the responder does not answer %s: its request is %.0f s %s by this host's clock, and %d s are the most; "
                "set the clock that is wrong, unless somebody repeats what he has seen on the way",
                sender, abs(away_s), "old" if away_s < 0 else "ahead", FRESH_S,
            )  # fmt: skip
        return False

    def _challenge(self, nonce: bytes, sender: IPAddress, port: int, period: int) -> bytes:
        said = nonce + sender.packed + struct.pack("!Hq", port, period)
        return hmac.digest(self._own, said, "sha256")[: mark_messages.CHALLENGE_BYTES]

    def _allowed(self, sender: IPAddress) -> bool:
        """Say whether the policy lets this host send to the sender."""
        try:
            self._policy.check(sender)
        except ProbeFailure:
            return False
        return True


class _Room:
    """So many answers a second, and as many at once."""

    __slots__ = ("_at_us", "_left", "_per_s")

    def __init__(self, per_s: int, now_us: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at_us = now_us

    def take(self, now_us: int) -> bool:
        """Say whether there is room for one more answer, and take it."""
        self._left = min(self._per_s, self._left + (now_us - self._at_us) * self._per_s / 1e6)
        self._at_us = now_us
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Memory:
    """What was answered, by its signature: for as long as it can be repeated, and for twice as long at most."""

    __slots__ = ("_earlier", "_now", "_since_us")

    def __init__(self, now_us: int) -> None:
        self._now: set[bytes] = set()
        self._earlier: set[bytes] = set()
        self._since_us = now_us

    def has(self, mac: bytes, now_us: int) -> bool:
        """Say whether it was answered; to be asked before each `add`."""
        if now_us - self._since_us >= _MEMORY_US:
            self._earlier = self._now if now_us - self._since_us < 2 * _MEMORY_US else set()
            self._now = set()
            self._since_us = now_us
        return mac in self._now or mac in self._earlier

    def add(self, mac: bytes) -> None:
        """Keep it."""
        self._now.add(mac)
