"""The truth about echo packets on an interface: when the kernel saw each, written by a process of its own.

Started in the namespace whose interface it watches: `python capture.py INTERFACE`. It prints `ready`, and on end of its
input one line for each echo message: `q` or `r`, the other end's address, identifier, sequence number, nanoseconds.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_ETH_ALL = 3
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
#: Of a frame with an IPv4 packet without options: addresses, ICMP type, identifier and sequence number.
_FRAME = struct.Struct("!12xH9xB2x4s4sB3xHH")


@dataclass(kw_only=True)
class Seen:
    """What a capture saw: instants in nanoseconds by other end's address, identifier and sequence number."""

    requests: dict[tuple[str, int, int], int] = field(default_factory=dict)
    replies: dict[tuple[str, int, int], int] = field(default_factory=dict)
    #: All instants of requests and of replies by other end's address: sequence numbers come again after a while.
    left: dict[str, list[int]] = field(default_factory=dict)
    came: dict[str, list[int]] = field(default_factory=dict)


def watch(interface: str) -> None:
    """Note echo packets until the input ends, then print them."""
    from worker.wire import batches

    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 * 1024 * 1024)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.bind((interface, 0))
    sock.setblocking(False)
    table = batches.Table(256, payload=64, control=64)
    at = table.control_at + 16
    row = struct.Struct(f"=42s{at - 42}xqq{table.stride - at - 16}x")
    kept: list[tuple[bytes, int]] = []
    os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([sock, sys.stdin], [], [], 1)
        if sock in ready:
            count = table.receive(sock)
            kept += [(frame, s * 1_000_000_000 + ns) for frame, s, ns in row.iter_unpack(table.filled(count))]
        elif sys.stdin in ready:
            break
    lines = []
    for frame, stamp_ns in kept:
        kind, protocol, source, destination, icmp_type, ident, sequence = _FRAME.unpack(frame)
        if kind != 0x0800 or protocol != socket.IPPROTO_ICMP or icmp_type not in (0, 8):
            continue
        other = socket.inet_ntoa(destination if icmp_type == 8 else source)
        lines.append(f"{'q' if icmp_type == 8 else 'r'} {other} {ident} {sequence} {stamp_ns}\n")
    sys.stdout.write("".join(lines))


@contextmanager
def capturing(namespace: str, interface: str) -> Iterator[Seen]:
    """Capture on an interface of a namespace; what was seen is complete when the block has ended."""
    seen = Seen()
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, __file__, interface],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "proto")])},
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise AssertionError("the capture did not start")
        yield seen
        output, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    for line in output.splitlines():
        sort, address, ident, sequence, stamp_ns = line.split()
        every = seen.left if sort == "q" else seen.came
        every.setdefault(address, []).append(int(stamp_ns))
        found = seen.requests if sort == "q" else seen.replies
        found.setdefault((address, int(ident), int(sequence)), int(stamp_ns))


if __name__ == "__main__":
    watch(sys.argv[1])
