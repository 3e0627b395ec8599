"""A small name server for the example test: it answers for `streamswarm.test` on loopback and nothing else.

Machines differ in what their resolver knows; the example must give a result on each of them.
"""

from __future__ import annotations

import asyncio
import signal
import struct
from typing import cast

import click
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ZONE = "streamswarm.test."
_ANSWERS = {("A", ZONE): "127.0.0.1", ("AAAA", ZONE): "::1", ("TXT", ZONE): '"StreamSwarm example"'}
_TTL_S = 60


def answer(wire: bytes) -> bytes | None:
    """Return the answer to a query in wire format, or None when it is no query."""
    try:
        query = dns.message.from_wire(wire)
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return None
        response = dns.message.make_response(query)
    except dns.exception.DNSException:
        return None
    question = query.question[0]
    name = question.name.to_text().lower()
    response.flags |= dns.flags.AA
    if name != ZONE:
        in_zone = name.endswith("." + ZONE)
        response.set_rcode(dns.rcode.NXDOMAIN if in_zone else dns.rcode.REFUSED)
    else:
        kind = dns.rdatatype.to_text(question.rdtype)
        text = _ANSWERS.get((kind, name))
        if text is not None:
            response.answer.append(dns.rrset.from_text(question.name, _TTL_S, "IN", kind, text))
    return response.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own transport is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(data)
        if reply is not None:
            self._transport.sendto(reply, addr)


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(10):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                reply = answer(await reader.readexactly(length))
                if reply is None:
                    break
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is done, or gone
    finally:
        writer.close()


async def serve(host: str, port: int) -> None:
    """Answer over UDP and TCP until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.create_datagram_endpoint(_Datagrams, local_addr=(host, port))
    server = await asyncio.start_server(_stream, host, port)
    await stop.wait()
    server.close()
    transport.close()


@click.command()
@click.argument("host")
@click.argument("port", type=int)
def main(host: str, port: int) -> None:
    """Answer for `streamswarm.test` on HOST:PORT."""
    asyncio.run(serve(host, port))


if __name__ == "__main__":
    main()
