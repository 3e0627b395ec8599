"""Classes of traffic over a path whose routers change marks, police, drop and mark congestion."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from integration.probes.longer import FAR, SECOND, Path4, longer_path
from integration.probes.peers import Namespace, Probe, RecordingGuard

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult
from worker import marking
from worker.clock import SystemClock
from worker.concurrency import cancel
from worker.policy import Policy
from worker.probes import qos
from worker.probing import IPAddress, Outcome, ProbeContext, ProbeFailure
from worker.reaching import reached
from worker.resolving import system_resolver
from worker.responders.marks import respond
from worker.wire import icmp
from worker.wire.echo import EchoPlan, EchoRecord
from worker.wire.trace.marks import MarkRecord, trace_marks
from worker.wire.trace.plan import TraceUnavailableError

pytestmark = pytest.mark.namespaces

FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
IP = {"ipv4": "ip", "ipv6": "ip6"}
#: A few packets, quickly.
QUICK = {"count": 5, "interval_ms": 20, "timeout_ms": 300}


@pytest.fixture
def path4(_root: None) -> Iterator[Path4]:
    with longer_path() as path:
        # Reports of closed ports are not limited either.
        path.far.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        yield path


def remark(router: Namespace, rule: str) -> None:
    """Have a router change what it forwards."""
    router.run("nft", "add table inet m")
    router.run("nft", "add chain inet m f { type filter hook forward priority -150; }")
    router.run("nft", f"add rule inet m f {rule}")


def rows(result: QosResult) -> dict[str, QosClass]:
    return {row.name: row for row in result.classes}


@FAMILIES
async def test_a_path_that_keeps_its_hands_off(
    path4: Path4, probe: Probe, family: str, no_leak: None
) -> None:
    """Every class arrives as it was sent, seen at each hop and at the destination."""
    with path4.near.entered():
        outcome = await probe("qos", FAR[family], classes=["EF", "AF41", "LE", "11"], **QUICK)
    result = outcome.metrics
    assert result.marks_kept_pct == 100
    assert result.end_seen
    assert not result.HasField("first_change_hop")
    assert not result.HasField("breaches"), "no policy, nothing to break"
    assert {(row.name, row.dscp, row.arrived_dscp, row.reply_dscp) for row in result.classes} == {
        ("EF", 46, 46, 46), ("AF41", 34, 34, 34), ("LE", 1, 1, 1), ("11", 11, 11, 11),
    }  # fmt: skip
    assert [(hop.name, hop.dscp, hop.kept) for hop in result.hops if hop.name.endswith("EF")] == [
        ("01 EF", 46, True), ("02 EF", 46, True), ("03 EF", 46, True),
    ]  # fmt: skip
    for row in result.classes:
        assert (row.packets_sent, row.loss_pct) == (5, 0)
        assert 0 < row.rtt_min_ms <= row.rtt_median_ms <= row.rtt_max_ms < 50
    assert (rows(result)["EF"].cos, rows(result)["EF"].user_priority) == (5, 6)
    assert result.worst_loss_pct == 0
    assert result.ecn_kept
    assert result.ce_marks == 0
    assert outcome.detail["hops"]["2"] == [SECOND[family]]
    assert outcome.detail["classes"]["EF"]["service_class"] == "telephony"
    assert result.bytes_sent > 0
    assert result.bytes_received > 0


@FAMILIES
async def test_a_remark_is_found_at_the_right_hop(path4: Path4, probe: Probe, family: str) -> None:
    """The first router turns EF into best effort: the second is the first to see it; AF41 is left alone."""
    remark(path4.first, f"{IP[family]} dscp ef {IP[family]} dscp set cs0")
    with path4.near.entered():
        outcome = await probe("qos", FAR[family], classes=["EF", "AF41"], **QUICK)
    found = rows(outcome.metrics)
    assert outcome.metrics.marks_kept_pct == 50
    assert outcome.metrics.first_change_hop == 2
    assert (found["EF"].change_hop, found["EF"].arrived_dscp) == (2, 0)
    assert (found["AF41"].HasField("change_hop"), found["AF41"].arrived_dscp) == (False, 34)
    seen = {hop.name: hop.dscp for hop in outcome.metrics.hops}
    assert (seen["01 EF"], seen["02 EF"], seen["03 EF"], seen["02 AF41"]) == (46, 0, 0, 34)


async def test_a_remark_before_the_destination_is_found(path4: Path4, probe: Probe) -> None:
    """Made by the last router, it shows in what the destination quotes; a mark may also be put on."""
    remark(path4.second, "ip dscp 0 ip dscp set af21")
    with path4.near.entered():
        outcome = await probe("qos", FAR["ipv4"], classes=["CS0", "EF"], **QUICK)
    found = rows(outcome.metrics)
    assert (found["CS0"].change_hop, found["CS0"].arrived_dscp) == (3, 18)
    assert found["EF"].arrived_dscp == 46


async def test_an_end_that_keeps_silent_is_told(path4: Path4, probe: Probe) -> None:
    """Without the destination's report the last router is the end of what is known."""
    path4.far.firewall("input", "udp dport 33434 drop")
    with path4.near.entered():
        outcome = await probe("qos", FAR["ipv4"], classes=["EF"], **QUICK)
    assert not outcome.metrics.end_seen
    assert outcome.metrics.marks_kept_pct == 100
    assert [hop.name for hop in outcome.metrics.hops] == ["01 EF", "02 EF"]


@FAMILIES
async def test_ecn_that_is_cleared_is_told_with_its_hop(path4: Path4, probe: Probe, family: str) -> None:
    """By the first router."""
    remark(path4.first, f"{IP[family]} ecn set not-ect")
    with path4.near.entered():
        outcome = await probe("qos", FAR[family], classes=["AF21"], **QUICK)
    assert outcome.metrics.ecn_kept is False
    assert outcome.metrics.ecn_change_hop == 2
    assert outcome.metrics.marks_kept_pct == 100


@FAMILIES
async def test_congestion_marks_are_counted(path4: Path4, probe: Probe, family: str) -> None:
    """By the second router, on what is ECN-capable: the destination quotes both packets."""
    remark(path4.second, f"{IP[family]} ecn ect0 {IP[family]} ecn set ce")
    with path4.near.entered():
        outcome = await probe("qos", FAR[family], classes=["AF21"], **QUICK)
    assert outcome.metrics.ecn_kept
    assert outcome.metrics.ce_marks == 2
    assert not outcome.metrics.HasField("ecn_change_hop")


async def test_loss_is_told_for_its_class(path4: Path4, probe: Probe) -> None:
    """Every fourth packet of one class is dropped."""
    remark(path4.first, "ip dscp af41 icmp type echo-request numgen inc mod 4 == 0 drop")
    with path4.near.entered():
        outcome = await probe(
            "qos", FAR["ipv4"], classes=["EF", "AF41"], count=20, interval_ms=10, timeout_ms=300
        )
    found = rows(outcome.metrics)
    assert (found["EF"].loss_pct, found["AF41"].loss_pct) == (0, 25)
    assert outcome.metrics.worst_loss_pct == 25


async def test_a_policed_class_is_found_beside_another(path4: Path4, probe: Probe) -> None:
    """EF may have 50 packets a second and 10 at once; its paced packets pass."""
    remark(path4.first, "ip dscp ef icmp type echo-request limit rate over 50/second burst 10 packets drop")
    with path4.near.entered():
        outcome = await probe(
            "qos",
            FAR["ipv4"],
            classes=["EF", "CS0"],
            count=10,
            interval_ms=40,
            timeout_ms=300,
            burst=100,
            trace=False,
        )
    found = rows(outcome.metrics)
    assert found["EF"].loss_pct == 0
    assert found["EF"].burst_loss_pct > 70
    assert found["CS0"].burst_loss_pct == 0
    assert found["EF"].policed
    assert found["CS0"].policed is False
    assert outcome.metrics.policed_classes == 1
    assert outcome.metrics.shaped_classes == 0


async def test_a_shaped_class_is_found_beside_another(path4: Path4, probe: Probe) -> None:
    """AF21 takes a link of its own, of 2 Mbit/s with a long queue, so that its burst comes late and whole."""
    first, second = path4.first, path4.second
    first.run("ip", "link", "add", "sw4a", "type", "veth", "peer", "sw4b", "netns", second.name)
    for side, device, host in ((first, "sw4a", 1), (second, "sw4b", 2)):
        side.run("ip", "address", "add", f"10.94.4.{host}/24", "dev", device)
        side.run("ip", "link", "set", device, "up")
    first.limit("sw4a", "2mbit", burst="5kb", queue="2s")
    first.run("ip", "route", "add", "default", "via", "10.94.4.2", "table", "100")
    first.run("ip", "rule", "add", "fwmark", "1", "table", "100")
    first.run("nft", "add table inet m")
    first.run("nft", "add chain inet m p { type filter hook prerouting priority -150; }")
    first.run("nft", "add rule inet m p ip dscp af21 iifname sw1b meta mark set 1")
    with path4.near.entered():
        outcome = await probe(
            "qos",
            FAR["ipv4"],
            classes=["AF21", "CS0"],
            count=5,
            interval_ms=40,
            timeout_ms=1500,
            burst=50,
            trace=False,
        )
    found = rows(outcome.metrics)
    assert found["AF21"].shaped, outcome.metrics
    assert found["AF21"].burst_rise_ms > 50
    assert found["AF21"].burst_loss_pct == 0
    assert found["CS0"].shaped is False
    assert (outcome.metrics.shaped_classes, outcome.metrics.policed_classes) == (1, 0)


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
        # 15 ms a packet, and one every 10 ms: the queue grows.
        path4.near.run(
            "fping", "-c", "30", "-p", "10", "-t", "10", "-b", "150", "-q", FAR["ipv4"], check=False
        )
        with pytest.raises(ProbeFailure, match="answered none") as caught:
            await probe(
                "qos", FAR["ipv4"], classes=["EF"], count=30, interval_ms=10, timeout_ms=20, size_bytes=150
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


FAR_END_PORT = 7862
FAR_END_KEY = "a text that all of the fleet share, long enough"


@contextlib.asynccontextmanager
async def responding(path4: Path4, *, secret: str = FAR_END_KEY) -> AsyncIterator[None]:
    """Have a worker's responder answer at the far end."""
    with path4.far.entered():
        serving = asyncio.ensure_future(respond(Policy(responder=FAR_END_PORT), secret, SystemClock()))
        await asyncio.sleep(0)
    try:
        yield
    finally:
        await cancel(serving)


@pytest.fixture
def keyed_probe(guard: RecordingGuard) -> Probe:
    """The kind as a worker runs it that has the key."""
    context = ProbeContext(guard=guard, resolve=system_resolver(), responder_key=FAR_END_KEY)

    async def run(kind: str, target: str = "", **values: Any) -> Outcome:
        spec = contract.make_spec(kind, values).qos
        return await qos.run(contract.parse_target(contract.kind(kind), target), spec, context)

    return run


@FAMILIES
async def test_the_far_end_tells_what_survives(
    path4: Path4, keyed_probe: Probe, family: str, guard: RecordingGuard, no_leak: None
) -> None:
    """The last router changes marks where no quote can show it: of UDP to the responder alone."""
    remark(path4.second, f"udp dport {FAR_END_PORT} {IP[family]} dscp ef {IP[family]} dscp set cs1")
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR[family], classes=["EF", "AF41"], far_end_port=FAR_END_PORT, **QUICK
            )
    found = rows(outcome.metrics)
    assert (found["EF"].far_end_dscp, found["EF"].arrived_dscp, found["EF"].survived_pct) == (8, 8, 0)
    assert (found["AF41"].far_end_dscp, found["AF41"].survived_pct) == (34, 100)
    assert not found["EF"].HasField("change_hop"), "every hop quoted the mark as it was sent"
    assert outcome.metrics.survived_pct == 50
    assert outcome.metrics.marks_kept_pct == 50
    assert outcome.metrics.end_seen
    assert outcome.metrics.ecn_kept
    assert "far_end" not in outcome.detail
    assert any(port == FAR_END_PORT for _, port in guard.asked), "the policy is asked of the port"


async def test_what_the_far_end_tells_goes_before_quotes(path4: Path4, keyed_probe: Probe) -> None:
    """Where the destination quotes nothing, the marks are known to the end; ECN is what came there; the policy is judged."""
    path4.far.firewall("input", "udp dport 33434 drop")
    remark(path4.second, f"udp dport {FAR_END_PORT} ip ecn set not-ect")
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR["ipv4"], classes=["EF"], expected=["EF=EF"], far_end_port=FAR_END_PORT, **QUICK
            )
    assert outcome.metrics.end_seen
    assert outcome.metrics.survived_pct == 100
    assert outcome.metrics.breaches == 0
    assert not outcome.metrics.ecn_kept


async def test_a_class_that_never_comes_is_told(path4: Path4, keyed_probe: Probe) -> None:
    """The far end tells of the other; what the whole keeps is unknown then, and an expected mark is a breach."""
    path4.second.firewall("forward", f"udp dport {FAR_END_PORT} ip dscp ef drop")
    path4.far.firewall("input", "udp dport 33434 drop")
    asked = {"classes": ["EF", "CS0"], "ecn": False, "far_end_port": FAR_END_PORT, **QUICK}
    with path4.near.entered():
        async with responding(path4):
            with pytest.raises(ProbeFailure, match="destination told of CS0 and not of this class") as caught:
                await keyed_probe("qos", FAR["ipv4"], expected=["EF=EF"], **asked)
    assert caught.value.detail["far_end"] == "no packet of EF was answered"
    found = rows(caught.value.metrics)
    assert not found["EF"].HasField("survived_pct")
    assert found["CS0"].survived_pct == 100
    assert not caught.value.metrics.HasField("survived_pct")
    assert not caught.value.metrics.end_seen


async def test_packets_that_are_lost_are_asked_once_more(path4: Path4, keyed_probe: Probe) -> None:
    """Every second one on the way there."""
    path4.second.firewall("forward", f"udp dport {FAR_END_PORT} numgen inc mod 2 1 drop")
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR["ipv4"], classes=["EF"], trace=False, far_end_port=FAR_END_PORT, **QUICK
            )
    assert outcome.metrics.survived_pct == 100


@pytest.mark.parametrize(
    ("answering", "asking", "words"),
    [
        ("", FAR_END_KEY, "nobody listens on UDP port 7862 of 10.94.3.2"),
        ("another text that some other fleet shares", FAR_END_KEY, "10.94.3.2:7862 did not answer"),
        (
            FAR_END_KEY,
            "",
            "10.94.3.2:7862 was not asked: the worker's configuration here has no `responder_key`",
        ),
    ],
    ids=["no responder", "another key", "no key here"],
)
async def test_a_far_end_that_tells_nothing_leaves_what_is_quoted(
    path4: Path4, guard: RecordingGuard, answering: str, asking: str, words: str, no_leak: None
) -> None:
    """What is measured there stays unset, and the detail says why."""
    context = ProbeContext(guard=guard, resolve=system_resolver(), responder_key=asking)
    target = contract.parse_target(contract.kind("qos"), FAR["ipv4"])
    values = {"classes": ["EF"], "far_end_port": FAR_END_PORT, **QUICK}
    with path4.near.entered():
        async with contextlib.AsyncExitStack() as far:
            if answering:
                await far.enter_async_context(responding(path4, secret=answering))
            outcome = await qos.run(target, contract.make_spec("qos", values).qos, context)
    assert outcome.detail["far_end"].startswith(words)
    assert not outcome.metrics.HasField("survived_pct")
    assert not rows(outcome.metrics)["EF"].HasField("far_end_dscp")
    assert outcome.metrics.marks_kept_pct == 100


@pytest.mark.parametrize(
    ("answering", "asking", "words", "reason"),
    [
        ("", FAR_END_KEY, "nobody listens on UDP port 7862", probe_pb2.FAILURE_REASON_REFUSED),
        (
            "of another fleet, and long enough",
            FAR_END_KEY,
            "did not answer",
            probe_pb2.FAILURE_REASON_TIMED_OUT,
        ),
        (FAR_END_KEY, "", "has no `responder_key`", probe_pb2.FAILURE_REASON_NOT_AVAILABLE),
    ],
    ids=["no responder", "another key", "no key here"],
)
async def test_a_far_end_that_tells_nothing_breaks_no_policy(
    path4: Path4,
    guard: RecordingGuard,
    answering: str,
    asking: str,
    words: str,
    reason: probe_pb2.FailureReason,
) -> None:
    """What was not measured is not judged: the vantage point's error, without a number of breaches."""
    context = ProbeContext(guard=guard, resolve=system_resolver(), responder_key=asking)
    target = contract.parse_target(contract.kind("qos"), FAR["ipv4"])
    values = {
        "classes": ["EF"], "expected": ["EF=EF"], "trace": False, "ecn": False, "far_end_port": FAR_END_PORT, **QUICK,
    }  # fmt: skip
    with path4.near.entered():
        async with contextlib.AsyncExitStack() as far:
            if answering:
                await far.enter_async_context(responding(path4, secret=answering))
            with pytest.raises(ProbeFailure, match=r"marks of EF arrive .* cannot be judged") as caught:
                await qos.run(target, contract.make_spec("qos", values).qos, context)
    assert words in caught.value.message
    assert words in caught.value.detail["far_end"]
    assert (caught.value.status, caught.value.source, caught.value.reason) == (
        probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE, reason,
    )  # fmt: skip
    assert not caught.value.metrics.HasField("breaches")
    assert rows(caught.value.metrics)["EF"].loss_pct == 0


@FAMILIES
async def test_the_far_end_counts_congestion_marks(path4: Path4, keyed_probe: Probe, family: str) -> None:
    """Every ECN-capable packet of AF21 that the last router hands on to it; of the quoted ones it marks none."""
    remark(
        path4.second,
        f"udp dport {FAR_END_PORT} {IP[family]} dscp af21 {IP[family]} ecn ect0 {IP[family]} ecn set ce",
    )
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR[family], classes=["AF21", "CS0"], trace=False, far_end_port=FAR_END_PORT, **QUICK
            )
    found = rows(outcome.metrics)
    assert (found["AF21"].far_end_ce_marks, found["CS0"].far_end_ce_marks) == (3, 0)
    assert found["CS0"].HasField("far_end_ce_marks")
    assert outcome.metrics.ce_marks == 3
    assert outcome.metrics.ecn_kept
    assert "far_end" not in outcome.detail


async def test_ecn_is_not_kept_where_no_ecn_capable_packet_comes(path4: Path4, keyed_probe: Probe) -> None:
    """The last router drops them; those before quote them unchanged."""
    path4.second.firewall("forward", "ip ecn ect0 drop")
    with path4.near.entered():
        quoted = await keyed_probe("qos", FAR["ipv4"], classes=["EF"], **QUICK)
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR["ipv4"], classes=["EF"], far_end_port=FAR_END_PORT, **QUICK
            )
    for result in (quoted.metrics, outcome.metrics):
        assert not result.HasField("ecn_kept")
        assert result.end_seen
    assert not rows(outcome.metrics)["EF"].HasField("far_end_ce_marks")
    assert outcome.metrics.survived_pct == 100
    assert outcome.detail["far_end"] == "no ECN-capable packet of EF was answered"
