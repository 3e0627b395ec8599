"""The kind `tcp`: open one connection, ask the kernel what it saw, close it."""

from __future__ import annotations

from streamswarm.targets import Target
from streamswarm.v1.probes.tcp_pb2 import TcpResult, TcpSpec
from worker.probing import Availability, Outcome, ProbeContext, failing_with
from worker.wire import tcp_info
from worker.wire.connect import Connection, connect
from worker.wire.source import Source


async def run(target: Target, spec: TcpSpec, context: ProbeContext) -> Outcome:
    """Connect to the first address that the resolver gives."""
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    port = target.port or spec.port
    detail = {"address": str(address), "port": port}
    metrics = TcpResult()
    if resolved.elapsed_ms is not None:
        metrics.dns_ms = resolved.elapsed_ms
    with failing_with(detail):
        context.guard.check(address, port)
        connection = await connect(
            address,
            port,
            timeout_s=spec.timeout_ms / 1000,
            dscp=spec.dscp,
            source=source,
            metrics=metrics,
        )
    try:
        _measure(connection, metrics)
    finally:
        connection.sock.close()
    return Outcome(metrics=metrics, detail=detail)


def availability() -> Availability:
    """Every host can open TCP connections."""
    return Availability(available=True)


def _measure(connection: Connection, metrics: TcpResult) -> None:
    info = tcp_info.read(connection.sock)
    metrics.connect_ms = connection.connect_ms
    if info is None:
        return
    if info.rtt_us is not None:
        metrics.kernel_rtt_ms = info.rtt_us / 1000
    if info.min_rtt_us is not None:
        metrics.kernel_min_rtt_ms = info.min_rtt_us / 1000
    if info.total_retrans is not None:
        metrics.syn_retransmits = info.total_retrans
    if info.snd_mss is not None:
        metrics.mss_bytes = info.snd_mss
    if info.pmtu is not None:
        metrics.path_mtu_bytes = info.pmtu
