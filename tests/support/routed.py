"""A path of routers in namespaces of its own: near - r1 - … - rN - far, IPv4 and IPv6.

Link `n`, counted from 1 at the near end, has 10.93.n.1 and fd93:n::1 on its near side, 10.93.n.2 and fd93:n::2 on its
far side. Behind the far end lie the networks 198.19.0.0/16 and fd93:ffff::/64, all of whose addresses it answers for.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.commands import call
from lab.network import delete_namespace, entered, within

__all__ = ["Routed", "entered", "routed"]


@dataclass(frozen=True, kw_only=True)
class Routed:
    """The namespaces of a path, by name."""

    near: str
    routers: tuple[str, ...]
    far: str

    def hop(self, number: int, version: int = 4) -> str:
        """Return the address that answers for a hop, counted from 1, up to the far end's own."""
        return f"10.93.{number}.2" if version == 4 else f"fd93:{number}::2"

    def target(self, version: int = 4) -> str:
        """Return the far end's own address."""
        return self.hop(len(self.routers) + 1, version)

    def run(self, name: str, *command: str, timeout: float = 60) -> str:
        """Run a program in one of the namespaces and return what it prints; LabError when it fails."""
        return call(within(name, command), timeout=timeout)

    def firewall(self, name: str, hook: str, rule: str) -> None:
        """Have packets that come by a hook of a namespace meet one more rule, as nft writes it."""
        chain = f"inet t {hook}"
        self.run(name, "nft", "add table inet t")
        self.run(name, "nft", f"add chain {chain} {{ type filter hook {hook} priority 0; }}")
        self.run(name, "nft", f"add rule {chain} {rule}")


@contextmanager
def routed(routers: int, *, limited: tuple[int, ...] = ()) -> Iterator[Routed]:
    """Make a path; `limited` are the hops that keep the kernel's default limits of ICMP messages."""
    tag = f"ssw-{secrets.token_hex(3)}"
    names = [f"{tag}-near", *(f"{tag}-r{number}" for number in range(1, routers + 1)), f"{tag}-far"]
    made: list[str] = []
    try:
        for name in names:
            call(["ip", "netns", "add", name])
            made.append(name)
            call(["ip", "-n", name, "link", "set", "lo", "up"])
            # Looking for twins of a new IPv6 address takes a second or two.
            call(within(name, ["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"]))
        for number in range(1, len(names)):
            _link(names[number - 1], names[number], number)
        for number, name in enumerate(names):
            _configure(name, number, last=len(names) - 1, limited=number in limited)
        path = Routed(near=names[0], routers=tuple(names[1:-1]), far=names[-1])
        # The first packets after a link comes up wait for its neighbours to be found.
        for version in (4, 6):
            path.run(path.near, "fping", "-r", "40", "-t", "50", "-B", "1", "-q", path.target(version))
        yield path
    finally:
        for name in made:
            delete_namespace(name)


def _link(near: str, far: str, number: int) -> None:
    left, right = f"sw{number}a", f"sw{number}b"
    call(["ip", "-n", near, "link", "add", left, "type", "veth", "peer", "name", right, "netns", far])
    for name, device, side in ((near, left, 1), (far, right, 2)):
        call(["ip", "-n", name, "address", "add", f"10.93.{number}.{side}/24", "dev", device])
        call(["ip", "-n", name, "address", "add", f"fd93:{number}::{side}/64", "dev", device, "nodad"])
        call(["ip", "-n", name, "link", "set", device, "up"])


def _configure(name: str, number: int, *, last: int, limited: bool) -> None:
    """Set routes and limits of the namespace that stands at a place of the path, the near end being 0."""
    settings = []
    if 0 < number < last:
        settings += ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
    if not limited:
        settings += ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]
    if settings:
        call(within(name, ["sysctl", "-qw", *settings]))
    if number < last:
        for default, address in (("0.0.0.0/0", f"10.93.{number + 1}.2"), ("::/0", f"fd93:{number + 1}::2")):
            call(["ip", "-n", name, "route", "add", default, "via", address])
    else:
        for network in ("198.19.0.0/16", "fd93:ffff::/64"):
            call(["ip", "-n", name, "route", "add", "local", network, "dev", "lo"])
    for link in range(1, number):
        for network, address in (
            (f"10.93.{link}.0/24", f"10.93.{number}.1"),
            (f"fd93:{link}::/64", f"fd93:{number}::1"),
        ):
            call(["ip", "-n", name, "route", "add", network, "via", address])
