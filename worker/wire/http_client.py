"""A connection that carries HTTP: opened with each phase timed, its faults told as failures."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections.abc import Callable, Iterator

from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from worker.failures import target_failure
from worker.probing import IPAddress
from worker.wire import tcp_info, tls
from worker.wire.addresses import endpoint
from worker.wire.connect import connect, failure_of, spent
from worker.wire.http1 import Http1Session
from worker.wire.http_body import Body, BodyTooLongError, BrokenBodyError
from worker.wire.http_exchange import BadAnswerError, Exchange, HeaderTooLargeError, Request, Session
from worker.wire.source import BY_ROUTES, Source
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.tcp_info import TcpInfo
from worker.wire.volume import SpentError, Volume

#: What is offered by ALPN (RFC 7301) for each choice of version.
_OFFERS = {"auto": ("h2", "http/1.1"), "1.1": ("http/1.1",), "2": ("h2",)}


async def prepare(version: str, *, secure: bool, verify: bool) -> None:
    """Have made and loaded, before anything is timed, what connections need for a version of HTTP, `secure` ones under TLS."""
    if secure:
        await tls.prepare(verify=verify, alpn=_OFFERS[version])
    # In the clear HTTP/2 is spoken where it is asked for (RFC 9113, section 3.3), and by no agreement.
    if (version == "2" or (secure and "h2" in _OFFERS[version])) and not _http2_session.cache_info().currsize:
        await tls.apart(_http2_session)


class HttpLine:
    """One connection to one server; whoever holds it closes it. Its faults are raised as ProbeFailure."""

    def __init__(self, address: IPAddress, port: int, volume: Volume) -> None:
        self.address = address
        self._volume = volume
        self._port = port
        #: What is being done, for the message of a time-out; `where` comes after it.
        self.doing = "connecting to"
        self.connect_ms: float | None = None
        self.tls_ms: float | None = None
        #: How much later than connection and TLS handshake went on, this worker came to know of it, in sum.
        self.late_ns = 0
        self.tls_version: str | None = None
        self.cert_days_left: float | None = None
        self._stream: ByteStream | None = None
        self._session: Session | None = None
        self._sock: socket.socket | None = None

    @property
    def where(self) -> str:
        """Address and port, for messages."""
        return endpoint(self.address, self._port)

    @property
    def phase(self) -> str:
        """What is being done."""
        return f"{self.doing} {self.where}"

    def kernels_view(self) -> TcpInfo | None:
        """Return what the kernel says of the connection while it is open; None where it says nothing."""
        return None if self._sock is None else tcp_info.read(self._sock)

    @property
    def reusable(self) -> bool:
        """Whether a further request can be sent."""
        return self._session is not None and self._session.reusable

    async def open(
        self,
        *,
        url: str,
        server_name: str | None,
        version: str,
        verify: bool,
        dscp: int = 0,
        source: Source = BY_ROUTES,
    ) -> None:
        """Connect, under TLS where there is a server name, and agree on the version of HTTP.

        `version` is `auto`, `1.1` or `2`; `url` is for messages.
        """
        await prepare(version, secure=server_name is not None, verify=verify)
        connection = await connect(self.address, self._port, timeout_s=None, dscp=dscp, source=source)
        self._sock = connection.sock
        self.connect_ms, self.late_ns = connection.connect_ms, connection.late_ns
        stream = self._stream = ByteStream(connection.sock, self._volume)
        agreed = version == "2"
        if server_name is not None:
            self.doing = "waiting for the TLS handshake with"
            await self._secure(stream, url, server_name, version, verify=verify)
            agreed = stream.tls is not None and stream.tls.selected_alpn_protocol() == "h2"
            if version == "2" and not agreed:
                raise target_failure(
                    f"{shown(url)} does not offer HTTP/2", reason=probe_pb2.FAILURE_REASON_BAD_ANSWER
                )
        self._session = _http2_session()(stream) if agreed else Http1Session(stream)

    async def converse(
        self,
        request: Request,
        exchange: Exchange,
        body: Body,
        *,
        last: bool,
        wants_body: Callable[[Exchange], bool],
        url: str,
    ) -> None:
        """Make one request; see Session."""
        if self._session is None:
            raise RuntimeError("the connection was not opened")
        self.doing = "waiting for the answer of"
        with self._faults(url):
            await self._session.converse(request, exchange, body, last=last, wants_body=wants_body)

    def close(self) -> None:
        """Close the connection; again does nothing."""
        if self._sock is not None:
            if self._stream is not None:
                self._stream.count_unread()
            self._sock.close()
            self._sock = None
        if self._session is not None:
            self._session.reusable = False

    async def _secure(
        self, stream: ByteStream, url: str, server_name: str, version: str, *, verify: bool
    ) -> None:
        try:
            with tls.handshake_failures(shown(url)):
                took_ns = await stream.start_tls(
                    tls.client_context(verify=verify, alpn=_OFFERS[version]), server_name
                )
        except OSError as error:
            raise failure_of(error, self.where) from error
        self.tls_ms = took_ns / 1e6
        self.late_ns += stream.late_ns
        if stream.tls is not None:
            self.tls_version = stream.tls.version()
            certificate = stream.tls.getpeercert(binary_form=True)
            self.cert_days_left = tls.days_left(certificate) if certificate else None

    @contextlib.contextmanager
    def _faults(self, url: str) -> Iterator[None]:
        try:
            yield
        except (BodyTooLongError, BrokenBodyError) as error:
            too_long = isinstance(error, BodyTooLongError)
            raise target_failure(
                f"the body of {shown(url)} {error}",
                reason=probe_pb2.FAILURE_REASON_TOO_MUCH if too_long else probe_pb2.FAILURE_REASON_BAD_ANSWER,
            ) from error
        except HeaderTooLargeError as error:
            raise target_failure(
                f"{shown(url)}: {error}", reason=probe_pb2.FAILURE_REASON_TOO_MUCH
            ) from error
        except BadAnswerError as error:
            raise target_failure(
                f"{self.where} did not answer in HTTP: {shown(str(error), 200)}",
                reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
            ) from error
        except PeerClosedError as error:
            raise target_failure(
                f"{self.where} {error}", reason=probe_pb2.FAILURE_REASON_BROKEN_OFF
            ) from error
        except ssl.SSLError as error:
            raise target_failure(
                f"{self.where} broke the TLS connection: {tls.reason_of(error)}",
                reason=probe_pb2.FAILURE_REASON_BROKEN_OFF,
            ) from error
        except SpentError as error:
            raise spent(error, self.where) from error
        except OSError as error:
            raise failure_of(error, self.where) from error


@functools.cache
def _http2_session() -> Callable[[ByteStream], Session]:
    # Loaded by tests that may speak it: most of a monitoring system's go to servers nearby, in HTTP/1.1 and in the clear.
    from worker.wire.http2 import Http2Session

    return Http2Session
