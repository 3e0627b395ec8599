"""Echo messages: built right, summed right, and their bytes counted as they are on the wire."""

import struct
import sys

import pytest

from worker.wire import icmp_messages


def test_a_request_has_its_type_and_begins_with_the_cookie() -> None:
    """All that is filled in later is zero; the size is that of the payload."""
    message = icmp_messages.request(4, b"cookie!!", 20)
    assert message == bytes([8, 0]) + bytes(6) + b"cookie!!" + bytes(4) + bytes(range(8))
    assert icmp_messages.request(6, b"cookie!!", 16)[0] == 128


def test_the_sum_matches_the_worked_example() -> None:
    """RFC 1071, section 3: these bytes add up to ddf2, in whatever order a host reads them."""
    total = icmp_messages.internet_sum(bytes.fromhex("0001f203f4f5f6f7"), "=")
    assert struct.pack("=H", total).hex() == "ddf2"


def test_an_odd_byte_is_summed_as_if_a_zero_followed() -> None:
    """RFC 1071."""
    assert icmp_messages.internet_sum(b"\x01", "=") == int.from_bytes(b"\x01\0", sys.byteorder)


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
