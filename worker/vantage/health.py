"""This host as a vantage point: whether its own access to the network is broken, so that no destination is blamed for it.

While jobs run, the first hops of their packets are looked at every few seconds; when a run fails, the way that its
packets went is looked at once more. Nothing is sent to anybody but the gateways themselves and, when names fail to
resolve, this host's own name servers. What is not known is never called broken.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable

from streamswarm.v1 import probe_pb2
from worker.clock import Clock
from worker.policy import Policy
from worker.probing import IPAddress, ProbeFailure
from worker.vantage.gateways import Gateways
from worker.vantage.nameservers import RESOLV_CONF, any_answers, name_servers
from worker.vantage.pressure import Pressure
from worker.vantage.strays import Strays
from worker.wire import netlink
from worker.wire.netlink import Hop
from worker.wire.source import BY_ROUTES, Source

log = logging.getLogger(__name__)

_LOOK_S = 5.0
#: While something is broken its end is looked for more often.
_BROKEN_LOOK_S = 2.0
#: An answer that is no older shows that a way works.
_LATELY_US = 2_000_000
#: Ways of runs that are looked at; where there are more, these stand for the others.
_MOST_WAYS = 64
#: A way is looked at for so long after its last use: jobs come every few minutes too.
_KEPT_US = 300_000_000
_HERE = ipaddress.IPv4Address("127.0.0.1")
#: A verdict about the name servers is good for so long.
_RESOLVER_FRESH_US = 2_000_000

Way = tuple[IPAddress, Source]


class Vantage:
    """Watches this host's access to the network."""

    def __init__(
        self,
        clock: Clock,
        policy: Policy,
        *,
        servers: Callable[[], tuple[IPAddress, ...]] = name_servers,
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._servers = servers
        self._gateways = Gateways(clock, may_ask=self._may_ask)
        self._pressure = Pressure(clock)
        self._strays = Strays(clock)
        #: First hops of the ways that runs went lately; None for those that need none.
        self._ways: dict[Way, Hop | None] = {}
        #: When each of them was used last, in microseconds of steady time; and which were since the last look.
        self._used_us: dict[Way, int] = {}
        self._used: set[Way] = set()
        self._resolver_us: int | None = None
        self._resolving = asyncio.Lock()
        #: Whether the name servers could not be reached when they were last looked at.
        self._cut_off = False
        #: What is wrong at present, for people, by what it is about.
        self._wrong: dict[str, str] = {}

    @property
    def alarm(self) -> str:
        """What is wrong with this host as a vantage point, for people; empty when nothing is known to be."""
        return "; ".join(dict.fromkeys(self._wrong.values()))

    def note(self, address: IPAddress, source: Source = BY_ROUTES, *, answered: bool) -> None:
        """Note which way a run went and whether an answer came back."""
        way = (address, source)
        if way not in self._ways:
            if len(self._ways) >= _MOST_WAYS:
                return
            self._ways[way] = self._hop_of(way)
        self._used.add(way)
        self._used_us[way] = self._clock.steady_us()
        hop = self._ways[way]
        if answered and hop is not None:
            self._gateways.heard(hop)

    async def fault(
        self,
        failure: ProbeFailure,
        address: IPAddress | None,
        source: Source = BY_ROUTES,
        *,
        started_us: int,
    ) -> str:
        """Return what of this host is broken and explains a failure, for people; empty when nothing is known to.

        `address` is the one that the run used, `started_us` the steady time of its start.
        """
        if not netlink.SUPPORTED:
            return ""
        if failure.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS:
            return ""  # what came back was measured and is not what the test wants
        if address is not None and failure.source == probe_pb2.FAILURE_SOURCE_NETWORK:
            return await self._fault_on((address, source), started_us)
        if address is not None and failure.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND:
            # A route that is not there has been told already.
            hop = self._hop_of((address, source))
            return "" if hop is None else await self._fault_at(hop, started_us)
        if failure.reason == probe_pb2.FAILURE_REASON_RESOLVER_FAILED:
            fault = await self._resolver_fault()
            # Name servers that can be reached and do not answer are the resolver's failure, as the run says already.
            return fault if self._cut_off else ""
        return ""

    async def watch(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(_BROKEN_LOOK_S if self._wrong else _LOOK_S)
            if netlink.SUPPORTED:
                try:
                    await self.look()
                except Exception:
                    # Whatever this trips over, runs go on, and are judged as they are.
                    log.exception("this host's access to the network could not be looked at")

    async def look(self) -> None:
        """Look at the ways that were used lately, and at what was wrong when they were looked at last."""
        self._forget()
        self._ways = {way: self._hop_of(way) for way in self._ways}
        hops = {hop for hop in self._ways.values() if hop is not None}
        self._gateways.forget_but(hops)
        since_us = self._clock.steady_us() - _LATELY_US
        faults = await asyncio.gather(*(self._gateways.fault(hop, since_us=since_us) for hop in hops))
        wrong = dict(zip(map(_about, hops), faults, strict=True))
        wrong |= self._pressure.look({hop.index for hop in hops}) | self._strays.look()
        if "names" in self._wrong:
            wrong["names"] = await self._resolver_fault()
        self._tell({about: text for about, text in wrong.items() if text})

    def _forget(self) -> None:
        """Let go of ways that nobody has used for long, and where there are many, of those that others stand for."""
        used, self._used = self._used, set()
        after_us = self._clock.steady_us() - _KEPT_US
        idle = [way for way, hop in self._ways.items() if way not in used and not self._is_wrong(hop)]
        idle.sort(key=lambda way: self._used_us[way], reverse=True)
        room = max(0, _MOST_WAYS // 2 - len(self._ways) + len(idle))
        for number, way in enumerate(idle):
            if number >= room or self._used_us[way] < after_us:
                del self._ways[way], self._used_us[way]

    def _is_wrong(self, hop: Hop | None) -> bool:
        return hop is not None and _about(hop) in self._wrong

    async def _fault_on(self, way: Way, since_us: int) -> str:
        try:
            hop = _first_hop(way)
        except OSError as error:
            # Asked a moment ago the kernel still had one, or the run could not have sent.
            lost = error.errno in (errno.ENETUNREACH, errno.ENODEV, errno.ENXIO)
            return f"there is no route to {way[0]} any more" if lost else ""
        return "" if hop is None else await self._fault_at(hop, since_us)

    async def _fault_at(self, hop: Hop, since_us: int) -> str:
        fault = await self._gateways.fault(hop, since_us=since_us)
        if fault:
            self._tell({**self._wrong, _about(hop): fault})
        return fault

    async def _resolver_fault(self) -> str:
        """Return what keeps this host from resolving any name at all; empty when it is one name's own trouble."""
        async with self._resolving:
            now_us = self._clock.steady_us()
            if self._resolver_us is not None and now_us - self._resolver_us < _RESOLVER_FRESH_US:
                return self._wrong.get("names", "")
            fault = await self._look_at_resolver()
            self._resolver_us = self._clock.steady_us()
            known = {about: text for about, text in self._wrong.items() if about != "names"}
            self._tell({**known, "names": fault} if fault else known)
            return fault

    async def _look_at_resolver(self) -> str:
        servers = self._servers()
        if not servers:
            # The C library then asks this host itself.
            self._cut_off = not await any_answers((_HERE,))
            return (
                f"{RESOLV_CONF} names no name server, and none answers on this host" if self._cut_off else ""
            )
        for server in servers:
            self.note(server, answered=False)
        since_us = self._clock.steady_us() - _LATELY_US
        faults = [await self._fault_on((server, BY_ROUTES), since_us) for server in servers]
        self._cut_off = all(faults)
        if self._cut_off:
            return f"none of its name servers can be reached: {faults[0]}"
        if await any_answers(servers):
            return ""
        names = ", ".join(map(str, servers))
        return f"none of its name servers ({names}) answers, not even for the root"

    def _tell(self, wrong: dict[str, str]) -> None:
        """Take over what is wrong, and log what has changed."""
        for about, text in wrong.items():
            if about not in self._wrong:
                log.warning("this host as a vantage point: %s", text)
        for about, text in self._wrong.items():
            if about not in wrong:
                log.info("this host as a vantage point is well again; it was that %s", text)
        self._wrong = wrong

    def _hop_of(self, way: Way) -> Hop | None:
        try:
            return _first_hop(way) if netlink.SUPPORTED else None
        except OSError:
            return None

    def _may_ask(self, address: IPAddress) -> bool:
        try:
            self._policy.check_kind("ping")
            self._policy.check(address)
        except ProbeFailure:
            return False
        return True


def _first_hop(way: Way) -> Hop | None:
    address, source = way
    index = socket.if_nametoindex(source.interface) if source.interface else 0
    return netlink.first_hop(address, origin=source.address, index=index)


def _about(hop: Hop) -> str:
    return f"hop {hop.index} {hop.gateway}"
