"""What a test of `qos` demands of a path: breaches, what cannot be judged, and what this host itself kept from being seen."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
import time
from typing import Any

import pytest
from integration.probes.longer import FAR, Path4
from integration.probes.marked import QUICK, remark, rows
from integration.probes.peers import Probe, RecordingGuard

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import marking
from worker.probes import qos
from worker.probing import IPAddress, ProbeFailure
from worker.reaching import reached
from worker.wire import icmp
from worker.wire.echo import EchoPlan, EchoRecord
from worker.wire.trace.marks import MarkRecord, trace_marks
from worker.wire.trace.plan import TraceUnavailableError

pytestmark = pytest.mark.namespaces


async def test_breaches_fail_the_run_with_a_sentence_each(path4: Path4, probe: Probe) -> None:
    """FAILED and OUT_OF_BOUNDS; everything measured is kept."""
    remark(path4.first, "ip dscp ef ip dscp set cs1")
    with path4.near.entered():
        with pytest.raises(ProbeFailure) as caught:
            await probe(
                "qos",
                FAR["ipv4"],
                classes=["EF", "AF41"],
                expected=["EF=EF", "AF41=AF41"],
                max_rtt=["ALL=0.001"],
                **QUICK,
            )
        kept = await probe(
            "qos", FAR["ipv4"], classes=["EF"], expected=["EF=CS1"], max_loss=["ALL=0"], **QUICK
        )
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS
    assert "EF arrived as CS1 instead of EF, changed before hop 2" in caught.value.message
    assert "AF41 had a median round-trip time of" in caught.value.message
    assert caught.value.metrics.breaches == 3
    assert rows(caught.value.metrics)["AF41"].arrived_dscp == 34
    assert kept.metrics.breaches == 0


async def test_silence_and_the_policy(path4: Path4, probe: Probe, guard: RecordingGuard) -> None:
    """Nothing answered is the network's failure; a denied port sends nothing."""
    path4.far.firewall("input", "icmp type echo-request drop")
    with path4.near.entered():
        with pytest.raises(
            ProbeFailure, match="answered none of 10 requests within 300 ms, of whatever class"
        ) as caught:
            await probe("qos", FAR["ipv4"], classes=["EF", "CS0"], **QUICK)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
        assert [row.loss_pct for row in caught.value.metrics.classes] == [100, 100]
        assert "late" not in caught.value.detail
        guard.denied.add(f"{FAR['ipv4']}:33434")
        with pytest.raises(ProbeFailure, match="denied"):
            await probe("qos", FAR["ipv4"], classes=["EF"], **QUICK)


async def test_late_replies_are_a_sign_of_the_destination(path4: Path4, probe: Probe) -> None:
    """They count as lost, and still the destination was reached: a firewall that keeps packets out is something else."""
    with path4.near.entered():
        path4.first.limit("sw2a", "100kbit", burst="200", queue="5s")
        # 15 ms a packet: more than a second of them waits there, and one more comes every 10 ms, for two seconds.
        path4.near.run(
            "fping", "-c", "80", "-p", "1", "-t", "10", "-b", "150", "-q", FAR["ipv4"], check=False
        )
        with pytest.raises(ProbeFailure, match="answered none") as caught:
            await probe(
                "qos", FAR["ipv4"], classes=["EF"], count=200, interval_ms=10, timeout_ms=20, size_bytes=150
            )
    assert caught.value.detail["late"] >= 1
    assert reached(contract.kind("qos"), caught.value)
    assert rows(caught.value.metrics)["EF"].loss_pct == 100


async def test_a_policy_that_could_not_be_seen(path4: Path4, probe: Probe) -> None:
    """No reply, no time; a test that looks at no marks, and a class that is not sent, are the test's fault."""
    path4.far.firewall("input", "ip dscp ef icmp type echo-request drop")
    with path4.near.entered():
        with pytest.raises(ProbeFailure, match=r"EF: whether its median .* no reply came in time") as caught:
            await probe(
                "qos", FAR["ipv4"], classes=["EF", "CS0"], max_rtt=["EF=50"], trace=False, ecn=False, **QUICK
            )
        assert caught.value.metrics.breaches == 1
        with pytest.raises(ProbeFailure, match="expects marks and looks at none: let it trace") as caught:
            await probe("qos", FAR["ipv4"], classes=["CS0"], expected=["CS0=EF"], trace=False, **QUICK)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST
        with pytest.raises(ProbeFailure, match=r"policy names AF41, which it does not send") as caught:
            await probe("qos", FAR["ipv4"], classes=["CS0"], expected=["AF41=AF41"], **QUICK)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST


async def test_a_class_that_is_lost_on_the_way_has_not_arrived(path4: Path4, probe: Probe) -> None:
    """Seen as it was sent up to the loss, while another class arrives: nobody has seen it kept to the end."""
    remark(path4.second, "ip dscp ef udp dport 33434 drop")
    asked = {"classes": ["EF", "CS0"], "ecn": False, **QUICK}
    with path4.near.entered():
        with pytest.raises(
            ProbeFailure,
            match=r"EF was not seen to arrive as EF: the destination told of CS0 and not of this class",
        ) as caught:
            await probe("qos", FAR["ipv4"], expected=["EF=EF", "CS0=CS0"], **asked)
        outcome = await probe("qos", FAR["ipv4"], expected=["CS0=CS0"], **asked)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS
    assert caught.value.metrics.breaches == 1
    for result in (caught.value.metrics, outcome.metrics):
        assert not result.end_seen
        assert not result.HasField("marks_kept_pct")
        assert not rows(result)["EF"].HasField("arrived_dscp")
        assert rows(result)["CS0"].arrived_dscp == 0


async def test_a_worker_that_may_not_trace_cannot_judge_marks(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is this host's want, not the path's fault; what the path breaks beside it is told as such."""

    async def forbidden(*_: object, **__: object) -> None:
        raise TraceUnavailableError("raw sockets need CAP_NET_RAW", "")

    monkeypatch.setattr(marking, "trace_marks", forbidden)
    asked = {"classes": ["CS0"], "expected": ["CS0=CS0"], **QUICK}
    with path4.near.entered():
        with pytest.raises(
            ProbeFailure, match=r"marks of CS0 arrive .* this host cannot trace: .*_RAW"
        ) as caught:
            await probe("qos", FAR["ipv4"], **asked)
        assert (caught.value.status, caught.value.source, caught.value.reason) == (
            probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_PERMISSION,
        )  # fmt: skip
        assert not caught.value.metrics.HasField("breaches")
        with pytest.raises(ProbeFailure, match=r"breaks the test's policy: CS0 had a median") as caught:
            await probe("qos", FAR["ipv4"], max_rtt=["ALL=0.001"], **asked)
    assert caught.value.metrics.breaches == 1


@pytest.mark.parametrize("kept_back", [{"refused": {errno.ENOBUFS: 2}}, {"overflows": 3}])
async def test_what_this_host_kept_from_a_trace_breaks_nothing(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch, kept_back: dict[str, Any]
) -> None:
    """EF is not seen to arrive while CS0 is: for want of room here, as far as is known."""

    async def lossy(address: IPAddress, *, dscp: int, **values: Any) -> MarkRecord:
        record = await trace_marks(address, dscp=dscp, **values)
        if dscp:
            record = dataclasses.replace(record, marks=record.marks[:-1], final=False, **kept_back)
        return record

    monkeypatch.setattr(marking, "trace_marks", lossy)
    with (
        path4.near.entered(),
        pytest.raises(
            ProbeFailure, match=r"marks of EF arrive .* cannot be judged, because this host"
        ) as caught,
    ):
        await probe("qos", FAR["ipv4"], classes=["EF", "CS0"], expected=["EF=EF"], ecn=False, **QUICK)
    assert (caught.value.source, caught.value.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_ROOM,
    )  # fmt: skip
    assert not caught.value.metrics.HasField("breaches")
    assert (
        "of EF" in caught.value.detail["trace_gaps"][0] or "traced EF" in caught.value.detail["trace_gaps"][0]
    )


async def test_replies_that_this_host_dropped_are_no_silence(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that read none is the vantage point's error, and proves no firewall."""
    path4.far.firewall("input", "icmp type echo-request drop")

    async def dropping(plan: EchoPlan) -> EchoRecord:
        return dataclasses.replace(await icmp.echo(plan), dropped_here=7)

    monkeypatch.setattr(qos, "echo", dropping)
    with (
        path4.near.entered(),
        pytest.raises(
            ProbeFailure, match="14 packets came while this host's receive buffer was full"
        ) as caught,
    ):
        await probe("qos", FAR["ipv4"], classes=["EF", "CS0"], **QUICK)
    assert (caught.value.source, caught.value.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_ROOM,
    )  # fmt: skip


async def test_what_this_host_dropped_is_no_loss(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fourth reply of EF may have found no room here: its loss is not known, nor whether its burst is cut."""
    remark(path4.first, "ip dscp ef icmp type echo-request numgen inc mod 4 == 0 drop")

    async def dropping(plan: EchoPlan) -> EchoRecord:
        record = await icmp.echo(plan)
        return dataclasses.replace(record, dropped_here=5 if plan.dscp == 46 else 0)

    monkeypatch.setattr(qos, "echo", dropping)
    asked = {
        "classes": ["EF", "CS0"],
        "count": 12,
        "interval_ms": 10,
        "timeout_ms": 200,
        "trace": False,
        "ecn": False,
    }
    with path4.near.entered():
        outcome = await probe("qos", FAR["ipv4"], burst=20, **asked)
        with pytest.raises(ProbeFailure, match=r"^EF on the path to .* cannot be judged") as caught:
            await probe("qos", FAR["ipv4"], max_loss=["ALL=1"], **asked)
    row = rows(outcome.metrics)["EF"]
    for name in ("loss_pct", "burst_loss_pct", "policed"):
        assert not row.HasField(name)
    assert not outcome.metrics.HasField("worst_loss_pct")
    assert rows(outcome.metrics)["CS0"].loss_pct == 0
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert not caught.value.metrics.HasField("breaches")


async def test_a_class_that_cannot_be_sent_stops_the_others(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and every class has its row."""
    ended = []

    async def failing(plan: EchoPlan) -> EchoRecord:
        if plan.dscp == 0:
            raise OSError(errno.ENOBUFS, "")
        try:
            return await icmp.echo(plan)
        finally:
            ended.append(plan.dscp)

    monkeypatch.setattr(qos, "echo", failing)
    with path4.near.entered():
        started = time.monotonic()
        with pytest.raises(ProbeFailure, match="ENOBUFS") as caught:
            await probe("qos", FAR["ipv4"], classes=["EF", "CS0"], count=20, interval_ms=100)
    assert time.monotonic() - started < 0.5
    assert ended == [46], "no request is sent after the run's end"
    assert [(row.name, row.dscp) for row in caught.value.metrics.classes] == [("EF", 46), ("CS0", 0)]


async def test_a_host_without_ipv4_may_do_it_over_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """One family that works is enough; with none the reason is told."""

    def only_ipv6(version: int) -> socket.socket:
        if version == 4:
            raise OSError(errno.EAFNOSUPPORT, "")
        return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)

    monkeypatch.setattr(qos, "open_socket", only_ipv6)
    found = qos.availability()
    assert found.available
    assert "IPv6 only: an ICMP socket (IPv4) could not be opened" in found.reason


def limit_reports(path4: Path4, pause_ms: int) -> None:
    """Have the destination report closed ports no more often to one address, but for six at once."""
    path4.far.run(
        "sysctl", "-qw", f"net.ipv4.icmp_ratelimit={pause_ms}", f"net.ipv6.icmp.ratelimit={pause_ms}"
    )


async def test_several_tests_of_a_destination_that_reports_rarely_break_no_policy(
    path4: Path4, probe: Probe
) -> None:
    """It reports closed ports to all of them together: a class that it does not quote is not lost for that."""
    limit_reports(path4, 5_000)
    names = ("EF", "AF41", "AF21", "CS0")
    demanded = [f"{name}={name}" for name in names]
    with path4.near.entered():
        endings = await asyncio.gather(
            *(
                probe("qos", FAR["ipv4"], classes=list(names), expected=demanded, ecn=False, **QUICK)
                for _ in range(3)
            ),
            return_exceptions=True,
        )
    assert any(isinstance(ending, ProbeFailure) for ending in endings), "reports were lost"
    for ending in endings:
        if isinstance(ending, ProbeFailure):
            assert (
                "cannot be judged, because the destination reports closed ports too rarely" in ending.message
            )
            assert ending.source == probe_pb2.FAILURE_SOURCE_VANTAGE
            assert not ending.metrics.HasField("breaches")
        else:
            assert not isinstance(ending, BaseException)


async def test_a_class_that_is_not_quoted_at_first_is_looked_for_again(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next packet shows how it comes to the destination; each hop is told once."""
    traces: list[int] = []

    async def forgetful(address: IPAddress, *, dscp: int, **values: Any) -> MarkRecord:
        record = await trace_marks(address, dscp=dscp, **values)
        traces.append(dscp)
        return dataclasses.replace(record, marks=record.marks[:-1], final=False) if traces == [46] else record

    monkeypatch.setattr(marking, "trace_marks", forgetful)
    with path4.near.entered():
        outcome = await probe(
            "qos", FAR["ipv4"], classes=["EF", "CS0"], expected=["EF=EF", "CS0=CS0"], ecn=False, **QUICK
        )
    assert traces == [46, 0, 46]
    assert outcome.metrics.breaches == 0
    assert outcome.metrics.end_seen
    assert [hop.name for hop in outcome.metrics.hops] == [
        "01 EF", "02 EF", "03 EF", "01 CS0", "02 CS0", "03 CS0",
    ]  # fmt: skip


async def test_a_class_that_is_lost_altogether_is_told_of_a_usual_destination(
    path4: Path4, probe: Probe
) -> None:
    """Its echo requests are lost as well, which no limit of reports explains."""
    limit_reports(path4, 1_000)
    path4.second.firewall("forward", "ip dscp ef drop")
    with path4.near.entered(), pytest.raises(ProbeFailure, match="EF was not seen to arrive as EF") as caught:
        await probe(
            "qos", FAR["ipv4"], classes=["EF", "CS0"], expected=["EF=EF", "CS0=CS0"], ecn=False, **QUICK
        )
    assert caught.value.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS
    assert caught.value.metrics.breaches == 1
