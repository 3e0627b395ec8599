"""Messages that would take long to read are told by their size, before they are read."""

from __future__ import annotations

import struct
import time

import dns.message
import dns.rrset
import pytest

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import dns_limits
from worker.wire.dns_limits import MOST_LABELS, MOST_RECORDS, TooLargeError
from worker.wire.dns_transport import parse

#: The longest name: 127 labels with its end.
LONG = b"\1a" * 126 + b"\0"
SHORT = b"\1a\4test\0"
TO_QUESTION = b"\xc0\x0c"


def message(count: int, record: bytes, *, name: bytes = SHORT) -> bytes:
    """Return an answer with one record over and over."""
    question = name + struct.pack("!HH", 1, 1)
    return struct.pack("!HHHHHH", 7, 0x8180, 1, count, 0, 0) + question + record * count


def record(kind: int, data: bytes, owner: bytes = TO_QUESTION) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def test_a_message_that_stands_for_a_million_labels_is_refused_at_once() -> None:
    """4,600 aliases from and to a name of 126 labels fit into 64 KiB; reading them would take ten seconds."""
    data = message(4_600, record(5, TO_QUESTION), name=LONG)
    assert len(data) < 65_536
    began = time.thread_time()
    with pytest.raises(ProbeFailure) as caught:
        parse(data, "192.0.2.1:53")
    assert time.thread_time() - began < 0.1
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TOO_MUCH
    assert caught.value.message == (
        "192.0.2.1:53 sent an answer that is too large to be read: the names of its records have more than "
        f"{MOST_LABELS:,} labels"
    )


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (2, TO_QUESTION),
        (6, TO_QUESTION * 2 + bytes(20)),
        (15, b"\0\1" + TO_QUESTION),
        (33, bytes(6) + TO_QUESTION),
    ],
    ids=["ns", "soa", "mx", "srv"],
)
def test_names_within_records_count(kind: int, data: bytes) -> None:
    """Their owner is the root, and what they lead to has 126 labels."""
    one = record(kind, data, owner=b"\0")
    dns_limits.check(message(MOST_LABELS // 300, one, name=LONG))
    with pytest.raises(TooLargeError):
        dns_limits.check(message(MOST_LABELS // 120, one, name=LONG))


def test_names_that_go_on_elsewhere_count_as_a_whole() -> None:
    """Each record's name is one label, and the name of the first record or of the one before: 102 labels or 103."""
    data = message(0, b"", name=b"\1a" * 100 + b"\0")
    to, first = 12, 0
    for number in range(70):
        at = len(data)
        data += record(1, bytes(4), owner=b"\1b" + struct.pack("!H", 0xC000 | to))
        data = data[:6] + struct.pack("!H", number + 1) + data[8:]
        first = first or at
        to = at if number % 2 == 0 else first
    with pytest.raises(TooLargeError):
        dns_limits.check(data)
    read = dns.message.from_wire(data, one_rr_per_rrset=True)
    assert sum(len(rrset.name.labels) - 1 for rrset in read.answer) > MOST_LABELS


def test_a_thousand_addresses_are_read() -> None:
    """And no more."""
    whole = parse(message(MOST_RECORDS, record(1, bytes(4))), "192.0.2.1:53")
    assert len(whole.answer) == MOST_RECORDS
    with pytest.raises(ProbeFailure, match="more than 1,000 records"):
        parse(message(MOST_RECORDS + 1, record(1, bytes(4))), "192.0.2.1:53")


def test_options_of_edns_count_as_records_do() -> None:
    """Thousands of extended errors in one message."""
    option = struct.pack("!HHH", 15, 2, 0)
    with pytest.raises(TooLargeError):
        dns_limits.check(message(1, record(41, option * 1_001, owner=b"\0")))
    dns_limits.check(message(1, record(41, option * 900, owner=b"\0")))


def test_what_breaks_off_is_for_the_reader() -> None:
    """At any byte, and with pointers that lead nowhere or to themselves."""
    data = message(2, record(6, TO_QUESTION * 2 + bytes(20)))
    for length in range(len(data)):
        dns_limits.check(data[:length])
    dns_limits.check(message(1, record(5, b"\xc0\x1c")))
    dns_limits.check(message(1, record(5, b"\xff\xff")))


def test_a_common_answer_is_read_as_before() -> None:
    """With names compressed as dnspython itself writes them."""
    response = dns.message.make_response(dns.message.make_query("www.example.test.", "MX"))
    response.answer.append(
        dns.rrset.from_text("www.example.test.", 60, "IN", "MX", "10 mail.example.test.", "20 b.test.")
    )
    # dnspython writes the records of a set in whatever order.
    assert sorted(rrset.to_text() for rrset in parse(response.to_wire(), "192.0.2.1:53").answer) == [
        "www.example.test. 60 IN MX 10 mail.example.test.",
        "www.example.test. 60 IN MX 20 b.test.",
    ]
