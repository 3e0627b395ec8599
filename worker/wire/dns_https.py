"""Asking a name server over HTTPS (RFC 8484), by HTTP/2 or HTTP/1.1 as the server chooses."""

from __future__ import annotations

import base64
import ssl
import time

import dns.message

from streamswarm.v1 import probe_pb2
from worker.failures import target_failure
from worker.probing import ProbeFailure
from worker.wire import tls
from worker.wire.connect import failure_of, spent
from worker.wire.dns_transport import OpenStream, Reply, Server, Traffic, answer_to
from worker.wire.http1 import Http1Session
from worker.wire.http2 import Http2Session
from worker.wire.http_body import Body, BodyTooLongError, BrokenBodyError
from worker.wire.http_exchange import BadAnswerError, Exchange, HeaderTooLargeError, Request, Session
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.volume import SpentError

_MEDIA_TYPE = "application/dns-message"
#: A DNS message has no more; neither may the body that carries one.
_LONGEST_MESSAGE = 65_535


class HttpsTransport:
    """Queries as HTTP requests, one after the other; see Transport."""

    def __init__(self, server: Server, traffic: Traffic, *, path: str, method: str) -> None:
        self._server = server
        self._traffic = traffic
        self._path = path
        self._method = method
        self._connection = OpenStream(server, traffic, secure=True, alpn=("h2", "http/1.1"))
        self._session: Session | None = None

    async def prepare(self) -> None:
        """Have the connection's needs made ready."""
        await self._connection.prepare()

    async def ask(self, query: dns.message.QueryMessage) -> Reply:
        """Ask; a kept connection that the server has closed meanwhile is replaced."""
        session, self._session = self._session, None
        where = self._server.where
        started_ns = time.perf_counter_ns()
        try:
            if session is not None:
                try:
                    return await self._exchange(query, session, started_ns)
                except (PeerClosedError, ConnectionError):
                    self._connection.close()
            stream, started_ns = await self._connection.open()
            return await self._exchange(query, _session(stream), started_ns)
        except PeerClosedError as error:
            raise target_failure(f"{where} {error}", reason=probe_pb2.FAILURE_REASON_BROKEN_OFF) from error
        except (BadAnswerError, BodyTooLongError, BrokenBodyError, HeaderTooLargeError) as error:
            raise _bad_answer(f"{where} did not answer in HTTP as it should: {error}") from error
        except ssl.SSLError as error:
            raise target_failure(
                f"{where} broke the TLS connection: {tls.reason_of(error)}",
                reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
            ) from error
        except SpentError as error:
            raise spent(error, where) from error
        except OSError as error:
            raise failure_of(error, where) from error
        finally:
            if self._session is None:
                self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._session = None
        self._connection.close()

    async def _exchange(self, query: dns.message.QueryMessage, session: Session, started_ns: int) -> Reply:
        data = query.to_wire()
        exchange, body = Exchange(), Body(longest=_LONGEST_MESSAGE, keep=True)
        await session.converse(
            self._request(data), exchange, body, last=not self._server.keep, wants_body=lambda _: True
        )
        self._traffic.http_status = exchange.status
        content = body.content
        if exchange.status != 200:
            raise target_failure(
                f"{self._server.where} answered with HTTP status {exchange.status} instead of a DNS message",
                reason=probe_pb2.FAILURE_REASON_WRONG_STATUS,
            )
        if exchange.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
            raise _bad_answer(
                f"{self._server.where} did not answer with `{_MEDIA_TYPE}`; look at the test's path"
            )
        answer = answer_to(query, content, self._server.where)
        if session.reusable and self._server.keep:
            self._session = session
        return Reply(message=answer, size=len(content), elapsed_ms=(exchange.end_ns - started_ns) / 1e6)

    def _request(self, data: bytes) -> Request:
        host = f"[{self._server.name}]" if ":" in self._server.name else self._server.name
        authority = host if self._server.port == 443 else f"{host}:{self._server.port}"
        if self._method == "POST":
            headers = (("Accept", _MEDIA_TYPE), ("Content-Type", _MEDIA_TYPE))
            return Request(
                method="POST",
                scheme="https",
                authority=authority,
                path=self._path,
                headers=headers,
                body=data,
            )
        encoded = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        return Request(
            method="GET",
            scheme="https",
            authority=authority,
            path=f"{self._path}{'&' if '?' in self._path else '?'}dns={encoded}",
            headers=(("Accept", _MEDIA_TYPE),),
        )


def _session(stream: ByteStream) -> Session:
    by_alpn = stream.tls.selected_alpn_protocol() if stream.tls is not None else None
    return Http2Session(stream) if by_alpn == "h2" else Http1Session(stream)


def _bad_answer(text: str) -> ProbeFailure:
    return target_failure(text, reason=probe_pb2.FAILURE_REASON_BAD_ANSWER)
