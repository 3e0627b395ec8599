"""Whatever a worker, or somebody who poses as one, sends: it is understood or refused in words."""

from __future__ import annotations

import contextlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.gateway.alike import pack_alike
from controller.gateway.certificates import RequestRefusedError, check_request
from controller.gateway.limits import limit_key
from controller.gateway.packing import UnstorableError, kind_name, pack
from streamswarm import contract
from streamswarm.v1 import gateway_pb2, probe_pb2

_CSR = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(x509.Name([]))
    .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    .public_bytes(serialization.Encoding.DER)
)
_RESULT = probe_pb2.Result(job_id=1, job_version=1, scheduled_at_us=1, started_at_us=1, status=1)
_RESULT.ping.rtt_avg_ms = 1.5
_CHANGES = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6)


def _spoil(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    spoilt = bytearray(data)
    for position, value in changes:
        spoilt[position % len(spoilt)] = value
    return bytes(spoilt)


@settings(deadline=None)
@given(st.binary(max_size=400) | _CHANGES.map(lambda changes: _spoil(_CSR, changes)))
def test_any_certificate_request_is_good_or_refused(data: bytes) -> None:
    """What is refused is refused by one error, in words that people can read."""
    try:
        assert data == _CSR or isinstance(check_request(data), ec.EllipticCurvePublicKey)
    except RequestRefusedError as error:
        assert str(error).isprintable()


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_no_message_or_one_that_is_understood(data: bytes) -> None:
    """The decoder says so by its own error and by no other."""
    for kind in (gateway_pb2.WorkerMessage, gateway_pb2.EnrolRequest, gateway_pb2.GatewayMessage):
        with contextlib.suppress(DecodeError):
            kind.FromString(data).ByteSize()


@settings(deadline=None)
@given(_CHANGES)
def test_a_spoilt_result_is_packed_or_refused(changes: list[tuple[int, int]]) -> None:
    """By itself and among its like."""
    wire = _spoil(_RESULT.SerializeToString(), changes)
    blocks, left = pack_alike([wire] * 40)
    assert sum(len(block.places) for block in blocks) + len(left) == 40
    try:
        result = probe_pb2.Result.FromString(wire)
    except DecodeError:
        return
    if kind_name(result) not in contract.kinds():
        return
    with contextlib.suppress(UnstorableError):
        assert pack(result).job_id == result.job_id


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_name_of_a_peer_has_a_key(peer: str) -> None:
    """Under which its calls are counted."""
    assert isinstance(limit_key(peer), str)
