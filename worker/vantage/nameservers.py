"""This host's own name servers: which they are, and whether any of them answers at all.

They are asked for the root, which every resolver knows: one that cannot even tell that can tell nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

from worker.probing import IPAddress
from worker.wire.addresses import unmapped
from worker.wire.datagram import Datagram, open_exchange

RESOLV_CONF = Path("/etc/resolv.conf")
_PORT = 53
#: What the C library asks is asked here: no more than three of them.
_MOST_SERVERS = 3
#: Patience for the answer, in which the question is asked twice.
_ANSWER_S = 1.0
_TRIES = 2


def name_servers(path: Path = RESOLV_CONF) -> tuple[IPAddress, ...]:
    """Return the addresses of the host's name servers, as resolv.conf(5) lists them; none when it has no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(unmapped(ipaddress.ip_address(words[1])))
            except ValueError:
                continue
    return tuple(found[:_MOST_SERVERS])


async def any_answers(servers: tuple[IPAddress, ...]) -> bool:
    """Return whether one of the name servers knows the root."""
    asking = [asyncio.ensure_future(_answers(server)) for server in servers]
    try:
        for answer in asyncio.as_completed(asking):
            if await answer:
                return True
        return False
    finally:
        for question in asking:
            question.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _answers(server: IPAddress) -> bool:
    """Return whether a name server answers the question for the root with anything but its own failure."""
    import dns.exception
    import dns.message
    import dns.rcode

    from worker.wire import dns_limits

    query = dns.message.make_query(".", "NS")
    data = query.to_wire()
    for _ in range(_TRIES):
        try:
            with open_exchange(server, _PORT) as exchange:
                exchange.send(data)
                received = await asyncio.wait_for(exchange.receive(), _ANSWER_S / _TRIES)
        except (OSError, asyncio.TimeoutError):
            continue
        if not isinstance(received, Datagram):
            continue
        try:
            dns_limits.check(received.data)
            answer = dns.message.from_wire(received.data, ignore_trailing=True, raise_on_truncation=False)
        except (dns.exception.DNSException, dns_limits.TooLargeError, ValueError):
            continue
        if query.is_response(answer) and answer.rcode() != dns.rcode.SERVFAIL:
            return True
    return False
