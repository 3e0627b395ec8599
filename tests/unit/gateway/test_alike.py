"""Packing many results at a time gives the very bytes that packing them one by one gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.gateway import alike, packing
from controller.gateway.packing import UnstorableError
from streamswarm import contract
from streamswarm.v1 import probe_pb2

_DUE_US = 1_760_000_000_000_000
_INT64 = st.integers(-(2**63), 2**63 - 1)
_KINDS = list(contract.kinds())


def check(wire: Sequence[bytes]) -> int:
    """Hold the blocks to the slow way's rows; return how many rows there were in blocks."""
    blocks, left = alike.pack_alike(wire)
    places = [place for block in blocks for place in block.places.tolist()]
    assert sorted(places + left) == list(range(len(wire)))
    for block in blocks:
        for place, row, job_id, due_us in zip(
            block.places.tolist(),
            block.rows,
            block.job_ids.tolist(),
            block.scheduled_at_us.tolist(),
            strict=True,
        ):
            packed = packing.pack(probe_pb2.Result.FromString(wire[place]))
            assert (packed.kind, packed.job_id, packed.scheduled_at_us) == (block.kind, job_id, due_us)
            assert packed.row == row.tobytes()
            assert packed.children == ()
    return len(places)


def result(kind: str, number: int, metrics: Sequence[str], **fields: Any) -> probe_pb2.Result:
    """A good result with these metrics."""
    made = probe_pb2.Result(
        job_id=number + 1,
        job_version=1,
        scheduled_at_us=_DUE_US + number,
        started_at_us=_DUE_US + number + 150,
        duration_ms=1.5,
        status=probe_pb2.STATUS_OK,
        clock_offset_ms=0.25,
        start_error_us=number - 20,
    )
    message = getattr(made, kind)
    message.SetInParent()
    for name in metrics:
        setattr(
            message, name, number % 2 if contract.kind(kind).metric(name).type != "number" else number / 3
        )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_is_packed_together(kind: str) -> None:
    """All metrics, none, and every second one: nothing of it is left to the slow way."""
    names = [metric.name for metric in contract.kind(kind).metrics]
    for some in (names, [], names[::2]):
        wire = [result(kind, number, some).SerializeToString() for number in range(50)]
        assert check(wire) == 50


def test_what_is_unusual_is_left_and_the_rest_is_packed() -> None:
    """Errors, details, child rows and values that may not be stored; each among results that look alike."""
    usual = [result("ping", number, ["rtt_avg_ms", "kernel_timestamps"]) for number in range(100)]
    odd = [
        result("ping", 1, ["rtt_avg_ms", "kernel_timestamps"], error="refused"),
        result("ping", 2, ["rtt_avg_ms", "kernel_timestamps"], detail_json="{}"),
        result("ping", 3, ["rtt_avg_ms", "kernel_timestamps"], duration_ms=math.inf),
        result("ping", 4, ["rtt_avg_ms", "kernel_timestamps"], status=0),
        result("ping", 5, ["rtt_avg_ms", "kernel_timestamps"], started_at_us=2**62),
        result("ping", 6, ["rtt_avg_ms", "kernel_timestamps"], scheduled_at_us=-(2**63)),
    ]
    odd[2].ping.rtt_avg_ms = math.nan
    host = result("system", 7, ["cpu_busy_pct"])
    host.system.interfaces.add(name="eth0")
    wire = [each.SerializeToString() for each in usual]
    for index, each in enumerate([*odd, host]):
        wire.insert(index * 13, each.SerializeToString())
    wire.insert(5, b"")
    wire.insert(9, b"\xff" * len(wire[0]))
    blocks, left = alike.pack_alike(wire)
    assert sum(map(len, blocks)) == 100
    assert len(left) == len(odd) + 3
    for place in left:
        assert wire[place] not in {each.SerializeToString() for each in usual}


def test_odd_bytes_that_mean_something_else_are_never_taken_for_alike() -> None:
    """Bytes of one length whose varints go on, whose fields come twice or in another order are looked at singly."""
    usual = [
        result("ping", number, ["kernel_timestamps", "loss_pct"]).SerializeToString() for number in range(60)
    ]
    plain = probe_pb2.Result.FromString(usual[0])
    body = plain.ping.SerializeToString()
    envelope = probe_pb2.Result.FromString(usual[0])
    envelope.ClearField("metrics")
    turned = b"\xaa\x06" + bytes([len(body)]) + body + envelope.SerializeToString()
    assert probe_pb2.Result.FromString(turned) == plain
    truth = usual[0].replace(b"\x90\x01\x01", b"\x90\x01\x02") if b"\x90\x01\x01" in usual[0] else usual[0]
    twice = usual[0][:9] + usual[0]  # the job's id once more in front
    assert check([*usual, turned, truth, twice, *[twice] * 30]) >= 60


def test_a_crowd_that_is_all_different_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many patterns a worker sends, so many are looked at; all results are accounted for all the same."""
    numbers = [m.name for m in contract.kind("ping").metrics if m.type == "number"]
    patterns = list(itertools.islice(itertools.combinations(numbers[:10], 5), 200))
    wire = [result("ping", number, some).SerializeToString() for number, some in enumerate(patterns)]
    assert len(set(map(len, wire))) == 1
    looked_at = []
    monkeypatch.setattr(
        alike, "_layout_of", lambda first, whole=alike._layout_of: looked_at.append(1) or whole(first)
    )
    assert check(wire) == len(looked_at) == alike._MOST_WALKS


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_results_are_packed_as_they_would_be_singly(data: st.DataObject) -> None:
    """Any mixture of kinds, metrics, values and sizes; what the slow way refuses is never in a block."""
    wire = []
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(_KINDS))
        known = contract.kind(kind)
        chosen = data.draw(st.lists(st.sampled_from(known.metrics), unique=True, max_size=8))
        for number in range(data.draw(st.sampled_from([1, alike.FEWEST - 1, alike.FEWEST, 60]))):
            made = result(kind, number, [])
            made.status = data.draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
            made.failure_source = data.draw(st.sampled_from([0, 0, 1, 7]))
            if data.draw(st.booleans()):
                made.failure_reason = data.draw(st.sampled_from([0, 1, 12, 29]))
            for name in ("clock_offset_ms", "start_error_us"):
                if data.draw(st.booleans()):
                    made.ClearField(name)
            if number % 7 == 0:
                made.job_id, made.started_at_us = data.draw(_INT64), data.draw(_INT64)
                made.scheduled_at_us = data.draw(_INT64)
                made.duration_ms = data.draw(st.floats())
            for metric in chosen:
                if metric.type == "number":
                    value: Any = data.draw(st.floats()) if number % 5 == 0 else 0.25 * number
                elif metric.type == "boolean":
                    value = number % 3 == 0
                else:
                    value = data.draw(st.integers(-(2 ** (metric.bits - 1)), 2 ** (metric.bits - 1) - 1))
                setattr(getattr(made, kind), metric.name, value)
            wire.append(made.SerializeToString())
    wire = data.draw(st.permutations(wire)) if len(wire) < 100 else wire
    check(wire)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_judged_as_they_would_be_singly(data: st.DataObject) -> None:
    """One flipped byte anywhere: whatever still lies in a block is what the library reads out of the bytes."""
    wire = [
        bytearray(result("tcp", number, [m.name for m in contract.kind("tcp").metrics]).SerializeToString())
        for number in range(alike.FEWEST + 6)
    ]
    for _ in range(data.draw(st.integers(1, 6))):
        victim = wire[data.draw(st.integers(0, len(wire) - 1))]
        victim[data.draw(st.integers(0, len(victim) - 1))] = data.draw(st.integers(0, 255))
    check([bytes(each) for each in wire])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.5e308, -1e101])
def test_numbers_that_no_sum_holds_are_stored_neither_way(value: float) -> None:
    """A block leaves them, and the slow way names them; also in rows of their own."""
    usual = [result("ping", number, ["rtt_avg_ms"]) for number in range(alike.FEWEST + 6)]
    usual[7].ping.rtt_avg_ms = value
    _, left = alike.pack_alike([each.SerializeToString() for each in usual])
    assert left == [7]
    with pytest.raises(UnstorableError, match="rtt_avg_ms"):
        packing.pack(usual[7])
    host = result("system", 1, [])
    host.system.interfaces.add(name="eth0", receive_bytes_per_s=value)
    with pytest.raises(UnstorableError, match="receive_bytes_per_s"):
        packing.pack(host)
