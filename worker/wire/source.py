"""Where the packets of a run leave from: what a test's `source` means on this host, and how sockets keep to it.

An address is bound to: the routes decide as always, and answers come back to that address. An interface ties sockets
to itself (SO_BINDTODEVICE), whatever the routes to other interfaces say. Engines whose sockets are shared by runs put
the same into each packet's control data (IP_PKTINFO, and RFC 3542 for IPv6) and ask `check` first.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass

from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from worker.failures import error_text, internal_failure, vantage_failure
from worker.probing import IPAddress, ProbeFailure
from worker.wire.addresses import family_of, socket_address, unmapped

#: Longest name that the kernel gives an interface (IFNAMSIZ less its NUL).
_LONGEST_NAME = 15
_IP_PKTINFO, _IPV6_PKTINFO = 8, 50
#: Leaves the choice of a port to connect(), so that a bound address does not use ports up.
IP_BIND_ADDRESS_NO_PORT = 24
_BIND_TO_DEVICE = getattr(socket, "SO_BINDTODEVICE", None)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where packets leave from; neither address nor interface leaves it to the routes."""

    #: An address of this host.
    address: IPAddress | None = None
    #: Name of an interface of this host.
    interface: str = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Return what a test's `source` names; raises ProbeFailure when it can be neither address nor interface."""
        if not text:
            return BY_ROUTES
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            pass
        else:
            if "%" in text and not address.is_link_local:
                raise internal_failure(
                    f"`{shown(text)}` has a zone, which only link-local addresses have; leave out what follows `%` in the "
                    "test's `source`, or name the interface alone",
                    reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
                )
            return cls(address=unmapped(address))
        if len(text.encode()) > _LONGEST_NAME or "/" in text or ":" in text or text in (".", ".."):
            raise internal_failure(
                f"`{shown(text)}` is neither an address nor the name of an interface; correct the test's `source`",
                reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
            )
        return cls(interface=text)

    def __str__(self) -> str:
        return self.interface if self.address is None else str(self.address)

    def family(self, host: str, wanted: str) -> str:
        """Return the address family to resolve a host in: the wanted one, or the only one that can leave from here."""
        if wanted not in ("", "any") or self is BY_ROUTES or is_address(host):
            return wanted
        versions = _versions_of(self.interface) if self.address is None else {self.address.version}
        return f"ipv{versions.pop()}" if len(versions) == 1 else wanted

    def bind(self, sock: socket.socket, port: int | None = None) -> None:
        """Have everything that a socket sends leave from here; raises ProbeFailure when this host cannot do that.

        `port` is the local port, or the identifier of an ICMP datagram socket, 0 for one of the kernel's choice. Raises
        OSError with EADDRINUSE when another socket has it.
        """
        if self.interface:
            self._tie(sock)
        if self.address is None:
            if port is not None:
                sock.bind(("0.0.0.0" if sock.family == socket.AF_INET else "::", port))  # noqa: S104  no listener
            return
        self._check_family(sock.family)
        try:
            if sock.type == socket.SOCK_STREAM and _BIND_TO_DEVICE is not None:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(socket_address(self.address, port or 0))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            raise self._failure(error) from error

    def check(self, version: int) -> None:
        """Raise what binding a socket of that IP version would raise."""
        if self is BY_ROUTES:
            return
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            self.bind(sock)

    def control(self, version: int) -> tuple[int, int, bytes] | None:
        """Return level, type and data of the control message that makes one packet of an IP version leave from here.

        None when the routes choose; raises ProbeFailure as `bind` does.
        """
        if self is BY_ROUTES:
            return None
        index = 0
        try:
            if self.interface:
                index = socket.if_nametoindex(self.interface)
            elif isinstance(self.address, ipaddress.IPv6Address) and self.address.scope_id:
                index = int(socket_address(self.address, 0)[-1])
        except OSError as error:
            raise self._failure(error) from error
        if self.address is not None:
            self._check_family(socket.AF_INET if version == 4 else socket.AF_INET6)
        packed = b"" if self.address is None else self.address.packed
        if version == 4:
            return socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4x", index, packed)
        return socket.IPPROTO_IPV6, _IPV6_PKTINFO, struct.pack("=16sI", packed, index)

    def _tie(self, sock: socket.socket) -> None:
        if _BIND_TO_DEVICE is None:
            raise vantage_failure(
                f"this system ties no socket to an interface such as `{self.interface}`; "
                "name one of its addresses as the test's `source` instead",
                reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
            )
        try:
            sock.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, self.interface.encode() + b"\0")
        except OSError as error:
            raise self._failure(error) from error

    def _check_family(self, family: int) -> None:
        if self.address is not None and family_of(self.address) != family:
            raise internal_failure(
                f"packets to an IPv{10 - self.address.version} destination cannot leave from {self.address}; "
                "name a `source` of the destination's family, or an `address_family` that fits the `source`",
                reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
            )

    def _failure(self, error: OSError) -> ProbeFailure:
        mend = "name one that it has as the test's `source`, or leave it empty"
        if error.errno == errno.EPERM:
            return vantage_failure(
                f"this process may not tie packets to the interface `{self.interface}`: it lacks CAP_NET_RAW",
                reason=probe_pb2.FAILURE_REASON_NO_PERMISSION,
            )
        if self.interface and error.errno in (errno.ENODEV, errno.ENXIO):
            text = f"this host has no interface `{shown(self.interface)}`; {mend}"
        elif error.errno == errno.EADDRNOTAVAIL:
            text = f"this host has no address {self.address}; {mend}"
        elif error.errno == errno.EINVAL and self.address is not None and self.address.is_link_local:
            text = f"{self.address} needs the name of its interface, such as `{self.address}%eth0`, as the test's `source`"
        else:
            text = f"nothing can be sent from {self}, the test's `source`: {error_text(error)}"
        return vantage_failure(text, reason=probe_pb2.FAILURE_REASON_CANNOT_SEND)


#: The routes choose, as for any program.
BY_ROUTES = Source()


def is_address(host: str) -> bool:
    """Say whether a host is given as an address rather than by name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _versions_of(interface: str) -> set[int]:
    """Return the IP versions in which an interface has addresses that packets may leave from to anywhere."""
    import psutil  # only here: it does not even load on systems that it does not know

    versions: set[int] = set()
    for entry in psutil.net_if_addrs().get(interface, ()):
        if entry.family == socket.AF_INET:
            versions.add(4)
        elif entry.family == socket.AF_INET6 and not ipaddress.ip_address(entry.address).is_link_local:
            versions.add(6)
    return versions
