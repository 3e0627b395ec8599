"""A destination at the end of a long wire, plugged into a laboratory: its delay can change for everybody at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import network
from lab.commands import call, environment
from lab.laboratory import Lab

_FORWARDER = Path(__file__).with_name("forwarder.py")


class FarEnd:
    """The destination and the wire that leads to it."""

    def __init__(self, lab: Lab) -> None:
        self.address = f"{network.IPV4_PREFIX}.200"
        self._wire = f"{lab.run}-wire"
        self._far = f"{lab.run}-far"
        self._forwarder: subprocess.Popen[bytes] | None = None
        for name in (self._wire, self._far):
            call(["ip", "netns", "add", name])
        _join(lab.namespace, "far", self._wire, "near")
        _join(self._wire, "end", self._far, "eth0")
        call(["ip", "-n", lab.namespace, "link", "set", "far", "master", network.BRIDGE])
        call(["ip", "-n", self._far, "addr", "add", f"{self.address}/24", "dev", "eth0"])

    def delay(self, milliseconds: float) -> None:
        """Make the wire so long, each way."""
        self.close()
        self._forwarder = subprocess.Popen(
            network.within(
                self._wire, [sys.executable, _FORWARDER, "near", "end", str(milliseconds), "0.1", "0"]
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert self._forwarder.stdout is not None
        assert self._forwarder.stdout.readline() == b"forwarding\n"

    def close(self) -> None:
        """End what forwards; the namespaces go with the laboratory."""
        if self._forwarder is not None:
            self._forwarder.communicate()


def _join(left: str, left_device: str, right: str, right_device: str) -> None:
    call(
        [
            "ip",
            "-n",
            left,
            "link",
            "add",
            left_device,
            "type",
            "veth",
            "peer",
            "name",
            right_device,
            "netns",
            right,
        ]
    )
    for name, device in ((left, left_device), (right, right_device)):
        call(
            network.within(
                name, ["ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off"]
            )
        )
        call(["ip", "-n", name, "link", "set", device, "up"])


@contextmanager
def far_end(lab: Lab, *, milliseconds: float) -> Iterator[FarEnd]:
    """Plug one in for the duration of a `with` block."""
    end = FarEnd(lab)
    try:
        end.delay(milliseconds)
        yield end
    finally:
        end.close()
