"""The routers that this host hands its packets to first, and whether they are still there.

What counts as broken must be beyond doubt: the interface is off or without carrier, the kernel asks for the gateway's
link-layer address in vain, or a gateway that has answered echo requests is silent while nothing comes through it.
A gateway that never answers such requests, as many do not, is not known to be broken for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from worker.clock import Clock
from worker.probing import IPAddress
from worker.wire import batches, netlink
from worker.wire.echo import EchoPlan, EchoSendError, EchoUnavailableError
from worker.wire.netlink import Hop

if batches.SUPPORTED:
    from worker.wire.icmp import echo
else:
    from worker.wire.icmp_portable import echo

#: Looks at which a gateway must have answered, one after another, before its silence means something.
_PROVEN = 3
#: How long an answer may take: gateways are on the link, and may sleep between beacons.
_ANSWER_S = 0.4
#: Answers from beyond so long after a gateway fell silent cannot be those that were under way.
_SETTLED_US = 10_000_000
#: How long a verdict is good for: runs that fail together share one look, and while all is broken none waits for it.
_FRESH_US = {True: 1_000_000, False: 2_500_000}


@dataclass(kw_only=True)
class _Known:
    """What is known of one gateway; instants in microseconds of steady time."""

    #: Looks at which it answered, one after another.
    answered: int = 0
    #: Since when it does not answer.
    silent_us: int | None = None
    #: When an answer last came from beyond it, or from itself.
    heard_us: int | None = None
    #: The latest verdict, empty when nothing is wrong, and when it was made.
    fault: str = ""
    judged_us: int | None = None


class Gateways:
    """Looks at first hops. `may_ask` says whether the policy lets this worker send to a gateway."""

    def __init__(self, clock: Clock, *, may_ask: Callable[[IPAddress], bool]) -> None:
        self._clock = clock
        self._may_ask = may_ask
        self._known: dict[Hop, _Known] = {}
        self._looking = asyncio.Lock()

    def heard(self, hop: Hop) -> None:
        """Note that an answer came in by this hop."""
        known = self._known.setdefault(hop, _Known())
        known.heard_us = self._clock.steady_us()
        if known.fault:
            known.fault, known.judged_us = "", None

    def forget_but(self, hops: set[Hop]) -> None:
        """Forget the hops that are not among these."""
        self._known = {hop: known for hop, known in self._known.items() if hop in hops}

    async def fault(self, hop: Hop, *, since_us: int) -> str:
        """Return what is broken at a first hop, for people; empty when nothing demonstrably is.

        An answer that has come in by it since an instant of steady time shows that it works.
        """
        async with self._looking:
            known = self._known.setdefault(hop, _Known())
            now_us = self._clock.steady_us()
            if known.judged_us is not None and now_us - known.judged_us < _FRESH_US[not known.fault]:
                return known.fault
            known.fault = await self._look(hop, known, since_us)
            known.judged_us = self._clock.steady_us()
            return known.fault

    async def _look(self, hop: Hop, known: _Known, since_us: int) -> str:
        try:
            interface = netlink.link(hop.index)
        except OSError:
            return "the interface to the network is gone"
        if not interface.up:
            return f"the interface {interface.name} is switched off"
        if not interface.carrier:
            return f"the interface {interface.name} has no carrier"
        if hop.gateway is None:
            return ""
        asked_us = self._clock.steady_us()
        lost = netlink.is_lost(hop)
        answers = await self._answers(hop.gateway)
        if answers:
            known.answered, known.silent_us, known.heard_us = known.answered + 1, None, asked_us
            return ""
        known.silent_us = known.silent_us or asked_us
        if known.heard_us is not None and known.heard_us > since_us:
            if known.heard_us > known.silent_us + _SETTLED_US:
                known.answered = 0  # it hands packets on, and has only stopped answering requests
            return ""
        where = f"the gateway {_plain(hop.gateway)} on {interface.name}"
        if lost and netlink.is_lost(hop):
            how = "ARP requests" if hop.gateway.version == 4 else "neighbour solicitations"
            return f"{where} does not answer {how}"
        if answers is False and known.answered >= _PROVEN:
            return f"{where} has stopped answering, and nothing comes through it"
        return ""

    async def _answers(self, gateway: IPAddress) -> bool | None:
        """Return whether a gateway answers one of three echo requests; None when they cannot be sent."""
        if not self._may_ask(gateway):
            await self._clock.sleep(_ANSWER_S)
            return None
        for count in (1, 2):
            plan = EchoPlan(
                address=gateway,
                count=count,
                interval_s=0.02,
                timeout_s=_ANSWER_S,
                size=16,
                dscp=0,
                ttl=1,  # it goes no further than the gateway
                dont_fragment=False,
            )
            try:
                record = await echo(plan)
            except (EchoUnavailableError, EchoSendError):
                await self._clock.sleep(_ANSWER_S)
                return None
            if record.replies:
                return True
        return False


def _plain(address: IPAddress) -> str:
    return str(address).partition("%")[0]
