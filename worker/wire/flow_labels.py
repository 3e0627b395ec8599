"""IPv6 flow labels that a test asks for, by which routers may spread load (RFC 6437, RFC 6438).

The label goes with each packet, as a control message (IPV6_FLOWINFO of linux/in6.h), so that runs with different ones
share a socket. The kernel sends any label while no process of the host has reserved one for itself (its flow label
manager); otherwise it refuses what was not reserved.
"""

from __future__ import annotations

import errno
import socket

from streamswarm.v1 import probe_pb2
from worker.failures import internal_failure
from worker.probing import IPAddress
from worker.wire.source import is_address

_IPV6_FLOWINFO = 11


def family(host: str, wanted: str, label: int) -> str:
    """Return the address family to resolve a host in: the wanted one, or the only one that has labels."""
    return "ipv6" if label and wanted in ("", "any") and not is_address(host) else wanted


def check(address: IPAddress, label: int) -> None:
    """Raise ProbeFailure for a label towards an address that cannot have one."""
    if label and address.version == 4:
        raise internal_failure(
            f"packets to {address} have no flow label, which is of IPv6 alone; take `flow_label` out of the test, or aim "
            "at an IPv6 address",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        )


def control(label: int) -> tuple[int, int, bytes]:
    """Return level, type and data of the control message that gives a packet a label."""
    return socket.IPPROTO_IPV6, _IPV6_FLOWINFO, label.to_bytes(4, "big")


def refusal(label: int, number: int | None) -> str:
    """Return what is to be added to the words for an error of sending with a label; empty when the label is no cause."""
    if not label or number != errno.EINVAL:
        return ""
    return (
        f"; the kernel may not give out the flow label {label}, because a process of this host has reserved one for "
        "itself: end that process, or take `flow_label` out of the test"
    )
