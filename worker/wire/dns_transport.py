"""Ways to ask a name server: over UDP, over TCP (RFC 7766) and over TLS (RFC 7858).

A transport asks one query after the other; its holder closes it. Each counts what it moves and the times of its first
connection in a Traffic, so that what was measured is known however the run ends.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Protocol

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.wire

from streamswarm.v1 import probe_pb2
from worker.failures import network_failure, target_failure
from worker.probing import IPAddress, ProbeFailure
from worker.wire import dns_limits, icmp_messages, own_word, stamps, tls
from worker.wire.addresses import endpoint
from worker.wire.connect import connect, failure_at_once, failure_of, spent
from worker.wire.datagram import Datagram, open_exchange
from worker.wire.source import Source
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.volume import SpentError, Volume

_HEADER_BYTES = 12
#: Errors whose answers may leave the question out.
_WITHOUT_QUESTION = {dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED}


@dataclass(frozen=True, kw_only=True)
class Server:
    """The name server, and how it is to be reached."""

    address: IPAddress
    port: int
    dscp: int
    source: Source
    #: Over TLS and HTTPS: the name that the certificate must have, and whether it must.
    name: str
    verify: bool
    #: Over TCP, TLS and HTTPS: whether further queries go over the same connection.
    keep: bool

    @property
    def where(self) -> str:
        """Address and port for messages."""
        return endpoint(self.address, self.port)


@dataclass(kw_only=True)
class Traffic:
    """What a run's queries have moved and shown so far; None for what did not happen."""

    volume: Volume
    #: Of the first connection.
    connect_ms: float | None = None
    tls_ms: float | None = None
    #: Whether an answer over UDP was cut short; None when none came over UDP.
    truncated: bool | None = None
    #: Of the last answer over HTTPS.
    http_status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to one query."""

    message: dns.message.Message
    #: Bytes of its message.
    size: int
    #: From sending the query, or from the start of the connection that it needed, until the answer was complete.
    elapsed_ms: float


class Transport(Protocol):
    """One way to ask a server."""

    async def prepare(self) -> None:
        """Have made ready what queries need, before any of them is waited for; once is enough."""

    async def ask(self, query: dns.message.QueryMessage) -> Reply:
        """Ask and return the answer; raises ProbeFailure. May be cancelled at any time."""

    def close(self) -> None:
        """Close what is open."""


class UdpTransport:
    """Over UDP, and once more over TCP when an answer was cut short; each query leaves from a port of its own."""

    def __init__(self, server: Server, traffic: Traffic) -> None:
        self._server = server
        self._traffic = traffic

    async def prepare(self) -> None:
        """Nothing is needed."""

    async def ask(self, query: dns.message.QueryMessage) -> Reply:
        """Ask; what does not fit the question is passed over, for anybody may have sent it."""
        server, traffic = self._server, self._traffic
        data = query.to_wire()
        try:
            with open_exchange(
                server.address, server.port, dscp=server.dscp, source=server.source
            ) as exchange:
                traffic.volume.room(len(data))
                exchange.send(data)
                traffic.volume.sent += len(data)
                while True:
                    received = await exchange.receive()
                    if not isinstance(received, Datagram):
                        raise _icmp_failure(received, server)
                    traffic.volume.received += len(received.data)
                    if fits(received.data, data):
                        answer = parse(received.data, server.where)
                        if query.is_response(answer):
                            elapsed_ms = exchange.elapsed_ms(received)
                            break
                    # While more wait, receiving does not: a flood must stop neither other runs nor the time-out.
                    await asyncio.sleep(0)
                    traffic.volume.room(1)
        except SpentError as error:
            raise spent(error, server.where) from error
        except OSError as error:
            raise failure_at_once(error, server.where) from error
        truncated = bool(answer.flags & dns.flags.TC)
        traffic.truncated = truncated or bool(traffic.truncated)
        if not truncated:
            return Reply(message=answer, size=len(received.data), elapsed_ms=elapsed_ms)
        again = StreamTransport(server, traffic)
        try:
            reply = await again.ask(query)
        finally:
            again.close()
        return Reply(message=reply.message, size=reply.size, elapsed_ms=elapsed_ms + reply.elapsed_ms)

    def close(self) -> None:
        """Nothing stays open between queries."""


class OpenStream:
    """The connection of a transport: made when it is needed, kept while it serves."""

    def __init__(self, server: Server, traffic: Traffic, *, secure: bool, alpn: tuple[str, ...] = ()) -> None:
        self._server = server
        self._traffic = traffic
        self._secure = secure
        self._alpn = alpn
        self._sock: socket.socket | None = None
        self._stream: ByteStream | None = None

    async def prepare(self) -> None:
        """Have read what this host trusts, which takes a while the first time."""
        if self._secure:
            await tls.prepare(verify=self._server.verify, alpn=self._alpn)

    async def open(self) -> tuple[ByteStream, int]:
        """Return a new stream and the instant at which its connection was begun, later by what this worker was late since.

        Raises ProbeFailure or SpentError.
        """
        server, traffic = self._server, self._traffic
        traffic.volume.room(1)
        connection = await connect(
            server.address, server.port, timeout_s=None, dscp=server.dscp, source=server.source
        )
        self._sock = connection.sock
        if traffic.connect_ms is None:
            traffic.connect_ms = connection.connect_ms
        stream = self._stream = ByteStream(connection.sock, traffic.volume)
        if self._secure:
            await self._shake_hands(stream)
        return stream, connection.started_ns + connection.late_ns + stream.late_ns

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._stream is not None:
            self._stream.count_unread()
            self._stream = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    async def _shake_hands(self, stream: ByteStream) -> None:
        server = self._server
        try:
            with tls.handshake_failures(server.where, name=server.name):
                took_ns = await stream.start_tls(
                    tls.client_context(verify=server.verify, alpn=self._alpn), server.name
                )
        except OSError as error:
            raise failure_of(error, server.where) from error
        if self._traffic.tls_ms is None:
            self._traffic.tls_ms = took_ns / 1e6


class StreamTransport:
    """Over TCP or TLS, where each message has its length before it."""

    def __init__(self, server: Server, traffic: Traffic, *, secure: bool = False) -> None:
        self._server = server
        self._traffic = traffic
        self._connection = OpenStream(server, traffic, secure=secure)
        self._stream: ByteStream | None = None

    async def prepare(self) -> None:
        """Have the connection's needs made ready."""
        await self._connection.prepare()

    async def ask(self, query: dns.message.QueryMessage) -> Reply:
        """Ask; a kept connection that the server has closed meanwhile is replaced (RFC 7766, section 6.2.4)."""
        stream, self._stream = self._stream, None
        started_ns = time.perf_counter_ns()
        try:
            if stream is not None:
                try:
                    return await self._exchange(query, stream, started_ns)
                except (PeerClosedError, ConnectionError):
                    self._connection.close()
            stream, started_ns = await self._connection.open()
            return await self._exchange(query, stream, started_ns)
        except PeerClosedError as error:
            raise target_failure(
                f"{self._server.where} {error}", reason=probe_pb2.FAILURE_REASON_BROKEN_OFF
            ) from error
        except ssl.SSLError as error:
            raise target_failure(
                f"{self._server.where} broke the TLS connection: {tls.reason_of(error)}",
                reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
            ) from error
        except SpentError as error:
            raise spent(error, self._server.where) from error
        except OSError as error:
            raise failure_of(error, self._server.where) from error
        finally:
            if self._stream is None:  # whatever ended this query, the stream is no good any more
                self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._stream = None
        self._connection.close()

    async def _exchange(self, query: dns.message.QueryMessage, stream: ByteStream, started_ns: int) -> Reply:
        data = query.to_wire()
        await stream.send(len(data).to_bytes(2, "big") + data)
        length = int.from_bytes(await stream.receive_exactly(2), "big")
        received = await stream.receive_exactly(length)
        elapsed_ms = (stream.received_ns - started_ns) / 1e6
        answer = answer_to(query, received, self._server.where)
        if self._server.keep:
            self._stream = stream
        return Reply(message=answer, size=len(received), elapsed_ms=elapsed_ms)


class ExtendedError(dns.edns.EDEOption):
    """An extended DNS error (RFC 8914) whose text may be broken: it is for people, and discards no good answer."""

    @classmethod
    def from_wire_parser(cls, otype: dns.edns.OptionType | str, parser: dns.wire.Parser) -> dns.edns.Option:
        """Read the option; what is no UTF-8 shows as U+FFFD, a NUL at the end is none of the text."""
        code = parser.get_uint16()
        text = parser.get_remaining().removesuffix(b"\0").decode("utf-8", "replace")
        return cls(dns.edns.EDECode.make(code), text or None)


dns.edns.register_type(ExtendedError, dns.edns.OptionType.EDE)


def fits(data: bytes, query: bytes) -> bool:
    """Whether a datagram may answer a query, by its id and question (RFC 5452, section 9.1), without parsing it.

    What is too short to hold them is for the parser to judge; an error may leave the question out.
    """
    if data[:2] != query[:2]:
        return False
    if len(data) >= _HEADER_BYTES and data[4:6] == b"\0\0":
        return data[3] & 0x0F in _WITHOUT_QUESTION
    # A query has one question and no compression; servers may spell its letters otherwise.
    end = query.index(b"\0", _HEADER_BYTES) + 5
    return len(data) < end or data[_HEADER_BYTES:end].lower() == query[_HEADER_BYTES:end].lower()


def answer_to(query: dns.message.QueryMessage, data: bytes, where: str) -> dns.message.Message:
    """Return the answer in a message that came over a connection, where nobody else can have sent it."""
    answer = parse(data, where)
    if not query.is_response(answer):
        raise target_failure(
            f"{where} answered another question than the one that was asked",
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        )
    return answer


def parse(data: bytes, where: str) -> dns.message.Message:
    """Read a DNS message, in which each record keeps the TTL that it came with; raises ProbeFailure."""
    try:
        dns_limits.check(data)
        return dns.message.from_wire(
            data, one_rr_per_rrset=True, ignore_trailing=True, raise_on_truncation=False
        )
    except dns_limits.TooLargeError as error:
        raise target_failure(
            f"{where} sent an answer that is too large to be read: {error}",
            reason=probe_pb2.FAILURE_REASON_TOO_MUCH,
        ) from error
    except (dns.exception.DNSException, ValueError) as error:
        raise target_failure(
            f"{where} sent an answer that is not a DNS message: {error}",
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        ) from error


def _icmp_failure(error: stamps.QueuedError, server: Server) -> ProbeFailure:
    if error.origin not in (2, 3):
        return failure_at_once(OSError(error.errno, ""), server.where)
    name = icmp_messages.error_name(server.address.version, error.type, error.code)
    # A router that says so has turned the query away.
    if name == "port unreachable" and error.offender == str(server.address).partition("%")[0]:
        return target_failure(
            f"{server.where}: nothing listens there ({name})", reason=probe_pb2.FAILURE_REASON_REFUSED
        )
    if own_word.is_unsent(server.address.version, error.type, error.code, error.offender):
        return failure_at_once(OSError(errno.EPERM, ""), server.where)
    return network_failure(
        f"{server.where} was not reached: {error.offender or 'an unknown router'} reported {name}",
        reason=probe_pb2.FAILURE_REASON_UNREACHABLE,
    )
