"""Datagrams that do not answer the query, more than can be read."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator

import dns.message
import dns.rcode
import pytest

from worker.wire import dns_transport, stamps
from worker.wire.datagram import Datagram
from worker.wire.dns_transport import Server, Traffic, UdpTransport, fits
from worker.wire.source import BY_ROUTES
from worker.wire.volume import Volume

QUERY = dns.message.make_query("A.test.", "A", id=7)
OTHER = dns.message.make_query("other.test.", "A", id=7)


class Flood:
    """A socket on which there is always one more datagram, so that reading never waits."""

    def __init__(self, datagram: bytes) -> None:
        self._datagram = datagram
        self._begin = time.monotonic()

    def send(self, data: bytes) -> None:
        """Take the query."""

    async def receive(self) -> Datagram:
        """Return the next one at once."""
        if time.monotonic() - self._begin > 2:
            raise RuntimeError("nothing else got a turn for 2 s")
        return Datagram(data=self._datagram, received=stamps.now(), stamped_ns=None)


@pytest.mark.parametrize("change", [lambda data: data, lambda data: b"\xff\xff" + data[2:]])
async def test_a_flood_does_not_stop_the_time_out(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    """The event loop gets its turn after each datagram that is passed over."""

    @contextlib.contextmanager
    def flooded(*_place: object, **_options: object) -> Iterator[Flood]:
        yield Flood(change(dns.message.make_response(OTHER).to_wire()))

    monkeypatch.setattr(dns_transport, "open_exchange", flooded)
    server = Server(
        address=ipaddress.ip_address("127.0.0.1"),
        port=53,
        dscp=0,
        source=BY_ROUTES,
        name="",
        verify=False,
        keep=False,
    )
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(UdpTransport(server, Traffic(volume=Volume(1_000_000_000))).ask(QUERY), 0.05)


def test_what_fits_is_told_without_parsing() -> None:
    """Id and question, in whatever case; an error may come without its question (RFC 5452, section 9.1)."""
    query = QUERY.to_wire()
    response = dns.message.make_response(QUERY)
    assert fits(response.to_wire(), query)
    assert fits(response.to_wire().replace(b"\1A\4test", b"\1a\4TEST"), query)
    assert not fits(dns.message.make_response(OTHER).to_wire(), query)
    assert not fits(b"\0\x08" + response.to_wire()[2:], query)
    response.question = []
    assert not fits(response.to_wire(), query)
    response.set_rcode(dns.rcode.REFUSED)
    assert fits(response.to_wire(), query)
    assert fits(query[:2] + b"\x84\0\0\1garbage", query)
    assert not fits(b"", query)
