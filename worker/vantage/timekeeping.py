"""This host's clock as a vantage point's: a wrong one makes good certificates look out of their time. Pure."""

from __future__ import annotations

import ssl

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure

#: From this on the clock is held to be what is wrong; certificates are renewed days before they end.
_WRONG_MS = 3_600_000
#: OpenSSL's numbers for a certificate that is not yet valid, and for one that has expired (X509_V_ERR_…).
_OUT_OF_TIME = {9, 10}


def clock_fault(failure: ProbeFailure, offset_ms: float | None) -> str:
    """Return what is wrong with the clock when that may be why a certificate was refused, for people; otherwise "".

    `offset_ms` is how far the clock is ahead of the controller's, None while that is not known.
    """
    if offset_ms is None or abs(offset_ms) < _WRONG_MS:
        return ""
    cause = failure.__cause__
    if failure.reason != probe_pb2.FAILURE_REASON_BAD_CERTIFICATE or not isinstance(
        cause, ssl.SSLCertVerificationError
    ):
        return ""
    if cause.verify_code not in _OUT_OF_TIME:
        return ""
    side = "ahead of" if offset_ms > 0 else "behind"
    return f"its clock is {abs(offset_ms) / 3_600_000:.1f} h {side} the controller's"
