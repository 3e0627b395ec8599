"""How classes are looked for again of which a destination told nothing, on made-up paths."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult
from worker import marking
from worker.evaluation import dscp
from worker.evaluation.marks import Mark
from worker.wire.source import BY_ROUTES
from worker.wire.trace.marks import MarkRecord

#: Hops to the destination, by code point: one class goes another way.
DISTANCES = {0: 3, 46: 4}


def record(marks: list[Mark], *, final: bool) -> MarkRecord:
    """Return what a trace brought to light."""
    return MarkRecord(
        marks=tuple(marks), final=final, addresses={}, packets_sent=1, bytes_sent=60, bytes_received=88, refused={},
        overflows=0,
    )  # fmt: skip


async def test_a_class_with_a_longer_way_is_not_lost_because_its_report_was_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is looked for where its own way ends, not where that of another class does."""

    async def traced(
        _: Any, *, dscp: int, max_ttl: int, end_alone: bool = False, **_others: Any
    ) -> MarkRecord:
        distance, octets = DISTANCES[dscp], (dscp << 2,)
        if end_alone:
            return record([Mark(hop=min(max_ttl, distance), octets=octets)], final=max_ttl >= distance)
        held_back = dscp == 46
        hops = range(1, distance + (not held_back))
        return record([Mark(hop=hop, octets=octets) for hop in hops], final=not held_back)

    monkeypatch.setattr(marking, "trace_marks", traced)
    monkeypatch.setattr(marking, "ROUND_S", 0.0)
    points = [dscp.parse("CS0"), dscp.parse("EF")]
    rows = [QosClass(name=point.name, dscp=point.number, loss_pct=0) for point in points]
    metrics = QosResult()
    found = marking.Marking(
        ipaddress.ip_address("192.0.2.1"),
        contract.make_spec("qos", {"classes": ["CS0", "EF"]}).qos,
        points,
        rows=rows,
        metrics=metrics,
        detail={},
        source=BY_ROUTES,
        responder_keys=(),
        clock_offset_ms=None,
    )
    await found.trace()
    assert found.ended == ["CS0", "EF"]
    assert not found.lost_beside("EF")
    assert [hop.name for hop in metrics.hops if hop.name.endswith("EF")] == [
        "01 EF",
        "02 EF",
        "03 EF",
        "04 EF",
    ]
