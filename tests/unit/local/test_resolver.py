"""The example name server answers for its own zone, refuses the rest, and survives any bytes."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.local.resolver import answer


def ask(name: str, kind: str) -> dns.message.Message:
    reply = answer(dns.message.make_query(name, kind).to_wire())
    assert reply is not None
    return dns.message.from_wire(reply)


@pytest.mark.parametrize(
    ("kind", "text"), [("A", "127.0.0.1"), ("AAAA", "::1"), ("TXT", '"StreamSwarm example"')]
)
def test_its_own_name_has_answers(kind: str, text: str) -> None:
    """Authoritative, with a TTL."""
    reply = ask("StreamSwarm.TEST.", kind)
    assert reply.rcode() == dns.rcode.NOERROR
    assert [str(item) for item in reply.answer[0]] == [text]
    assert reply.answer[0].ttl == 60


def test_other_types_names_and_zones() -> None:
    """No data, no such name, refused."""
    assert (ask("streamswarm.test.", "MX").rcode(), len(ask("streamswarm.test.", "MX").answer)) == (
        dns.rcode.NOERROR,
        0,
    )
    assert ask("nothing.streamswarm.test.", "A").rcode() == dns.rcode.NXDOMAIN
    assert ask("example.org.", "A").rcode() == dns.rcode.REFUSED


def test_answers_are_not_answered() -> None:
    """Two such servers cannot keep each other busy."""
    reply = answer(dns.message.make_query("streamswarm.test.", "A").to_wire())
    assert reply is not None
    assert answer(reply) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(wire: bytes) -> None:
    """Noise gets an answer or silence, never a crash."""
    reply = answer(wire)
    assert reply is None or reply[:2] == wire[:2]
