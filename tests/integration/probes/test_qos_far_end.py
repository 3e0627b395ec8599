"""The worker at the destination tells with which marks packets came to it."""

from __future__ import annotations

import contextlib

import pytest
from integration.probes.longer import FAR, Path4
from integration.probes.marked import FAMILIES, IP, KEY, PORT, QUICK, remark, responding, rows
from integration.probes.peers import Probe, RecordingGuard

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.probes import qos
from worker.probing import ProbeContext, ProbeFailure
from worker.resolving import system_resolver
from worker.wire import far_end

pytestmark = pytest.mark.namespaces


@FAMILIES
async def test_the_far_end_tells_what_survives(
    path4: Path4, keyed_probe: Probe, family: str, guard: RecordingGuard, no_leak: None
) -> None:
    """The last router changes marks where no quote can show it: of UDP to the responder alone."""
    remark(path4.second, f"udp dport {PORT} {IP[family]} dscp ef {IP[family]} dscp set cs1")
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR[family], classes=["EF", "AF41"], far_end_port=PORT, **QUICK
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
    assert any(port == PORT for _, port in guard.asked), "the policy is asked of the port"


async def test_what_the_far_end_tells_goes_before_quotes(path4: Path4, keyed_probe: Probe) -> None:
    """Where the destination quotes nothing, the marks are known to the end; ECN is what came there; the policy is judged."""
    path4.far.firewall("input", "udp dport 33434 drop")
    remark(path4.second, f"udp dport {PORT} ip ecn set not-ect")
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR["ipv4"], classes=["EF"], expected=["EF=EF"], far_end_port=PORT, **QUICK
            )
    assert outcome.metrics.end_seen
    assert outcome.metrics.survived_pct == 100
    assert outcome.metrics.breaches == 0
    assert not outcome.metrics.ecn_kept


async def test_a_class_that_never_comes_is_told(path4: Path4, keyed_probe: Probe) -> None:
    """The far end tells of the other; what the whole keeps is unknown then, and an expected mark is a breach."""
    path4.second.firewall("forward", f"udp dport {PORT} ip dscp ef drop")
    path4.far.firewall("input", "udp dport 33434 drop")
    asked = {"classes": ["EF", "CS0"], "ecn": False, "far_end_port": PORT, **QUICK}
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
    path4.second.firewall("forward", f"udp dport {PORT} numgen inc mod 2 1 drop")
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR["ipv4"], classes=["EF"], trace=False, far_end_port=PORT, **QUICK
            )
    assert outcome.metrics.survived_pct == 100


@pytest.mark.parametrize(
    ("answering", "asking", "words"),
    [
        ("", KEY, "nobody listens on UDP port 7862 of 10.94.3.2"),
        ("another text that some other fleet shares", KEY, "10.94.3.2:7862 did not answer"),
        (
            KEY,
            "",
            "10.94.3.2:7862 was not asked, because there is no key here: set `responder_key`",
        ),
    ],
    ids=["no responder", "another key", "no key here"],
)
async def test_a_far_end_that_tells_nothing_leaves_what_is_quoted(
    path4: Path4, guard: RecordingGuard, answering: str, asking: str, words: str, no_leak: None
) -> None:
    """What is measured there stays unset, and the detail says why."""
    context = ProbeContext(guard=guard, resolve=system_resolver(), responder_keys=(asking,) if asking else ())
    target = contract.parse_target(contract.kind("qos"), FAR["ipv4"])
    values = {"classes": ["EF"], "far_end_port": PORT, **QUICK}
    with path4.near.entered():
        async with contextlib.AsyncExitStack() as far:
            if answering:
                await far.enter_async_context(responding(path4, answering))
            outcome = await qos.run(target, contract.make_spec("qos", values).qos, context)
    assert outcome.detail["far_end"].startswith(words)
    assert not outcome.metrics.HasField("survived_pct")
    assert not rows(outcome.metrics)["EF"].HasField("far_end_dscp")
    assert outcome.metrics.marks_kept_pct == 100


@pytest.mark.parametrize(
    ("answering", "asking", "words", "reason"),
    [
        ("", KEY, "nobody listens on UDP port 7862", probe_pb2.FAILURE_REASON_REFUSED),
        (
            "of another fleet, and long enough",
            KEY,
            "did not answer",
            probe_pb2.FAILURE_REASON_TIMED_OUT,
        ),
        (KEY, "", "there is no key here", probe_pb2.FAILURE_REASON_NOT_AVAILABLE),
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
    context = ProbeContext(guard=guard, resolve=system_resolver(), responder_keys=(asking,) if asking else ())
    target = contract.parse_target(contract.kind("qos"), FAR["ipv4"])
    values = {
        "classes": ["EF"], "expected": ["EF=EF"], "trace": False, "ecn": False, "far_end_port": PORT, **QUICK,
    }  # fmt: skip
    with path4.near.entered():
        async with contextlib.AsyncExitStack() as far:
            if answering:
                await far.enter_async_context(responding(path4, answering))
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
        f"udp dport {PORT} {IP[family]} dscp af21 {IP[family]} ecn ect0 {IP[family]} ecn set ce",
    )
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe(
                "qos", FAR[family], classes=["AF21", "CS0"], trace=False, far_end_port=PORT, **QUICK
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
            outcome = await keyed_probe("qos", FAR["ipv4"], classes=["EF"], far_end_port=PORT, **QUICK)
    for result in (quoted.metrics, outcome.metrics):
        assert not result.HasField("ecn_kept")
        assert result.end_seen
    assert not rows(outcome.metrics)["EF"].HasField("far_end_ce_marks")
    assert outcome.metrics.survived_pct == 100
    assert outcome.detail["far_end"] == "no ECN-capable packet of EF was answered"


async def test_a_far_end_that_falls_silent_has_lost_no_class(path4: Path4, keyed_probe: Probe) -> None:
    """It answers three packets, those of one class, and then nobody: of the other class nothing is known."""
    path4.far.firewall("output", f"udp sport {PORT} quota over 300 bytes drop")
    asked = {"classes": ["EF", "CS0"], "trace": False, "ecn": False, "far_end_port": PORT, **QUICK}
    with path4.near.entered():
        async with responding(path4):
            with pytest.raises(ProbeFailure, match=r"marks of CS0 arrive .* cannot be judged") as caught:
                await keyed_probe("qos", FAR["ipv4"], expected=["EF=EF", "CS0=CS0"], **asked)
    assert "answered only 0 of 8 packets of EF that were sent in turn with them" in caught.value.message
    assert (caught.value.status, caught.value.source, caught.value.reason) == (
        probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_TIMED_OUT,
    )  # fmt: skip
    assert not caught.value.metrics.HasField("breaches")
    assert rows(caught.value.metrics)["EF"].survived_pct == 100
    assert not rows(caught.value.metrics)["CS0"].HasField("far_end_dscp")


async def test_a_class_is_asked_for_again_before_it_counts_as_lost(path4: Path4, keyed_probe: Probe) -> None:
    """The first six packets of it are dropped on the way, all that are sent before the classes take turns."""
    path4.second.run("nft", "add table inet t")
    path4.second.run("nft", "add chain inet t f { type filter hook forward priority 0; }")
    path4.second.run("nft", f"add rule inet t f udp dport {PORT} ip dscp af41 quota until 530 bytes drop")
    asked = {"classes": ["EF", "AF41"], "trace": False, "ecn": False, "far_end_port": PORT, **QUICK}
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe("qos", FAR["ipv4"], expected=["EF=EF", "AF41=AF41"], **asked)
    assert outcome.metrics.breaches == 0
    assert outcome.metrics.survived_pct == 100
    assert "far_end" not in outcome.detail


async def test_a_challenge_is_renewed_before_it_ends(
    path4: Path4, keyed_probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a run takes, here for every class; a run's longest time and need allow for it."""
    monkeypatch.setattr(far_end, "_RENEW_S", 0.0001)
    asked = {"classes": ["EF", "CS0"], "trace": False, "ecn": False, "far_end_port": PORT, **QUICK}
    with path4.near.entered():
        async with responding(path4):
            outcome = await keyed_probe("qos", FAR["ipv4"], **asked)
    assert outcome.metrics.survived_pct == 100
    assert outcome.metrics.packets_sent == 2 * 5 + 2 + 3 + 2 * 3, "requests, replies' marks, openings, marks"


@pytest.mark.parametrize(
    ("asking", "answering", "told"),
    [
        ("new", "old", False),
        ("new old", "old", True),
        ("old", "new old", True),
        ("new old", "new old", True),
        ("new", "new old", True),
        ("new old", "new", True),
        ("old", "new", False),
    ],
)
async def test_a_key_can_be_replaced_on_one_host_after_the_other(
    path4: Path4, guard: RecordingGuard, asking: str, answering: str, told: bool
) -> None:
    """Hosts with both keys ask those with either, and are asked by them; only the first and the last of all differ."""
    texts = {"new": f"new {KEY}", "old": f"old {KEY}"}
    context = ProbeContext(
        guard=guard, resolve=system_resolver(), responder_keys=tuple(texts[word] for word in asking.split())
    )
    target = contract.parse_target(contract.kind("qos"), FAR["ipv4"])
    values = {"classes": ["EF"], "trace": False, "far_end_port": PORT, **QUICK}
    with path4.near.entered():
        async with responding(path4, *(texts[word] for word in answering.split())):
            outcome = await qos.run(target, contract.make_spec("qos", values).qos, context)
    assert outcome.metrics.HasField("survived_pct") == told
    assert ("its `responder_key` is another" in outcome.detail.get("far_end", "")) != told


@pytest.mark.parametrize("offset_ms", [None, -300_000.0])
async def test_clocks_that_are_far_apart_are_told(
    path4: Path4, guard: RecordingGuard, offset_ms: float | None
) -> None:
    """Nothing is measured then; where the controller's time is known the host's own clock does not matter."""
    context = ProbeContext(
        guard=guard, resolve=system_resolver(), responder_keys=(KEY,), clock_offset_ms=offset_ms
    )
    target = contract.parse_target(contract.kind("qos"), FAR["ipv4"])
    values = {"classes": ["EF"], "trace": False, "far_end_port": PORT, **QUICK}
    with path4.near.entered():
        async with responding(path4, ahead_s=300):
            outcome = await qos.run(target, contract.make_spec("qos", values).qos, context)
    assert outcome.metrics.HasField("survived_pct") == (offset_ms is not None)
    if offset_ms is None:
        assert "the clocks of both hosts are more than 60 s apart" in outcome.detail["far_end"]
