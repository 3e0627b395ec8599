"""The two listeners: addresses, TLS and limits of the gRPC servers."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

import grpc
from grpc import aio

from controller.errors import ConfigurationError, PortInUseError, StreamSwarmError
from controller.gateway.authority import Authority
from controller.gateway.credit import CREDIT_BYTES
from controller.gateway.identity import Doorkeeper, Role
from controller.settings import split_address

_MINUTE_MS = 60_000
_COMMON_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # otherwise two gateways share a port without noticing
    ("grpc.max_connection_age_grace_ms", 5_000),
)
_SESSION_OPTIONS: Sequence[tuple[str, int]] = (
    # When thousands dial at once their handshakes take long; one that is given up has to be begun again, by a worker that
    # waits for as long.
    ("grpc.server_handshake_timeout_ms", 30_000),
    ("grpc.max_receive_message_length", 2 * 1_048_576),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 4),
    # Windows as wide as a worker's credit from the start; gRPC would send a ping with each message to find their width.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", CREDIT_BYTES),
    # When thousands dial at once their calls wait for a moment; beyond a thousand gRPC would drop some by the dice.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # Connections that carry no call: thousands that dial at once leave some hundreds. gRPC's timer for it goes round as long as
    # a call lasts, too: by the minute those of 5,000 sessions kept a pool of 20 threads awake, for 2 % of a processor.
    ("grpc.max_connection_idle_ms", 5 * _MINUTE_MS),
    # With gRPC's jitter of a tenth no connection is older than an hour.
    ("grpc.max_connection_age_ms", 54 * _MINUTE_MS),
    # A connection that is half open is found within 53 s; a worker's own pings, every 40 s, put these off. Without the
    # last of the three an answer is waited for a minute, whatever the second says.
    ("grpc.keepalive_time_ms", 43_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Workers ping every 40 s; the default of five minutes would end their connections as abuse, once heartbeats are
    # rarer than three pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_ENROLMENT_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 65_536),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_connection_idle_ms", _MINUTE_MS),
    ("grpc.max_connection_age_ms", _MINUTE_MS),
)
#: How often a listener looks whether its certificate or the trusted roots have changed.
_LOOK_S = 10.0


class InsecureTransportError(StreamSwarmError):
    """A listener accepts an older TLS than 1.3."""


class Listener:
    """One gRPC server on one address, for callers of one role."""

    def __init__(self, role: Role, address: str, authority: Authority, *, variable: str) -> None:
        self._address = address
        self._variable = variable
        split_address(address, what=variable)
        options = _SESSION_OPTIONS if role is Role.WORKER else _ENROLMENT_OPTIONS
        self.server = aio.server(
            interceptors=(Doorkeeper(role),),
            options=(*_COMMON_OPTIONS, *options),
            maximum_concurrent_rpcs=None if role is Role.WORKER else 64,
        )
        self._credentials = _Credentials(authority, client_certificates=role is Role.WORKER)
        #: The port that was bound; differs from the address when that asks for port 0.
        self.port = 0

    async def start(self) -> None:
        """Bind and serve; raises PortInUseError or ConfigurationError."""
        _check_bindable(self._address, self._variable)
        try:
            self.port = self.server.add_secure_port(self._address, self._credentials.make())
        except RuntimeError as error:
            raise PortInUseError(
                f"cannot listen on {self._address}: {error}", mend=f"set {self._variable} to another address"
            ) from error
        await self.server.start()

    async def stop(self, grace_s: float) -> None:
        """Accept nothing new, and give calls under way this long to end."""
        await self.server.stop(grace_s)

    async def check_transport(self) -> None:
        """Raise InsecureTransportError when a handshake by TLS 1.2 succeeds.

        What refuses it is a variable that must be set before gRPC is first imported; this notices when it was not.
        Only meaningful on a listener that asks for no client certificate.
        """
        if await asyncio.to_thread(_accepts_tls12, self._address, self.port):
            raise InsecureTransportError(
                f"the listener on {self._address} accepts TLS 1.2",
                mend="start the gateway by `streamswarm gateway` or `python -m controller.gateway`",
            )


class _Credentials:
    """Server credentials that follow the authority: a renewed certificate and new roots serve from the next handshake on."""

    def __init__(self, authority: Authority, *, client_certificates: bool) -> None:
        self._authority = authority
        self._client_certificates = client_certificates
        self._served = self._current()
        self._looked_at = time.monotonic()

    def make(self) -> grpc.ServerCredentials:
        """Return the credentials for one server."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._fetch, self._client_certificates
        )

    def _fetch(self) -> Any:
        """Return a new configuration, or None while nothing has changed; gRPC asks at each handshake."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return None
        self._looked_at = now
        current = self._current()
        if current == self._served:
            return None
        self._served = current
        return self._configuration()

    def _current(self) -> tuple[bytes, bytes, bytes]:
        identity = self._authority.server_identity()
        return identity.key_pem, identity.chain_pem, self._authority.bundle_pem

    def _configuration(self) -> Any:
        key, chain, bundle = self._served
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=bundle)


def _check_bindable(address: str, variable: str) -> None:
    """Raise what is wrong with an address; gRPC says only that it failed, and says it in its own log as well."""
    host, port = split_address(address, what=variable)
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(name)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} on {host} is taken by another process",
                mend=f"stop what listens there, or set {variable} to another address",
            ) from error
        raise ConfigurationError(
            f"cannot listen on {address}: {error}", mend=f"set {variable} to an address of this host"
        ) from error


def _accepts_tls12(address: str, port: int) -> bool:
    host, _ = split_address(address, what="the listener")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  an address to dial
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said to the peer, which is this process
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=10) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
