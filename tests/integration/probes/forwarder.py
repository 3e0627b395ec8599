"""A wire in user space between two devices of a namespace: what a test wants of each packet happens to it."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from integration.probes.peers import Namespace
from support.forwarder import open_device

_IPV4 = b"\x08\x00"

#: Called with the number of an echo reply, from 0, and its frame; returns the frames to pass on now.
Script = Callable[[int, bytes], list[bytes]]


@dataclass
class Forwarder:
    """Passes frames on between two devices; echo replies go through a script."""

    devices: tuple[socket.socket, socket.socket]
    script: Script = field(default=lambda _number, frame: [frame])
    replies: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> None:
        """Pass frames on until told to stop; runs in a thread."""
        other = {self.devices[0]: self.devices[1], self.devices[1]: self.devices[0]}
        while not self.stopping.is_set():
            for device in select.select(self.devices, [], [], 0.05)[0]:
                frame = device.recv(65_535)
                passed = [frame]
                if frame[12:14] == _IPV4 and frame[23] == socket.IPPROTO_ICMP and frame[34] == 0:
                    passed = self.script(self.replies, frame)
                    self.replies += 1
                for each in passed:
                    other[device].send(each)


@contextmanager
def forwarding(namespace: Namespace, *names: str) -> Iterator[Forwarder]:
    """Pass frames on between two devices of a namespace."""
    with namespace.entered():
        devices = [open_device(name) for name in names]
    try:
        forwarder = Forwarder(devices=(devices[0], devices[1]))
        thread = threading.Thread(target=forwarder.serve)
        thread.start()
        try:
            yield forwarder
        finally:
            forwarder.stopping.set()
            thread.join()
    finally:
        for device in devices:
            device.close()
