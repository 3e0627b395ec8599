"""A host behind a TUN device that answers every echo request of its network after a fixed time.

Started in its namespace: `python responder.py NETWORK MILLISECONDS`. It prints `ready` and serves until it is ended.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answer(packet: bytes) -> bytes | None:
    """Return the reply to an IPv4 echo request, or None for anything else."""
    header = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or packet[9] != 1 or packet[header] != 8:
        return None
    message = bytearray(packet[header:])
    message[0] = 0
    message[2:4] = b"\0\0"
    message[2:4] = struct.pack("!H", checksum(bytes(message)))
    # The sum over the header is the same with the two addresses exchanged.
    return packet[:12] + packet[16:20] + packet[12:16] + packet[20:header] + bytes(message)


def serve(network: str, delay_s: float) -> None:
    """Answer until the process is ended."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF with IFF_TUN | IFF_NO_PI
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH14x", b"late0", 0x1001))
    subprocess.run(["ip", "link", "set", "late0", "up", "txqueuelen", "5000"], check=True)
    subprocess.run(["ip", "route", "add", network, "dev", "late0"], check=True)
    # What burns the processors must not delay what stands for a network.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    due: list[tuple[float, int, bytes]] = []
    number = 0
    os.write(1, b"ready\n")
    while True:
        wait_s = max(0.0, due[0][0] - time.monotonic()) if due else 1.0
        if select.select([device], [], [], wait_s)[0]:
            now_s = time.monotonic()
            for _ in range(64):
                try:
                    packet = os.read(device, 65_535)
                except BlockingIOError:
                    break
                reply = answer(packet)
                if reply is not None:
                    number += 1
                    heapq.heappush(due, (now_s + delay_s, number, reply))
        while due and due[0][0] <= time.monotonic():
            os.write(device, heapq.heappop(due)[2])


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]) / 1000)
