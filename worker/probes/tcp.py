"""The kind `tcp`: open connections one after the other, ask the kernel what it saw, close them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

from streamswarm.targets import Target, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.tcp_pb2 import TcpResult, TcpSpec
from worker import escapes
from worker.evaluation import handshakes
from worker.evaluation.handshakes import Handshake
from worker.failures import target_failure
from worker.probing import Availability, FailingWith, IPAddress, Need, Outcome, ProbeContext, ProbeFailure
from worker.wire import handshake_capture, tcp_info
from worker.wire.addresses import endpoint
from worker.wire.connect import Connection, connect, failure_of
from worker.wire.handshake_capture import CaptureUnavailableError, HandshakeCapture, Split
from worker.wire.source import Source
from worker.wire.stream import UNREAD_BYTES, ByteStream
from worker.wire.volume import Volume

_LONGEST_EXPECTED_BYTES = 65_536
#: Packets of a connection without data, both ways: SYN, SYN-ACK, ACK, two FINs and their ACKs, with IPv6's headers.
_HANDSHAKE_BYTES = 7 * 80
#: Failed attempts that the detail tells of.
_TOLD_FAILURES = 10


async def run(target: Target, spec: TcpSpec, context: ProbeContext) -> Outcome:
    """Connect to the first address that the resolver gives, as often as the test says."""
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    port = target.port or spec.port
    detail: dict[str, Any] = {"address": str(address), "port": port}
    metrics = TcpResult(bytes_sent=0, bytes_received=0)
    if resolved.elapsed_ms is not None:
        metrics.dns_ms = resolved.elapsed_ms
    with FailingWith(detail):
        context.guard.check(address, port)
        if not spec.split:
            await _attempt_all(address, port, spec, metrics, detail, None)
        else:
            try:
                async with handshake_capture.opened() as capture:
                    await _attempt_all(address, port, spec, metrics, detail, capture)
            except CaptureUnavailableError as error:
                detail["split"] = f"not measured: {error}"
                await _attempt_all(address, port, spec, metrics, detail, None)
    return Outcome(metrics=metrics, detail=detail)


def duration_s(spec: TcpSpec) -> float:
    """Return the longest time that a run may take by its parameters."""
    waits = 2 if spec.expect else 1
    return max(1, spec.count) * max(waits * spec.timeout_ms, spec.interval_ms) / 1000


def need(spec: TcpSpec) -> Need:
    """Return the most that a run may need: of each connection what is sent, read, and has come and is not read."""
    attempts = max(1, spec.count)
    talk = len(escapes.to_bytes(spec.send)) + (_LONGEST_EXPECTED_BYTES if spec.expect else 0)
    return Need(
        packets=attempts,
        size=attempts * (talk + UNREAD_BYTES if spec.send or spec.expect else _HANDSHAKE_BYTES),
    )


def availability() -> Availability:
    """Every host can open TCP connections."""
    return Availability(available=True)


async def _attempt_all(
    address: IPAddress,
    port: int,
    spec: TcpSpec,
    metrics: TcpResult,
    detail: dict[str, Any],
    capture: HandshakeCapture | None,
) -> None:
    """Make all attempts and fill in what they say; raises the last failure when none succeeded.

    Those that this host could not make do not count while there are others.
    """
    made: list[Handshake] = []
    failures: list[ProbeFailure] = []
    #: Attempts that failed for want of something on this host: they say nothing about the destination.
    untried: list[ProbeFailure] = []
    attempts = max(1, spec.count)
    begin = time.monotonic()
    for number in range(attempts):
        if number:
            await asyncio.sleep(max(0.0, begin + number * spec.interval_ms / 1000 - time.monotonic()))
        handshake: Handshake | None = None
        try:
            connection, split = await _connect(address, port, spec, capture)
            with connection.sock:
                handshake = _look_at(connection, split)
                if spec.send or spec.expect:
                    handshake = replace(
                        handshake,
                        first_byte_ms=await _talk(connection, spec, metrics, endpoint(address, port)),
                    )
        except ProbeFailure as failure:
            if failure.status == probe_pb2.STATUS_ERROR:
                untried.append(failure)
                continue
            failures.append(failure)
        if handshake is not None:
            made.append(handshake)
    tried = attempts - len(untried)
    if tried:
        handshakes.fill(metrics, tried, made, [failure.reason for failure in failures])
    for name, some in (("failures", failures), ("not_tried", untried)):
        if some and attempts > 1:
            detail[name] = [shown(failure.message, 255) for failure in some[:_TOLD_FAILURES]]
    if made:
        detail["class"] = handshakes.diagnosis(metrics)
    if len(failures) == tried:
        ending = (failures or untried)[-1]
        ending.metrics = metrics
        raise ending


async def _connect(
    address: IPAddress, port: int, spec: TcpSpec, capture: HandshakeCapture | None
) -> tuple[Connection, Split | None]:
    """Open one connection, watched from beside where there is a capture."""
    timeout_s = spec.timeout_ms / 1000
    source = Source.parse(spec.source)
    if capture is None:
        return await connect(address, port, timeout_s=timeout_s, dscp=spec.dscp, source=source), None
    with capture.watch(address, port) as watch:
        connection = await connect(
            address, port, timeout_s=timeout_s, dscp=spec.dscp, source=source, on_socket=watch.begin
        )
        try:
            return connection, await watch.split()
        except BaseException:
            connection.sock.close()
            raise


def _look_at(connection: Connection, split: Split | None) -> Handshake:
    """Return what clock, kernel and capture say of a connection."""
    info = tcp_info.read(connection.sock)
    if info is None:
        return Handshake(connect_ms=connection.connect_ms)
    rtt_us, min_rtt_us, retransmits = info.rtt_us, info.min_rtt_us, info.total_retrans
    if retransmits:
        split = None  # which of the packets was answered is not known
    return Handshake(
        connect_ms=connection.connect_ms,
        rtt_ms=None if rtt_us is None else rtt_us / 1000,
        min_rtt_ms=None if min_rtt_us is None else min_rtt_us / 1000,
        retransmits=retransmits,
        mss_bytes=info.snd_mss,
        path_mtu_bytes=info.pmtu,
        syn_to_synack_ms=None if split is None else split.syn_to_synack_ms,
        synack_to_ack_ms=None if split is None else split.synack_to_ack_ms,
    )


async def _talk(connection: Connection, spec: TcpSpec, metrics: TcpResult, where: str) -> float | None:
    """Send and expect what the test says; return the milliseconds until the first byte came."""
    sent, wanted = escapes.to_bytes(spec.send), escapes.to_bytes(spec.expect)
    volume = Volume(len(sent) + _LONGEST_EXPECTED_BYTES)
    stream = ByteStream(connection.sock, volume, since_ns=connection.connected_ns)
    talk = _Talk(ready_ns=connection.connected_ns)
    try:
        await asyncio.wait_for(_exchange(stream, sent, wanted, talk), spec.timeout_ms / 1000)
    except asyncio.TimeoutError:
        raise _unmet(talk, f"within {spec.timeout_ms} ms", spec, where) from None
    except OSError as error:
        raise failure_of(error, where) from error
    finally:
        stream.count_unread()
        metrics.bytes_sent += volume.sent
        metrics.bytes_received += volume.received
    if wanted not in talk.received:
        closed = "before it closed the connection"
        if len(talk.received) >= _LONGEST_EXPECTED_BYTES:
            closed = f"in its first {_LONGEST_EXPECTED_BYTES} bytes"
        raise _unmet(talk, closed, spec, where)
    return max(0, talk.first_ns - talk.ready_ns) / 1e6 if talk.first_ns else None


@dataclass(kw_only=True)
class _Talk:
    """What was said so far; instants by time.perf_counter_ns, 0 before they happened."""

    ready_ns: int
    first_ns: int = 0
    received: bytearray = field(default_factory=bytearray)


async def _exchange(stream: ByteStream, sent: bytes, wanted: bytes, talk: _Talk) -> None:
    if sent:
        await stream.send(sent)
        talk.ready_ns = time.perf_counter_ns()
    while wanted not in talk.received and len(talk.received) < _LONGEST_EXPECTED_BYTES:
        data = await stream.receive(_LONGEST_EXPECTED_BYTES - len(talk.received))
        if not data:
            return
        talk.first_ns = talk.first_ns or stream.received_ns
        talk.received += data


def _unmet(talk: _Talk, when: str, spec: TcpSpec, where: str) -> ProbeFailure:
    """Return the failure of a connection over which the expected text did not come."""
    if talk.received:
        said = shown(bytes(talk.received[:60]).decode("utf-8", "backslashreplace"))
        return target_failure(
            f"{where} did not say `{shown(spec.expect)}` {when}; it said `{said}`",
            reason=probe_pb2.FAILURE_REASON_WRONG_CONTENT,
        )
    timed_out = when.startswith("within")
    return target_failure(
        f"{where} took the connection and said nothing {when}; the test expects `{shown(spec.expect)}`",
        reason=probe_pb2.FAILURE_REASON_TIMED_OUT if timed_out else probe_pb2.FAILURE_REASON_BROKEN_OFF,
    )
