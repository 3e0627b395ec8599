"""A routed path with two routers, both families: near - first - second - far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from integration.probes.peers import Namespace, allow_datagram_pings, namespaces


@dataclass(frozen=True, kw_only=True)
class Path4:
    """Links 1 to 3 are 10.94.N.0/24 and fd94:N::/64, .1 on the near side and .2 on the far; devices swNa and swNb."""

    near: Namespace
    first: Namespace
    second: Namespace
    far: Namespace


#: The far end's address in each family, and those of both routers.
FAR = {"ipv4": "10.94.3.2", "ipv6": "fd94:3::2"}
FIRST = {"ipv4": "10.94.1.2", "ipv6": "fd94:1::2"}
SECOND = {"ipv4": "10.94.2.2", "ipv6": "fd94:2::2"}


@contextlib.contextmanager
def longer_path(*, sort_of_socket: str = "dgram") -> Iterator[Path4]:
    """Make the path; routers answer every packet that they have to, however many come."""
    with namespaces("near", "first", "second", "far") as row:
        near, first, second, far = row
        for namespace in row:
            namespace.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        for number in (1, 2, 3):
            left, right = row[number - 1], row[number]
            left.run(
                "ip",
                "link",
                "add",
                f"sw{number}a",
                "type",
                "veth",
                "peer",
                f"sw{number}b",
                "netns",
                right.name,
            )
            for side, device, host in ((left, f"sw{number}a", 1), (right, f"sw{number}b", 2)):
                side.run("ip", "address", "add", f"10.94.{number}.{host}/24", "dev", device)
                side.run("ip", "address", "add", f"fd94:{number}::{host}/64", "dev", device, "nodad")
                side.run("ip", "link", "set", device, "up")
        for router in (first, second):
            router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            router.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
            router.run("sysctl", "-qw", "net.ipv4.icmp_msgs_per_sec=100000")
        for prefix, other in (("10.94", "0.0.0.0/0"), ("fd94", "::/0")):
            dot = "." if prefix == "10.94" else ":"
            end = "" if prefix == "10.94" else ":"
            near.run("ip", "route", "add", other, "via", f"{prefix}{dot}1{dot}{end}2")
            far.run("ip", "route", "add", other, "via", f"{prefix}{dot}3{dot}{end}1")
            first.run("ip", "route", "add", other, "via", f"{prefix}{dot}2{dot}{end}2")
            second.run("ip", "route", "add", other, "via", f"{prefix}{dot}2{dot}{end}1")
        allow_datagram_pings(near, sort_of_socket)
        # The first packets after a link comes up wait for its neighbours to be found.
        for address in FAR.values():
            near.run("fping", "-r", "40", "-t", "50", "-B", "1", "-q", address)
        yield Path4(near=near, first=first, second=second, far=far)
