"""Who is at the other end, and what they may call.

A worker is who its certificate's one SPIFFE id says, and nothing else counts. The table of methods is the only
place where something is allowed; what it does not name is denied.
"""

from __future__ import annotations

import datetime as dt
import enum
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpc import aio

from controller.gateway.authority import serial_text, utc_now
from streamswarm.targets import shown

_log = logging.getLogger(__name__)

#: Two minor versions of TLS 1.3 do not exist; anything but this text is refused.
_TLS = b"TLSv1.3"


class Role(enum.Enum):
    """Who may call a method, which is also what a listener is for."""

    #: A worker with a certificate of its own; the session listener.
    WORKER = "worker"
    #: Anyone with a token in hand; the enrolment listener.
    NEWCOMER = "newcomer"


#: Every method that can be called, and by whom. What is not here is denied on every listener.
METHOD_ROLES: Mapping[str, Role] = {
    "/streamswarm.v1.Gateway/Session": Role.WORKER,
    "/streamswarm.v1.Enrolment/Enrol": Role.NEWCOMER,
}


class NotIdentifiedError(Exception):
    """The peer's certificate names no worker; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A worker as its certificate names it."""

    worker_id: uuid.UUID
    #: Serial number in lower-case hexadecimal.
    serial: str
    #: From this instant on it is not heard.
    not_after: dt.datetime


def identify(auth: Mapping[str, Iterable[bytes]], trust_domain: str) -> Peer:
    """Return the worker at the other end of a connection, or raise NotIdentifiedError.

    `auth` is gRPC's authentication context. The handshake has proven the key and the chain; two names, a name of
    another form, another purpose or no name at all are refused here.
    """
    check_transport(auth)
    spiffe_ids = list(auth.get("peer_spiffe_id", ()))
    certificates = list(auth.get("x509_pem_cert", ()))
    if len(spiffe_ids) != 1 or len(certificates) != 1:
        raise NotIdentifiedError("the certificate names no worker: exactly one SPIFFE id is needed")
    prefix = f"spiffe://{trust_domain}/worker/"
    text = spiffe_ids[0].decode("utf-8", "replace")
    try:
        worker_id = uuid.UUID(text.removeprefix(prefix))
    except ValueError:
        raise NotIdentifiedError("the certificate's SPIFFE id is not one of a worker here") from None
    if text != f"{prefix}{worker_id}":
        raise NotIdentifiedError("the certificate's SPIFFE id is not one of a worker here")
    certificate = x509.load_pem_x509_certificate(certificates[0])
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        usage = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise NotIdentifiedError("the certificate lacks a name or a purpose") from error
    if names != [x509.UniformResourceIdentifier(text)]:
        raise NotIdentifiedError("the certificate has names beside its SPIFFE id")
    if usage != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise NotIdentifiedError("the certificate is not one for clients only")
    if utc_now() >= certificate.not_valid_after_utc:
        raise NotIdentifiedError("the certificate has expired")
    return Peer(
        worker_id=worker_id, serial=serial_text(certificate), not_after=certificate.not_valid_after_utc
    )


def check_transport(auth: Mapping[str, Iterable[bytes]]) -> None:
    """Raise NotIdentifiedError unless the connection is TLS 1.3."""
    if list(auth.get("ssl_tls_version", ())) != [_TLS]:
        raise NotIdentifiedError("the connection is not TLS 1.3")


Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class Doorkeeper(aio.ServerInterceptor):
    """Lets a listener's calls through by the table; all else is denied, methods that do not exist included."""

    def __init__(self, role: Role) -> None:
        self._role = role

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's handler, or one that denies."""
        method = handler_call_details.method
        if METHOD_ROLES.get(method) is self._role:
            return await continuation(handler_call_details)

        async def deny(_requests: Any, context: aio.ServicerContext[Any, Any]) -> None:
            _log.warning(
                "%s was denied %s: the %s listener does not serve it",
                context.peer(),
                shown(method),
                self._role.value,
            )
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this listener does not serve that method")

        return grpc.stream_stream_rpc_method_handler(deny)
