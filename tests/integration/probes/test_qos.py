"""Classes of traffic over a path whose routers change marks, police, drop and mark congestion."""

from __future__ import annotations

import pytest
from integration.probes.longer import FAR, SECOND, Path4
from integration.probes.marked import FAMILIES, IP, QUICK, remark, rows
from integration.probes.peers import Probe

pytestmark = pytest.mark.namespaces


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
