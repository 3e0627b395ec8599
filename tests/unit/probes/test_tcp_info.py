"""The kernel's struct, read by offset and only as far as it was filled in."""

import struct

from worker.wire import tcp_info


def filled(length: int = 248) -> bytes:
    """Return a struct whose 32-bit field number n holds 1000 + n, as far as `length` goes."""
    data = bytearray(length)
    data[0] = 1
    for number in range((length - 8) // 4):
        struct.pack_into("=I", data, 8 + 4 * number, 1000 + number)
    return bytes(data)


def test_fields_stand_where_the_kernels_header_has_them() -> None:
    """Numbers of the 32-bit fields behind the first eight bytes, counted in linux/tcp.h."""
    info = tcp_info.parse(filled())
    assert info is not None
    assert info.state == 1
    assert info.snd_mss == 1002
    assert info.pmtu == 1013
    assert info.rtt_us == 1015
    assert info.rttvar_us == 1016
    assert info.total_retrans == 1023
    assert info.min_rtt_us == 1035


def test_what_an_older_kernel_did_not_fill_in_is_none() -> None:
    """The struct of Linux 2.6 ends after total_retrans."""
    info = tcp_info.parse(filled(104))
    assert info is not None
    assert info.total_retrans == 1023
    assert info.min_rtt_us is None
    assert tcp_info.parse(filled(103)).total_retrans is None  # type: ignore[union-attr]
    assert tcp_info.parse(b"") is None


def test_the_far_ends_fin_is_no_byte_of_payload() -> None:
    """The kernel counts it as one from the state on in which it has come (tcp_states.h)."""
    data = bytearray(filled())
    struct.pack_into("=Q", data, 128, 501)
    received = {}
    for state in range(1, 12):
        data[0] = state
        info = tcp_info.parse(bytes(data))
        assert info is not None
        received[state] = info.bytes_received
    time_wait, close_wait, last_ack, closing = 6, 8, 9, 11
    assert {state for state, count in received.items() if count == 500} == {
        time_wait, close_wait, last_ack, closing,
    }  # fmt: skip
    assert set(received.values()) == {500, 501}
    assert tcp_info.parse(bytes(data[:135])).bytes_received is None  # type: ignore[union-attr]


def test_times_that_were_not_measured_are_none() -> None:
    """Zero, and all ones for the minimum, mean that there was no sample."""
    data = bytearray(filled())
    struct.pack_into("=I", data, 68, 0)
    struct.pack_into("=I", data, 148, 0xFFFFFFFF)
    info = tcp_info.parse(bytes(data))
    assert info is not None
    assert info.rtt_us is None
    assert info.rttvar_us is None
    assert info.min_rtt_us is None


def test_wide_numbers_and_those_behind_them() -> None:
    """Offsets in bytes, counted in linux/tcp.h of Linux 6.2."""
    data = bytearray(filled())
    wide = {
        104: "pacing_rate",
        120: "bytes_acked",
        128: "bytes_received",
        160: "delivery_rate",
        168: "busy_time_us",
    }
    wide |= {176: "rwnd_limited_us", 184: "sndbuf_limited_us", 200: "bytes_sent", 208: "bytes_retrans"}
    for offset in wide:
        struct.pack_into("=Q", data, offset, 1_000_000_000_000 + offset)
    info = tcp_info.parse(bytes(data))
    assert info is not None
    for offset, name in wide.items():
        assert getattr(info, name) == 1_000_000_000_000 + offset, name
    narrow = {
        "notsent_bytes": 144,
        "data_segs_in": 152,
        "data_segs_out": 156,
        "delivered_ce": 196,
        "dsack_dups": 216,
    }
    narrow |= {
        "reord_seen": 220,
        "rcv_ooopack": 224,
        "snd_wnd": 228,
        "rcv_wnd": 232,
        "snd_cwnd": 80,
        "unacked": 24,
    }
    for name, offset in narrow.items():
        assert getattr(info, name) == 1000 + (offset - 8) // 4, name
