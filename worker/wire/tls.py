"""TLS for clients: contexts, how handshakes fail, and what a certificate says about its time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509

from streamswarm.targets import TargetError, parse_host, shown
from streamswarm.v1 import probe_pb2
from worker.failures import internal_failure, target_failure, vantage_failure
from worker.probing import ProbeFailure
from worker.wire.addresses import without_zone
from worker.wire.connect import spent
from worker.wire.stream import PeerClosedError
from worker.wire.volume import SpentError

#: OpenSSL's numbers for a chain that leads to nobody whom this host knows (X509_V_ERR_…).
_NO_ISSUER = {2, 18, 19, 20, 21}
#: Longest certificate whose expiry is remembered: a server may show one of 100 KiB, and another each time.
_KEPT_BYTES = 8_192
#: What Python puts around the words of an error that it has no name for.
_PYTHONS_OWN = re.compile(r"^\[[^]]*\] *| *\(_ssl\.c:\d+\)$")


#: What is offered where only HTTP/1.1 is spoken.
HTTP1 = ("http/1.1",)
#: Contexts that were prepared; what is made for several runs at once is made for the first of them.
_prepared: set[tuple[bool, tuple[str, ...]]] = set()
_making = threading.Lock()


@functools.cache
def client_context(*, verify: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """Return the context for probes; loading the host's authorities takes tens of milliseconds, so it is made once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(alpn))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def prepare(*, verify: bool, alpn: tuple[str, ...]) -> None:
    """Have a context made before anything is timed, in a thread, so that its making is in nobody's measurement."""
    if (verify, alpn) not in _prepared:
        await apart(lambda: client_context(verify=verify, alpn=alpn))
        _prepared.add((verify, alpn))


async def apart(make: Callable[[], object]) -> None:
    """Have something made in a thread, one after another; where none can be started, whoever needs it makes it."""

    def work() -> None:
        with _making:
            make()

    with contextlib.suppress(RuntimeError):  # no thread can be started
        await asyncio.to_thread(work)


def knows_authorities() -> bool:
    """Whether this host knows any certificate authority; without one no certificate can be found to be valid."""
    folder = ssl.get_default_verify_paths().capath
    if client_context(verify=True, alpn=HTTP1).cert_store_stats()["x509"]:
        return True
    return folder is not None and any(Path(folder).iterdir())


def expected_name(server_name: str, host: str) -> str:
    """Return the name that a test expects of the server, or else its host; raises ProbeFailure for what is no name."""
    if not server_name:
        return without_zone(host)
    try:
        return parse_host(server_name)
    except TargetError as error:
        raise internal_failure(
            f"{error}; correct the test's `server_name`", reason=probe_pb2.FAILURE_REASON_INVALID_TEST
        ) from error


def no_authorities(peer: str, metrics: Any = None) -> ProbeFailure:
    """Whether a certificate is valid cannot be told by a host that knows no authority: its own want."""
    return vantage_failure(
        f"whether the certificate of {peer} is valid cannot be told, because this host knows no certificate authorities; "
        "install them (most systems have a package `ca-certificates`), then restart the worker",
        metrics,
        reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
    )


@contextlib.contextmanager
def handshake_failures(peer: str, metrics: Any = None, *, name: str = "") -> Iterator[None]:
    """Raise ProbeFailure for what ends a handshake; errors of the network pass as they are.

    `name` is told beside a certificate that is not valid, where it is not plain from the peer which one was expected.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _NO_ISSUER and not knows_authorities():
            raise no_authorities(peer, metrics) from error
        wanted = f" for `{name}`" if name else ""
        raise target_failure(
            f"the certificate of {peer} is not valid{wanted}: {error.verify_message}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_BAD_CERTIFICATE,
        ) from error
    except ssl.SSLError as error:
        raise target_failure(
            f"the TLS handshake with {peer} failed: {reason_of(error)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
        ) from error
    except PeerClosedError as error:
        raise target_failure(
            f"{peer} closed the connection during the TLS handshake",
            metrics,
            reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
        ) from error
    except SpentError as error:
        raise spent(error, peer, metrics) from error


def reason_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's word for an error, fit for a message."""
    words = error.reason or _PYTHONS_OWN.sub("", str(error))
    return shown(words.replace("_", " ").lower(), 200)


def days_left(certificate_der: bytes, now: datetime | None = None) -> float | None:
    """Return the days until a certificate expires, negative after; None when it cannot be read."""
    # Certificates are short; one that is long is not kept.
    read = _expiry if len(certificate_der) <= _KEPT_BYTES else _expiry.__wrapped__
    expires = read(certificate_der)
    if expires is None:
        return None
    return (expires - (now or datetime.now(timezone.utc))).total_seconds() / 86_400


@functools.lru_cache(maxsize=1024)
def _expiry(certificate_der: bytes) -> datetime | None:
    try:
        return x509.load_der_x509_certificate(certificate_der).not_valid_after_utc
    except ValueError:
        return None
