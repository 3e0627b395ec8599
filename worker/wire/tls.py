"""TLS for clients: contexts, and what a certificate says about its time."""

from __future__ import annotations

import functools
import ssl
from datetime import datetime, timezone

from cryptography import x509


@functools.cache
def client_context(*, verify: bool) -> ssl.SSLContext:
    """Return the context for probes; loading the host's authorities takes 20 ms, so it is made once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def days_left(certificate_der: bytes, now: datetime | None = None) -> float | None:
    """Return the days until a certificate expires, negative after; None when it cannot be read."""
    try:
        expires = x509.load_der_x509_certificate(certificate_der).not_valid_after_utc
    except ValueError:
        return None
    return (expires - (now or datetime.now(timezone.utc))).total_seconds() / 86_400
