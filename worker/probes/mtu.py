"""The kind `mtu`: the largest packet that a path carries unfragmented, and what limits it."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from streamswarm.targets import Target
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.mtu_pb2 import MtuResult, MtuSpec
from worker.evaluation.path_mtu import Search
from worker.failures import LOOK, internal_failure, network_failure, unsent, vantage_failure
from worker.probing import Availability, FailingWith, IPAddress, Need, Outcome, ProbeContext
from worker.wire import icmp_messages, netlink
from worker.wire.echo import EchoUnavailableError, echo_availability
from worker.wire.source import Source

if sys.platform.startswith("linux"):
    from worker.wire.icmp import open_socket
    from worker.wire.unfragmented import DEFAULT_TTL, Prober, Verdict

#: How often a limit by vanishing packets may turn out to be loss before the search is given up as unconfirmed.
_MOST_SEARCHES = 6
#: Hops to look at for the one before the limit, and silent ones in a row after which it is given up.
_MOST_HOPS = 30
_MOST_SILENT_HOPS = 3
#: Size of jumbo frames; larger packets cross no network.
_JUMBO_BYTES = 9216
_WAIT_MARGIN_S = 0.1
#: What a packet may take beside its wait, on a busy host.
_AROUND_S = 0.01
_CONTRADICTION = "what larger ones met changed so often that the search was given up"


async def run(target: Target, spec: MtuSpec, context: ProbeContext) -> Outcome:
    """Search the path to the first address that the resolver gives."""
    if spec.max_size_bytes < spec.min_mtu_bytes:
        raise internal_failure(
            f"the test wants a path MTU of {spec.min_mtu_bytes} bytes and sends no packets of more than "
            f"{spec.max_size_bytes}: raise `max_size_bytes`, or lower `min_mtu_bytes`",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        )
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    detail: dict[str, Any] = {"address": str(address)}
    with FailingWith(detail):
        context.guard.check(address, spec.port if spec.method == "udp" else None)
        run = _Run(address, spec, detail, source)
        try:
            await run.measure()
        except EchoUnavailableError as error:
            raise vantage_failure(
                f"echo requests cannot be sent from this host: {error}",
                run.metrics,
                reason=error.failure_reason,
            ) from error
        except OSError as error:
            raise unsent(error, str(address), run.metrics, advice=LOOK) from error
    return Outcome(metrics=run.metrics, detail=detail)


def availability() -> Availability:
    """Only Linux lets packets out that are larger than what it believes the path to carry."""
    if not sys.platform.startswith("linux"):
        return Availability(available=False, reason="path MTU is measured on Linux only")
    found = echo_availability(open_socket)
    if not found.available:
        return Availability(
            available=True, reason=f"with the method udp only: {found.reason}", mend=found.mend
        )
    return found


def duration_s(spec: MtuSpec) -> float:
    """Return the longest time that a run may take."""
    return _packets(spec) * (spec.timeout_ms / 1000 + _AROUND_S)


def _packets(spec: MtuSpec) -> int:
    """Return the most packets of a run, each of which is waited for no longer than the time-out."""
    return _packets_of_search(spec) + (_packets_of_hops(spec) if spec.locate else 0)


def _packets_of_search(spec: MtuSpec) -> int:
    """Return how many packets look for the limit at most; a search that would take more is given up as uncertain.

    Halving twice over, for what passes and for what vanishes, takes fewer on any path that is as it is, however silent;
    what is beyond that is for losses. A router that lies could have each size tried.
    """
    sizes = 3 * (1 + spec.max_size_bytes.bit_length())
    return spec.tries * (1 + sizes) + 2 * 6 * spec.confirmations


def _packets_of_hops(spec: MtuSpec) -> int:
    """Return how many packets look for the hop before the limit at most."""
    return _MOST_HOPS + 2 * _MOST_SILENT_HOPS * spec.tries


def need(spec: MtuSpec) -> Need:
    """Return the most that a run may need; packets that are larger than jumbo frames stay on the host."""
    packets = _packets(spec)
    return Need(packets=packets, size=2 * packets * min(spec.max_size_bytes, _JUMBO_BYTES))


class _SpentError(Exception):
    """A part of the run has sent all the packets that it may."""


class _Run:
    """One search, with what it counts."""

    def __init__(self, address: IPAddress, spec: MtuSpec, detail: dict[str, Any], source: Source) -> None:
        self._address = address
        self._spec = spec
        self._detail = detail
        self._source = source
        self._prober = Prober(address, method=spec.method, port=spec.port, dscp=spec.dscp, source=source)
        self._timeout_s = self._wait_s = spec.timeout_ms / 1000
        self._slowest_ms = 0.0
        self._lost = 0
        self._reports = 0
        #: Packets that may still be sent.
        self._left = _packets_of_search(spec)
        self._given_up = False
        #: The smallest packet that this host's kernel has refused as too big for its own link.
        self._refused_here: int | None = None
        self.metrics = MtuResult()

    async def measure(self) -> None:
        """Find the limit and fill in the metrics, also when it fails half-way."""
        try:
            largest = self._look_at_this_host()
            search = Search(await self._reach(), largest)
            try:
                confirmed = await self._search(search)
            except _SpentError:
                confirmed, self._given_up = False, True
            self._fill(search, confirmed)
            if self._spec.locate and search.limited and not self._given_up:
                await self._locate(search.passing + 1, reported=search.reported_next)
        finally:
            self._count()
        wanted = self._spec.min_mtu_bytes
        if search.passing >= wanted:
            return
        if not search.limited or self._refused_here == search.passing + 1:
            raise vantage_failure(
                f"this host sends no packets of more than {search.passing} bytes to {self._address}, so that it cannot "
                f"tell whether the path carries {wanted}; give its interface a larger MTU, or the test a smaller one",
                self.metrics,
                reason=probe_pb2.FAILURE_REASON_CANNOT_SEND,
            )
        if self._given_up:
            raise network_failure(
                f"the path to {self._address} was not found to carry {wanted} bytes, as the test wants: it carries "
                f"{search.passing} at least; {_CONTRADICTION}",
                self.metrics,
                reason=probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS,
            )
        doubt = "" if confirmed else "; losses beside them leave this uncertain"
        raise network_failure(
            f"the path to {self._address} carries packets of {search.passing} bytes at most; "
            f"the test wants {wanted}{doubt}",
            self.metrics,
            reason=probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS,
        )

    def _look_at_this_host(self) -> int:
        """Return the largest packet that may be sent."""
        largest = self._spec.max_size_bytes
        kernel = self._prober.kernel_mtu()
        if kernel is not None:
            self.metrics.kernel_mtu_bytes = kernel
        name = self._source.interface
        interface = netlink.outgoing_link(
            self._address, origin=self._source.address, index=socket.if_nametoindex(name) if name else 0
        )
        if interface is None:
            return largest
        self.metrics.interface_mtu_bytes = interface.mtu
        self._detail["interface"] = interface.name
        return min(largest, interface.mtu)

    async def _reach(self) -> int:
        """Return the size of a small packet that is answered."""
        size = icmp_messages.SMALLEST_MTU[self._address.version]
        verdict = await self._try(size)
        if verdict.fate == "passed":
            return size
        if verdict.fate == "silent":
            raise network_failure(
                f"{self._address} answered none of {self._spec.tries} packets of {size} bytes "
                f"within {self._spec.timeout_ms} ms",
                self.metrics,
            )
        raise self._refusal(verdict, size)

    async def _search(self, search: Search) -> bool:
        """Close in on the limit; return whether it is certain."""
        for _ in range(_MOST_SEARCHES):
            while (size := search.next_size()) is not None:
                self._take(search, size, await self._try(size))
            if search.vanishing is None:
                return True
            if await self._confirm(search, search.vanishing):
                return True
        return False

    async def _confirm(self, search: Search, vanishing: int) -> bool:
        """Send packets that vanish beside others that are answered; False when one was answered after all.

        The first one has the whole time-out, so that a slow link is not taken for a limit.
        """
        answered = 0
        for number in range(3 * self._spec.confirmations):
            wait_s = self._wait_s if number else self._timeout_s
            verdict = await self._send(vanishing, wait_s)
            if verdict.fate != "silent":
                self._hear(verdict)
                self._take(search, vanishing, verdict)
                return False
            beside = await self._send(search.passing, self._wait_s)
            if beside.fate == "passed":
                answered += 1
            else:
                self._lost += 1
            if answered == self._spec.confirmations:
                return True
        return False

    async def _send(self, size: int, wait_s: float, *, ttl: int = DEFAULT_TTL) -> Verdict:
        """Send one packet, if one is left; raises _SpentError otherwise."""
        if not self._left:
            raise _SpentError
        self._left -= 1
        return await self._prober.send(size, ttl=ttl, wait_s=wait_s)

    async def _try(self, size: int) -> Verdict:
        """Send packets of one size until something is heard of one."""
        for number in range(self._spec.tries):
            verdict = await self._send(size, self._wait_s)
            if verdict.fate != "silent":
                self._lost += number
                break
        self._hear(verdict)
        return verdict

    def _hear(self, verdict: Verdict) -> None:
        """Take in a round-trip time; larger packets take longer, so the slowest answer says how long to wait."""
        if verdict.rtt_ms is None:
            return
        if not self.metrics.rtt_ms or verdict.rtt_ms < self.metrics.rtt_ms:
            self.metrics.rtt_ms = verdict.rtt_ms
        self._slowest_ms = max(self._slowest_ms, verdict.rtt_ms)
        self._wait_s = min(self._timeout_s, 3 * self._slowest_ms / 1000 + _WAIT_MARGIN_S)

    def _take(self, search: Search, size: int, verdict: Verdict) -> None:
        if verdict.fate == "passed":
            search.passed(size)
        elif verdict.fate == "silent":
            search.vanished(size)
        elif verdict.fate == "too_big":
            search.too_big(size, verdict.mtu)
            if verdict.reporter is None:
                self._refused_here = min(size, self._refused_here or size)
            else:
                self._reports += 1
                self._detail["reporter"] = verdict.reporter
        else:
            raise self._refusal(verdict, size)

    def _refusal(self, verdict: Verdict, size: int) -> Exception:
        if verdict.fate == "too_big":
            carries = f"; it names {verdict.mtu} bytes" if verdict.mtu is not None else ""
            words = f"that a packet of {size} bytes, which every link must carry, is too big{carries}"
        else:
            words = verdict.words or "that the packet's TTL ended on the way"
        reporter = verdict.reporter or ("this host" if verdict.fate == "too_big" else "an unknown router")
        return network_failure(
            f"{self._address} was not reached: {reporter} reported {words}",
            self.metrics,
            reason=probe_pb2.FAILURE_REASON_UNREACHABLE,
        )

    async def _locate(self, size: int, *, reported: bool) -> None:
        """Find the last hop that gets packets of a size that does not pass, as far as packets are left for it."""
        self._left = _packets_of_hops(self._spec)
        with contextlib.suppress(_SpentError):
            await self._ask_hops(size, reported=reported)

    async def _ask_hops(self, size: int, *, reported: bool) -> None:
        """Go from hop to hop; what is `reported` as too big is so by a router that speaks, however many before it do not."""
        silent = 0
        for ttl in range(1, _MOST_HOPS + 1):
            verdict = await self._ask_hop(size, ttl)
            if verdict.fate == "expired":
                silent = 0
                self.metrics.limit_hop = ttl
                self._detail["limit_hop_address"] = verdict.reporter
            elif verdict.fate == "too_big" and verdict.reporter is not None:
                # The hop that reports has got it: one before the first TTL that it did not end.
                self.metrics.limit_hop = max(1, ttl - 1)
                self._detail["limit_hop_address"] = verdict.reporter
                return
            elif verdict.fate == "too_big":
                self.metrics.limit_hop = 0
                return
            elif verdict.fate == "silent":
                silent += 1
                if silent == _MOST_SILENT_HOPS and not reported:
                    return
            else:
                return

    async def _ask_hop(self, size: int, ttl: int) -> Verdict:
        """Send packets that end at a hop until something is heard; routers hold reports back, so silence is no loss."""
        for _ in range(self._spec.tries):
            verdict = await self._send(size, self._wait_s, ttl=ttl)
            if verdict.fate != "silent":
                break
        return verdict

    def _fill(self, search: Search, confirmed: bool) -> None:
        metrics = self.metrics
        metrics.confirmed = confirmed
        if self._given_up:  # what is between the sizes that passed and vanished was not looked at
            self._detail["finding"] = f"the path carries {search.passing} bytes at least; {_CONTRADICTION}"
            return
        metrics.path_mtu_bytes = search.passing
        metrics.black_hole = search.vanishing is not None
        if search.vanishing is not None:
            metrics.black_hole_bytes = search.vanishing
        if self._reports and search.reported is not None:
            metrics.reported_mtu_bytes = search.reported
            metrics.report_right = search.reported == search.passing
        self._detail["finding"] = _finding(metrics)

    def _count(self) -> None:
        metrics, prober = self.metrics, self._prober
        if prober.packets_sent:
            metrics.reports = self._reports
            metrics.lost = self._lost
        metrics.packets_sent = prober.packets_sent
        metrics.packets_received = prober.packets_received
        metrics.bytes_sent = prober.bytes_sent
        metrics.bytes_received = prober.bytes_received


def _finding(metrics: MtuResult) -> str:
    """Say in one sentence what was found."""
    if metrics.black_hole:
        text = (
            f"a black hole: packets of {metrics.black_hole_bytes} bytes and more vanish without a report, "
            f"while those of {metrics.path_mtu_bytes} bytes are answered"
        )
        return text if metrics.confirmed else f"{text}; losses beside them leave this uncertain"
    if metrics.HasField("reported_mtu_bytes"):
        if metrics.report_right:
            return f"the path carries {metrics.path_mtu_bytes} bytes, as its router reports"
        return f"the path carries {metrics.path_mtu_bytes} bytes, while its router reports {metrics.reported_mtu_bytes}"
    return f"the path carries {metrics.path_mtu_bytes} bytes, the largest packet that was sent"
