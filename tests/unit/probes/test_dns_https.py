"""What queries over HTTPS count as sent."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

import dns.message
import pytest

from worker.probing import ProbeFailure
from worker.wire import dns_https
from worker.wire.dns_transport import OpenStream, Server, Traffic
from worker.wire.http_exchange import Exchange, Request
from worker.wire.source import BY_ROUTES
from worker.wire.stream import PeerClosedError


class _Silent:
    """A session whose server hangs up, before or after the request was sent."""

    reusable = False

    def __init__(self, *, sends: bool) -> None:
        self._sends = sends

    async def converse(self, request: Request, exchange: Exchange, *_: Any, **__: Any) -> None:
        """Send, and get no answer."""
        if self._sends:
            exchange.sent_ns = time.perf_counter_ns()
        raise PeerClosedError("closed the connection")


@pytest.mark.parametrize("sends", [True, False])
async def test_a_query_without_an_answer_counts_as_sent(monkeypatch: pytest.MonkeyPatch, sends: bool) -> None:
    """And one that was never sent does not."""

    async def opened(_: OpenStream) -> tuple[None, int]:
        return None, 0

    monkeypatch.setattr(OpenStream, "open", opened)
    monkeypatch.setattr(dns_https, "_session", lambda _: _Silent(sends=sends))
    server = Server(
        address=ipaddress.ip_address("127.0.0.1"),
        port=443,
        dscp=0,
        source=BY_ROUTES,
        name="dns.test",
        verify=True,
        keep=False,
    )
    traffic, query = Traffic(), dns.message.make_query("example.org", "A")
    transport = dns_https.HttpsTransport(server, traffic, path="/dns-query", method="POST")
    with pytest.raises(ProbeFailure, match="closed the connection"):
        await transport.ask(query)
    assert traffic.bytes_sent == (len(query.to_wire()) if sends else 0)
