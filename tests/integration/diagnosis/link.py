"""A wire between two namespaces that delays and loses packets as it is told: IP packets between two TUN devices.

    link.py FD FD      settings as JSON lines on stdin: {"delay_ms": 25.0, "lose_every": 10}

`delay_ms` is added in each direction. Of the packets from the first end to the second, every n-th is lost, exactly,
so that a test knows what it measures. Runs as a process: a busy test must not slow the wire.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import sys
import time


def serve(near: int, far: int) -> None:
    """Carry packets until stdin ends."""
    other = {near: far, far: near}
    delay, lose_every, counted, order = 0.0, 0, 0, 0
    waiting: list[tuple[float, int, int, bytes]] = []
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            os.write(to, packet)
        pause = waiting[0][0] - now if waiting else 1.0
        ready, _, _ = select.select([near, far, 0], [], [], max(0.0, pause))
        arrived = time.monotonic()
        for descriptor in ready:
            if descriptor == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                settings = json.loads(line)
                delay, lose_every = settings["delay_ms"] / 1000, settings["lose_every"]
                counted = 0
                sys.stdout.write("set\n")
                sys.stdout.flush()
                continue
            packet = os.read(descriptor, 65_535)
            if packet[0] >> 4 != 4:
                continue  # neighbours of IPv6 that the kernel looks for by itself
            if descriptor == near and lose_every:
                counted += 1
                if counted % lose_every == 0:
                    continue
            order += 1
            heapq.heappush(waiting, (arrived + delay, order, other[descriptor], packet))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
