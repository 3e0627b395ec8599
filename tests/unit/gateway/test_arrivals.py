"""What a Hello brings is written together with those of others, so nothing in it may keep them from being written."""

from __future__ import annotations

import json
import uuid

import pytest

from controller.gateway.arrivals import Arrival, _arrival_row
from controller.gateway.identity import Peer
from controller.gateway.plain import storable_json
from streamswarm.v1 import gateway_pb2


@pytest.mark.parametrize("opening", ['{"a":', "["], ids=["objects", "lists"])
def test_no_depth_of_a_policy_keeps_hellos_from_being_written(opening: str) -> None:
    """However deep: what cannot be kept is left out, and what can be kept is written among the rest of many."""
    closing = "}" if opening.startswith("{") else "]"
    peer = Peer(worker_id=uuid.uuid4(), serial="1f", not_after=None)  # type: ignore[arg-type]
    kept = []
    for depth in range(1, 1000):
        text = '{"p":' + opening * depth + "1" + closing * depth + "}"
        hello = gateway_pb2.Hello(spool_id="a", policy_json=text)
        row = _arrival_row(Arrival(peer=peer, hello=hello))
        storable_json([row, row])
        if row["policy"]:
            assert row["policy"] == json.loads(text)
            kept.append(depth)
    assert kept == list(range(1, 50))
