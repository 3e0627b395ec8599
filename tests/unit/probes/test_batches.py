"""Many packets with one call: what is sent is what comes, also from the error queue; rows keep to their places."""

import socket
import struct
import time

import pytest

from worker.wire import batches, stamps

pytestmark = pytest.mark.skipif(not batches.SUPPORTED, reason="this system has no sendmmsg and recvmmsg")

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def receiver(family: int) -> socket.socket:
    """Return a bound UDP socket of loopback."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((LOOPBACK[family], 0))
    sock.setblocking(False)
    return sock


def filled(family: int, port: int, count: int) -> batches.Table:
    """Return a table with messages `000` and so on to a port of loopback."""
    table = batches.Table(count, payload=64)
    host = LOOPBACK[family]
    address = batches.packed_address((host, port) if family == socket.AF_INET else (host, port, 0, 0))
    for slot in range(count):
        start = slot * table.stride
        text = f"{slot:03}".encode()
        table.rows[start : start + len(text)] = text
        table.rows[start + table.address_at : start + table.address_at + len(address)] = address
        table.describe(slot, payload=len(text), address=len(address))
    return table


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_messages_come_as_they_were_sent_with_their_senders(family: int) -> None:
    """Forty with one call each way; then nothing more, and the table serves again."""
    with receiver(family) as sink, socket.socket(family, socket.SOCK_DGRAM) as source:
        source.bind((LOOPBACK[family], 0))
        table = filled(family, sink.getsockname()[1], 40)
        arrivals = batches.Table(64, payload=128, control=64)
        for _round in range(2):
            assert table.send(source, 0, 40) == 40
            assert arrivals.receive(sink) == 40
            assert [arrivals.payload(slot) for slot in range(40)] == [f"{n:03}".encode() for n in range(40)]
            assert arrivals.lengths(40) == [3] * 40
            assert arrivals.address(39) == batches.packed_address(source.getsockname())
            with pytest.raises(BlockingIOError):
                arrivals.receive(sink)


def test_a_part_of_a_table_is_sent_alone() -> None:
    """Slots 2 and 3 of five."""
    with receiver(socket.AF_INET) as sink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        table = filled(socket.AF_INET, sink.getsockname()[1], 5)
        assert table.send(source, 2, 2) == 2
        arrivals = batches.Table(8, payload=8)
        assert arrivals.receive(sink) == 2
        assert (arrivals.payload(0), arrivals.payload(1)) == (b"002", b"003")


def test_fields_of_many_rows_are_read_and_written_at_once() -> None:
    """A strided view of the rows' second halves, and a struct as long as a row."""
    table = batches.Table(4, payload=8)
    table.column("I", 4)[:] = memoryview(struct.pack("=4I", 7, 8, 9, 10)).cast("I")
    row = struct.Struct(f"=4xI{table.stride - 8}x")
    assert row.size == table.stride
    assert [value for (value,) in row.iter_unpack(table.filled(3))] == [7, 8, 9]
    assert table.column("I", 4).tolist() == [7, 8, 9, 10]


def test_stamps_come_in_the_control_data_and_through_the_error_queue() -> None:
    """Receive stamps beside the messages; transmit stamps numbered in order; both as `recvmsg` gives them."""
    with receiver(socket.AF_INET) as sink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        assert stamps.enable(sink)
        assert stamps.enable(source)
        time.sleep(0.1)  # the kernel switches receive stamps on from a work queue
        table = filled(socket.AF_INET, sink.getsockname()[1], 3)
        before = stamps.now().wall_ns
        table.send(source, 0, 3)
        queue = batches.Table(8, payload=64, control=256)
        assert queue.receive(source, batches.MSG_ERRQUEUE) == 3
        entries = [stamps.parse_queued(queue.payload(slot), queue.control(slot)) for slot in range(3)]
        assert [getattr(entry, "key", None) for entry in entries] == [0, 1, 2]
        assert all(getattr(entry, "wall_ns", 0) >= before for entry in entries)
        arrivals = batches.Table(8, payload=64, control=256)
        assert arrivals.receive(sink) == 3
        assert set(arrivals.control_lengths(3)) == {len(batches.control_message(1, 37, bytes(48)))}


def test_errors_of_the_system_are_raised_with_their_number() -> None:
    """A refused connection, told by ICMP: the socket's pending error, as a plain socket has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        with receiver(socket.AF_INET) as closed:
            port = closed.getsockname()[1]
        source.setblocking(False)
        source.connect(("127.0.0.1", port))
        source.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            batches.Table(2, payload=8).receive(source)


def test_what_does_not_fit_is_cut_and_said_to_be() -> None:
    """The flags tell; the payload is as long as its room."""
    with receiver(socket.AF_INET) as sink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.sendto(b"a long message", sink.getsockname())
        table = batches.Table(2, payload=4)
        assert table.receive(sink) == 1
        assert table.flags(0) & batches.MSG_TRUNC
        assert table.payload(0) == b"a lo"


def test_control_messages_are_built_and_read_by_one_rule() -> None:
    """Padding between two, and one that is cut short is left out."""
    both = batches.control_message(0, 2, b"\1\0\0\0") + batches.control_message(41, 52, b"123456789")
    assert len(both) == 24 + 32
    assert list(batches.control_messages(both)) == [(0, 2, b"\1\0\0\0"), (41, 52, b"123456789")]
    assert list(batches.control_messages(both[:40])) == [(0, 2, b"\1\0\0\0")]
    assert list(batches.control_messages(b"\0" * 16)) == []


def test_addresses_are_packed_as_the_kernel_has_them() -> None:
    """The families of Linux: 2 and 10; the port and the address in network order, the scope in the host's."""
    assert batches.packed_address(("192.0.2.1", 53)) == struct.pack("=H", 2) + bytes.fromhex(
        "0035 c0000201 0000000000000000"
    )
    packed = batches.packed_address(("fe80::1", 0, 0, 7))
    assert packed[:2] == struct.pack("=H", 10)
    assert packed[8:24] == socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert packed[24:] == struct.pack("=I", 7)
    assert len(packed) == batches.ADDRESS_BYTES
