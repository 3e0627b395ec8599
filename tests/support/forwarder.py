"""Joins two Ethernet devices in this network namespace as a wire that delays, varies and loses what goes through it.

    python forwarder.py DEVICE DEVICE DELAY_MS JITTER_MS LOSE_EVERY

Each direction delays by DELAY_MS ± JITTER_MS (drawn at random, so that packets overtake each other) and loses every
LOSE_EVERY-th packet (0 loses none). Neighbour discovery passes untouched. It prints a line once it forwards, and when its
input ends, how many milliseconds it was late at worst. Offloads must be off: a frame leaves as it came.
"""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import sys
import time

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_RCVBUFFORCE = 33
_ARP, _IPV6 = b"\x08\x06", b"\x86\xdd"


def open_device(name: str) -> socket.socket:
    """Return a socket that gets each frame of a device, but not those that it sends itself."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
    sock.bind((name, _ETH_P_ALL))
    sock.setblocking(False)
    return sock


def is_discovery(frame: bytes) -> bool:
    """Whether a frame is ARP or IPv6 neighbour discovery."""
    kind = frame[12:14]
    return kind == _ARP or (kind == _IPV6 and len(frame) > 54 and frame[20] == 58 and 133 <= frame[54] <= 137)


def main() -> None:
    """Forward until the input ends."""
    first, second = (open_device(name) for name in sys.argv[1:3])
    delay_s, jitter_s = (float(text) / 1000 for text in sys.argv[3:5])
    lose_every = int(sys.argv[5])
    other = {first: second, second: first}
    seen = {first: 0, second: 0}
    queue: list[tuple[float, int, socket.socket, bytes]] = []
    order = itertools.count()
    late_s = 0.0
    draw = random.Random(1).uniform  # the same each time
    selector = selectors.DefaultSelector()
    for sock in other:
        selector.register(sock, selectors.EVENT_READ, sock)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("forwarding", flush=True)  # noqa: T201  the parent waits for it
    while True:
        wait_s = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for key, _events in selector.select(wait_s):
            source = key.data
            if source is None:
                print(1000 * late_s, flush=True)  # noqa: T201  the parent may want to know
                return
            for _ in range(64):
                try:
                    frame = source.recv(65_535)
                except BlockingIOError:
                    break
                due = time.monotonic()
                if not is_discovery(frame):
                    seen[source] += 1
                    if lose_every and seen[source] % lose_every == 0:
                        continue
                    due += delay_s + draw(-jitter_s, jitter_s)
                heapq.heappush(queue, (due, next(order), other[source], frame))
        while queue and queue[0][0] <= time.monotonic():
            due, _order, target, frame = heapq.heappop(queue)
            target.send(frame)
            late_s = max(late_s, time.monotonic() - due)


if __name__ == "__main__":
    main()
