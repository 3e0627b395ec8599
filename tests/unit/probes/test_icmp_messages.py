"""Echo messages: built right, and nobody else's recognised as ours."""

import struct

import pytest

from worker.wire import icmp_messages
from worker.wire.icmp_messages import Stream


@pytest.fixture
def stream() -> Stream:
    return Stream(version=4, ident=0x1234, first_sequence=0xFFFE, cookie=b"cookie!!", size=20, count=4)


def reply_to(request: bytes, version: int = 4) -> bytes:
    """Return what a correct host answers, but for the checksum."""
    return bytes([0 if version == 4 else 129]) + request[1:]


def test_a_request_has_type_identifier_sequence_and_a_valid_checksum(stream: Stream) -> None:
    """The checksum over a message that carries its own is zero."""
    request = stream.request(1)
    assert len(request) == 8 + 20
    assert struct.unpack("!BBxxHH", request[:8]) == (8, 0, 0x1234, 0xFFFF)
    assert icmp_messages.checksum(request) == 0


def test_the_checksum_matches_the_worked_example() -> None:
    """RFC 1071, section 3: these bytes add up to ddf2."""
    assert icmp_messages.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_ipv6_requests_have_their_own_type() -> None:
    """128, and a checksum of zero, which the kernel fills in."""
    stream = Stream(version=6, ident=1, first_sequence=0, cookie=b"12345678", size=16, count=1)
    assert stream.request(0)[:4] == bytes([128, 0, 0, 0])
    assert stream.index_of_reply(reply_to(stream.request(0), 6)) == 0


def test_replies_are_attributed_also_where_the_sequence_wraps(stream: Stream) -> None:
    """Sequence numbers begin anywhere and wrap at 65,536."""
    for index in range(4):
        assert stream.index_of_reply(reply_to(stream.request(index))) == index


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, 8), (1, 1), (4, 0x99), (7, 0x77), (8, ord("x")), (19, 3)],
    ids=["type", "code", "identifier", "sequence", "cookie", "index"],
)
def test_foreign_replies_are_not_ours(stream: Stream, position: int, value: int) -> None:
    """One byte off in any field that identifies a reply is enough."""
    reply = bytearray(reply_to(stream.request(0)))
    assert reply[position] != value
    reply[position] = value
    assert stream.index_of_reply(bytes(reply)) is None


def test_cut_replies_are_not_ours(stream: Stream) -> None:
    """All that was sent must have come back."""
    reply = reply_to(stream.request(0))
    assert stream.index_of_reply(reply[:-1]) is None
    assert stream.index_of_reply(b"") is None


def test_errors_are_attributed_from_eight_quoted_bytes(stream: Stream) -> None:
    """Routers need not quote more than the header."""
    assert stream.index_of_quoted(stream.request(3)[:8]) == 3
    assert stream.index_of_quoted(stream.request(3)) == 3
    assert stream.index_of_quoted(stream.request(3)[:7]) is None


def test_errors_for_others_are_not_ours(stream: Stream) -> None:
    """Another identifier, another cookie, or a sequence number that was never used."""
    quoted = bytearray(stream.request(0))
    quoted[9] ^= 1
    assert stream.index_of_quoted(bytes(quoted)) is None
    assert stream.index_of_quoted(struct.pack("!BBHHH", 8, 0, 0, 0x1235, 0xFFFE)) is None
    assert stream.index_of_quoted(struct.pack("!BBHHH", 8, 0, 0, 0x1234, 0x0002)) is None


@pytest.mark.parametrize(
    ("version", "icmp_bytes", "mtu", "expected"),
    [
        (4, 64, 1500, 84),
        (6, 64, 1500, 104),
        (4, 64, None, 84),
        (4, 1480, 1500, 1500),
        (4, 1481, 1500, 1481 + 2 * 20),
        (6, 3000, 1500, 3000 + 3 * 48),
    ],
)
def test_bytes_on_the_wire_count_every_fragments_header(
    version: int, icmp_bytes: int, mtu: int | None, expected: int
) -> None:
    """Fragments carry multiples of eight bytes each behind a header of their own."""
    assert icmp_messages.ip_bytes(version, icmp_bytes, mtu) == expected


def test_ip_headers_are_taken_off_by_their_own_length() -> None:
    """Options make a header longer than 20 bytes; what is too short is refused."""
    message = b"\0" * 8
    assert icmp_messages.without_ip_header(bytes([0x46]) + b"\0" * 23 + message) == message
    assert icmp_messages.without_ip_header(bytes([0x4F]) + b"\0" * 27) is None
    assert icmp_messages.without_ip_header(b"\x45") is None
    assert icmp_messages.without_ip_header(bytes([0x41]) + b"\0" * 30) is None
