"""A host on the way that repeats what it has seen, run as a program: `replayer.py DEVICE PORT RATE`.

It keeps every UDP packet that comes by the device for a port, each once, and sends all that it has kept again and again,
so many a second, under the addresses of those who sent them. It says `listening` first, and ends with its input.
"""

from __future__ import annotations

import select
import socket
import sys
import time

_ETH_P_ALL = 0x0003
_BATCH_S = 0.001


def _port_of(packet: bytes) -> int | None:
    """Return the port that an IPv4 packet of UDP goes to."""
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_UDP:
        return None
    header = (packet[0] & 0x0F) * 4
    return int.from_bytes(packet[header + 2 : header + 4], "big")


def _take(seen: socket.socket, port: int, kept: dict[bytes, bytes]) -> None:
    """Keep what has come for a port, to be sent without a checksum, which the sender may have left to its card."""
    while select.select([seen], [], [], 0)[0]:
        packet, address = seen.recvfrom(65_535)
        if address[2] != socket.PACKET_OUTGOING and _port_of(packet) == port and packet not in kept:
            at = (packet[0] & 0x0F) * 4 + 6
            kept[packet] = packet[:at] + b"\0\0" + packet[at + 2 :]


def main(device: str, port: int, rate: int) -> None:
    """See the module."""
    kept: dict[bytes, bytes] = {}
    sent = 0
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as seen,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out,
    ):
        seen.bind((device, _ETH_P_ALL))
        seen.setblocking(False)
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], 0)[0]:
            started = time.monotonic()
            _take(seen, port, kept)
            packets = list(kept.values())
            for _ in range(int(rate * _BATCH_S) if packets else 0):
                packet = packets[sent % len(packets)]
                out.sendto(packet, (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0))
                sent += 1
            time.sleep(max(0.0, started + _BATCH_S - time.monotonic()))
        _take(seen, port, kept)
    sys.stdout.write(f"{len(kept)} {sent}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
