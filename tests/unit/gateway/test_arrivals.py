"""What a Hello brings is written together with those of others, so nothing in it may keep them from being written."""

from __future__ import annotations

import json
import uuid
from typing import Any

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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"packets_per_s": ' + "9" * 5000 + "}", "larger than any number"),
        ('{"packets_per_s": 1e999}', "larger than any number"),
        ('{"a": NaN}', "not a JSON value"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "levels deep"),
        ('{"a": ' + "[" * 30_000, "recursion"),
        ('{"a": "' + "x" * 70_000 + '"}', "65536 is the most"),
        ("[1]", "not an object"),
        ("{", "Expecting"),
    ],
)
def test_a_policy_that_no_reader_takes_is_left_out_and_told(
    caplog: pytest.LogCaptureFixture, text: str, why: str
) -> None:
    """Once, with the reason and the worker; the rest of the Hello is written."""
    worker_id = uuid.uuid4()
    peer = Peer(worker_id=worker_id, serial="1f", not_after=None)  # type: ignore[arg-type]
    for _ in range(2):
        row = _arrival_row(Arrival(peer=peer, hello=gateway_pb2.Hello(spool_id="a", policy_json=text)))
        assert (row["policy"], row["spool"]) == ({}, "a")
    [told] = [record.getMessage() for record in caplog.records]
    assert str(worker_id) in told
    assert why in told


def _row(worker_id: uuid.UUID, version: str = "1.2.0+ab", **facts: Any) -> dict[str, Any]:
    peer = Peer(worker_id=worker_id, serial="1f", not_after=None)  # type: ignore[arg-type]
    hello = gateway_pb2.Hello(spool_id="a", worker_version=version, facts=gateway_pb2.Facts(**facts))
    return _arrival_row(Arrival(peer=peer, hello=hello))


def test_what_a_worker_tells_of_its_host_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Versions, texts, numbers and addresses, the latter written in the one way that they have."""
    row = _row(uuid.uuid4(), os="Debian 12", cpu_count=4, addresses=["192.0.2.7", "2001:DB8:0::7"])
    assert row["version"] == "1.2.0+ab"
    assert (row["facts"]["os"], row["facts"]["cpu_count"]) == ("Debian 12", 4)
    assert row["facts"]["addresses"] == ["192.0.2.7", "2001:db8::7"]
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=touch /tmp/x",
        "localhost",
        "192.0.2.7 ",
        "192.0.2.7/24",
        "fe80::1%{{ 7 * 6 }}",
        "fe80::1%-oX",
        "",
        "1\n2",
    ],
)
def test_addresses_are_addresses(text: str) -> None:
    """Nothing else is kept: a login at an address that begins with a dash would be an option of ssh."""
    assert _row(uuid.uuid4(), addresses=[text, "192.0.2.7"])["facts"]["addresses"] == ["192.0.2.7"]


@pytest.mark.parametrize("version", ["-x", "{{ 7 * 6 }}", "1.0\x1b[2J", "1.0 or so", "1" * 101])
def test_a_version_is_a_version(version: str) -> None:
    """Another text is none, rather than one that steers a terminal or is a template."""
    assert _row(uuid.uuid4(), version)["version"] == ""


def test_texts_have_no_control_characters_and_an_end() -> None:
    """They are shown, escaped; a fact that is too long is cut."""
    facts = _row(uuid.uuid4(), os="a\x1b]52;c;\x07", kernel="k" * 1000)["facts"]
    assert facts["os"] == r"a\x1b]52;c;\x07"
    assert len(facts["kernel"]) == 256


def test_of_what_is_left_out_the_log_tells_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often a worker comes; of another one it tells again."""
    one, other = uuid.uuid4(), uuid.uuid4()
    for worker_id in (one, one, other):
        _row(worker_id, "no version", addresses=["\x1b[2J"])
    told = [record.getMessage() for record in caplog.records]
    assert [str(worker_id) in line for worker_id, line in zip((one, other), told, strict=True)] == [
        True,
        True,
    ]
    assert all("and 1 more" in line and "\x1b" not in line for line in told)
