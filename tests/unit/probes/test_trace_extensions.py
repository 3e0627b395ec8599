"""MPLS labels and interfaces are read as RFC 4884, 4950 and 5837 write them, and what breaks the rules is left out."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from worker.wire.icmp_messages import internet_sum
from worker.wire.trace import extensions

#: Two labels: 16,001 with S=0, then 24 with the bottom of the stack; TTL 1 in both.
MPLS = bytes.fromhex("000c 0101 03e81001 00018101")


def structure(*objects: bytes) -> bytes:
    """Return an extension structure, version 2, with its checksum."""
    plain = b"\x20\x00\x00\x00" + b"".join(objects)
    return plain[:2] + struct.pack("!H", 0xFFFF - internet_sum(plain)) + plain[4:]


def time_exceeded(quoted: int, extension: bytes, *, length: bool = True) -> bytes:
    """Return an ICMP message that quotes so many bytes and says so."""
    return bytes([11, 0, 0, 0, 0, quoted // 4 if length else 0, 0, 0]) + b"\x45" * quoted + extension


def test_label_stacks_are_read() -> None:
    """RFC 4950, section 3: label, traffic class, bottom of stack, TTL."""
    found = extensions.structure(time_exceeded(128, structure(MPLS)), 4)
    assert found is not None
    assert extensions.parse(found) == {
        "version": 2,
        "obj": [
            {
                "class": 1,
                "type": 1,
                "mpls": [
                    {"label": 16_001, "exp": 0, "s": 0, "ttl": 1},
                    {"label": 24, "exp": 0, "s": 1, "ttl": 1},
                ],
            }
        ],
    }


def test_interfaces_are_read() -> None:
    """RFC 5837, section 4: index, address, name and MTU, in this order."""
    content = (
        struct.pack("!I", 3)
        + struct.pack("!HH4s", 1, 0, bytes([192, 0, 2, 9]))
        + b"\x08eth0\0\0\0"
        + struct.pack("!I", 1500)
    )
    described = struct.pack("!HBB", 4 + len(content), 2, 0x0F) + content
    found = extensions.structure(time_exceeded(128, structure(described)), 4)
    assert found is not None
    parsed = extensions.parse(found)
    assert parsed is not None
    assert parsed["obj"][0]["interface"] == {
        "role": "incoming", "index": 3, "address": "192.0.2.9", "name": "eth0", "mtu": 1500,
    }  # fmt: skip


def test_an_outgoing_interface_with_an_ipv6_address_is_read() -> None:
    """The role lies in the two highest bits of the type."""
    content = struct.pack("!HH", 2, 0) + bytes.fromhex("20010db8000000000000000000000001")
    described = struct.pack("!HBB", 4 + len(content), 2, 2 << 6 | 4) + content
    parsed = extensions.parse(structure(described))
    assert parsed is not None
    assert parsed["obj"][0]["interface"] == {"role": "outgoing", "address": "2001:db8::1"}


def test_icmpv6_counts_the_quoted_packet_in_words_of_eight_bytes() -> None:
    """RFC 4884, section 4.2: the length is the fifth byte."""
    message = bytes([3, 0, 0, 0, 17, 0, 0, 0]) + b"\x60" * 136 + structure(MPLS)
    assert extensions.structure(message, 6) == structure(MPLS)


def test_routers_from_before_the_length_are_understood() -> None:
    """RFC 4884, section 5.5: the structure follows 128 bytes, and only its checksum tells."""
    assert extensions.structure(time_exceeded(128, structure(MPLS), length=False), 4) == structure(MPLS)
    wrong = bytearray(structure(MPLS))
    wrong[-1] ^= 1
    assert extensions.structure(time_exceeded(128, bytes(wrong), length=False), 4) is None
    unsummed = structure(MPLS)[:2] + b"\0\0" + MPLS
    assert extensions.structure(time_exceeded(128, unsummed, length=False), 4) is None, "may be payload"


def test_a_wrong_checksum_is_no_structure() -> None:
    """RFC 4884, section 7."""
    wrong = bytearray(structure(MPLS))
    wrong[5] ^= 0xFF
    assert extensions.structure(time_exceeded(128, bytes(wrong)), 4) is None


def test_plain_errors_have_no_structure() -> None:
    """Eight quoted bytes behind the header, as RFC 792 asks for."""
    assert extensions.structure(bytes([11, 0, 0, 0, 0, 0, 0, 0]) + b"\x45" * 28, 4) is None


def test_unknown_objects_are_passed_over() -> None:
    """What follows them is still read; an object that is longer than the structure ends the reading."""
    unknown = bytes.fromhex("0008 fe01 00000000")
    parsed = extensions.parse(structure(unknown, MPLS))
    assert parsed is not None
    assert [each["class"] for each in parsed["obj"]] == [1]
    assert extensions.parse(structure(bytes.fromhex("00ff 0101"))) is None


@given(st.binary(max_size=80), st.integers(0, 40))
def test_anything_is_read_or_left_out(data: bytes, quoted: int) -> None:
    """Whatever comes from the network; printable names only."""
    message = bytes([11, 0, 0, 0, quoted % 256, quoted, 0, 0]) + bytes(quoted * 4) + data
    for version in (4, 6):
        extensions.structure(message, version)
    parsed = extensions.parse(b"\x20\0\0\0" + data)
    for each in (parsed or {"obj": []})["obj"]:
        assert each.get("interface", {}).get("name", "").isprintable()
