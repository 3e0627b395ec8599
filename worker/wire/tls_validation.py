"""Validation of a certificate chain by OpenSSL against the authorities that this host trusts, timed (RFC 5280)."""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
from dataclasses import dataclass
from datetime import datetime

from OpenSSL import crypto
from OpenSSL._util import lib

from worker.wire.tls import apart, knows_authorities


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How validating a chain ended."""

    elapsed_ns: int
    #: OpenSSL's word for what is wrong, or None when the chain is valid.
    error: str | None
    #: The certificates of the valid chain from the server's own to an authority's, DER; None when none was found.
    path: tuple[bytes, ...] | None = None


def validate(chain: tuple[bytes, ...], now: datetime) -> Validation | None:
    """Validate a chain of DER certificates at a time, the server's own first; neither host name nor revocation is looked at.

    None when this host knows no authority, so that nothing could be valid.
    """
    own, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in chain)
    store = authorities()
    if store is None:
        return None
    store.set_time(now)
    started_ns = time.perf_counter_ns()
    try:
        path = crypto.X509StoreContext(store, own, others).get_verified_chain()
    except crypto.X509StoreContextError as error:
        elapsed_ns = time.perf_counter_ns() - started_ns
        about = crypto.dump_certificate(crypto.FILETYPE_ASN1, error.certificate)
        # Of what the server sent the words are found elsewhere; of this host's own authorities it is told which.
        subject = error.certificate.to_cryptography().subject.rfc4514_string()
        whose = "" if about in chain else f" ({subject}, as this host has it)"
        return Validation(elapsed_ns=elapsed_ns, error=f"{error}{whose}")
    elapsed_ns = time.perf_counter_ns() - started_ns
    ders = tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in path)
    return Validation(elapsed_ns=elapsed_ns, error=None, path=ders)


async def prepare() -> None:
    """Have the host's authorities read before anything is timed, in a thread; see `worker.wire.tls.prepare`."""
    if not authorities.cache_info().currsize:
        await apart(authorities)


@functools.cache
def authorities() -> crypto.X509Store | None:
    """Return the host's trusted authorities, found as Python's own TLS finds them; read once. None without any."""
    if not knows_authorities():
        return None
    store = crypto.X509Store()
    # As every client of TLS has it: what is not for servers, or vouches for others only, is on no path.
    lib.X509_STORE_set_purpose(store._store, lib.X509_PURPOSE_SSL_SERVER)
    paths = ssl.get_default_verify_paths()
    for place in ((paths.cafile, None), (None, paths.capath)):
        if any(place):
            # As OpenSSL does by itself: what cannot be read of one place leaves the other to be used.
            with contextlib.suppress(crypto.Error):
                store.load_locations(*place)
    return store
