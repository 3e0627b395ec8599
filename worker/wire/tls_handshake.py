"""One TLS handshake that looks at everything and trusts nothing: certificates are handed out, not judged.

By pyOpenSSL, because Python's own module shows neither the chain that came nor the key exchange nor a stapled status.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import time
from dataclasses import dataclass

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib

from streamswarm.targets import shown
from worker.wire.stream import ByteStream, PeerClosedError

_VERSIONS = {
    "1.0": SSL.TLS1_VERSION,
    "1.1": SSL.TLS1_1_VERSION,
    "1.2": SSL.TLS1_2_VERSION,
    "1.3": SSL.TLS1_3_VERSION,
}
#: Names that OpenSSL gives to versions.
_NUMBERS = {"TLSv1": 1.0, "TLSv1.1": 1.1, "TLSv1.2": 1.2, "TLSv1.3": 1.3}
#: Weak keys and old signatures are to be seen and told, not to end the handshake.
_CIPHERS = b"DEFAULT:@SECLEVEL=0"
_CHUNK_BYTES = 65_536


class HandshakeError(Exception):
    """The handshake did not succeed; the message is OpenSSL's word for why."""


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """What was agreed on, and what the server sent."""

    #: Less what this worker was late meanwhile.
    elapsed_ns: int
    #: 1.0, 1.1, 1.2 or 1.3; None for one that is not known here.
    version: float | None
    cipher: str
    cipher_bits: int | None
    #: Group of the key exchange, such as `X25519MLKEM768`; empty where there is none (RSA key exchange).
    group: str
    #: Application protocol; empty for none.
    alpn: str
    #: Certificates as they came, DER, the server's own first.
    chain: tuple[bytes, ...]
    #: Whether the server sent the status of its certificate along.
    ocsp_stapled: bool


async def shake_hands(
    stream: ByteStream, *, server_name: str, min_version: str, alpn: tuple[str, ...]
) -> Handshake:
    """Shake hands over a stream in the clear; raises HandshakeError, PeerClosedError or OSError."""
    connection = SSL.Connection(_context(min_version, alpn), None)
    connection.set_connect_state()
    if not _is_address(server_name):  # RFC 6066, section 3: addresses are not asked for
        connection.set_tlsext_host_name(server_name.encode("ascii"))
    connection.request_ocsp()
    began_ns = time.perf_counter_ns() - stream.late_ns
    while True:
        try:
            connection.do_handshake()
            break
        except SSL.WantReadError:
            await _flush(connection, stream)
            data = await stream.receive()
            if not data:
                raise PeerClosedError("closed the connection during the TLS handshake") from None
            connection.bio_write(data)
        except SSL.Error as error:
            with contextlib.suppress(OSError):  # the alert that tells the peer why; it may be gone
                await _flush(connection, stream)
            raise HandshakeError(_words(error)) from error
    await _flush(connection, stream)
    elapsed_ns = time.perf_counter_ns() - stream.late_ns - began_ns
    return Handshake(
        elapsed_ns=elapsed_ns,
        version=_NUMBERS.get(connection.get_protocol_version_name()),
        cipher=connection.get_cipher_name() or "",
        cipher_bits=connection.get_cipher_bits(),
        group=connection.get_group_name() or "",
        alpn=connection.get_alpn_proto_negotiated().decode("latin-1"),
        chain=tuple(
            crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
            for certificate in connection.get_peer_cert_chain() or ()
        ),
        ocsp_stapled=_has_staple(connection),
    )


async def _flush(connection: SSL.Connection, stream: ByteStream) -> None:
    with contextlib.suppress(SSL.WantReadError):  # nothing more to send
        while True:
            await stream.send(connection.bio_read(_CHUNK_BYTES))


@functools.lru_cache(maxsize=64)
def _context(min_version: str, alpn: tuple[str, ...]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_min_proto_version(_VERSIONS[min_version])
    context.set_cipher_list(_CIPHERS)
    if alpn:
        context.set_alpn_protos([protocol.encode("ascii") for protocol in alpn])
    return context


def _has_staple(connection: SSL.Connection) -> bool:
    """Whether the server sent the status of its certificate along.

    OpenSSL is asked itself: pyOpenSSL tells it by a callback only, for which cffi needs memory that can be written and
    executed, and the worker's unit denies that.
    """
    status = ffi.new("unsigned char **")
    return int(lib.SSL_get_tlsext_status_ocsp_resp(connection._ssl, status)) > 0


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _words(error: SSL.Error) -> str:
    """Return the reasons of pyOpenSSL's list of (library, function, reason)."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [str(entry[-1]) for entry in entries if entry]
    return shown("; ".join(dict.fromkeys(reasons)) or "it was broken off", 200)
