"""The host's own policy: what this worker may test, whatever any controller says.

Addresses are checked when they are about to be used, after resolution and redirects. A policy that cannot be read
forbids everything. Denials come first; among what is left, `allow` chooses when it is not empty.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from streamswarm import contract
from streamswarm.targets import IPNetwork, TargetError, parse_host, shown
from streamswarm.v1 import probe_pb2
from worker.networks import LOCAL_NAT64, Network, reachable_as
from worker.probing import IPAddress, ProbeFailure, Resolved, Resolver

# Nothing there is ever a destination: "this host", multicast, broadcast.
_NEVER = tuple(map(Network.parse, ("0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")))
# Denied unless a narrower `allow` entry names an address or network inside.
_METADATA = tuple(
    Network.parse(address)
    for address in (
        "169.254.169.254",
        "169.254.170.2",  # credentials of tasks, Amazon ECS
        "169.254.170.23",  # credentials of pods, Amazon EKS
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::/32",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd20:ce::254",
    )
)
_LINK_LOCAL = (Network.parse("169.254.0.0/16"), Network.parse("fe80::/10"))
_LOOPBACK = (Network.parse("127.0.0.0/8"), Network.parse("::1/128"))

_KEYS = (
    "allow", "deny", "allow_loopback", "allow_link_local", "ports", "kinds", "packets_per_second", "bytes_per_day",
    "responder",
)  # fmt: skip


class PolicyError(ValueError):
    """A policy file that cannot be understood; the message names the key."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What this host lets its worker do."""

    #: Networks that may be tested; with `names` empty too, all that is not denied.
    allow: tuple[Network, ...] = ()
    #: Host names that may be tested, at whatever addresses they have, denials excepted.
    names: frozenset[str] = frozenset()
    #: Networks that may not be tested, beside the built-in ones.
    deny: tuple[Network, ...] = ()
    allow_loopback: bool = False
    allow_link_local: bool = False
    #: Ranges of ports, both ends included.
    ports: tuple[tuple[int, int], ...] = ((1, 65535),)
    #: Kinds that may be run; empty for all.
    kinds: frozenset[str] = frozenset()
    #: Packets per second that runs may ask for, all together, ten seconds' worth at once; None for no limit. A connection
    #: counts as one packet for each request: acknowledgements are TCP's own.
    packets_per_second: int | None = None
    #: Bytes that runs may send and receive in any 24 hours, as far as this process has seen them; None for no limit.
    bytes_per_day: int | None = None
    #: UDP port on which other workers are told with which marks their packets came; None answers nobody.
    responder: int | None = None
    #: The values as they stand in the file, shown to the controller.
    source: str = "{}"
    #: Why everything is forbidden; empty in a policy that could be read.
    broken: str = ""

    @classmethod
    def load(cls, path: Path, *, required: bool) -> Policy:
        """Read the file. A missing one that is not required gives the defaults, a broken one forbids everything."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            return (
                cls(broken=f"the policy file {path} cannot be read: {error.strerror}") if required else cls()
            )
        except (OSError, UnicodeDecodeError) as error:
            return cls(broken=f"the policy file {path} cannot be read: {error}")
        try:
            return cls.parse(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            return cls(
                broken=f"the policy file {path} is wrong and forbids everything until it is mended: {error}"
            )

    @classmethod
    def parse(cls, values: Any) -> Policy:
        """Return the policy that the values of a file describe; raises PolicyError."""
        if values is None:
            return cls()
        if not isinstance(values, dict):
            raise PolicyError("it must hold `key: value` lines")
        for key in values:
            if key not in _KEYS:
                raise PolicyError(f"unknown key `{shown(str(key))}`; known keys are {', '.join(_KEYS)}")
        allow, names = _allowed(_list(values, "allow"))
        return cls(
            allow=allow,
            names=names,
            deny=tuple(_network(item, "deny") for item in _list(values, "deny")),
            allow_loopback=_flag(values, "allow_loopback"),
            allow_link_local=_flag(values, "allow_link_local"),
            ports=tuple(_ports(item) for item in _list(values, "ports")) or ((1, 65535),),
            kinds=frozenset(_kind(item) for item in _list(values, "kinds")),
            packets_per_second=_limit(values, "packets_per_second"),
            bytes_per_day=_limit(values, "bytes_per_day"),
            responder=_port(values, "responder"),
            source=json.dumps(values, default=str, sort_keys=True),
        )

    @property
    def responder_silence(self) -> str:
        """Why the responder can answer nobody, for people; empty where it can, and without one."""
        if self.responder is None or self.allow or not self.names:
            return ""
        return "`allow` has names of hosts only, and who asks is known by address alone"

    def as_json(self) -> str:
        """Return the policy in force, for the controller to show, with what does not work of it."""
        if self.broken:
            return json.dumps({"error": self.broken})
        if self.responder_silence:
            warning = f"the responder answers nobody: {self.responder_silence}"
            return json.dumps({"warning": warning, **json.loads(self.source)})
        return self.source

    def with_loopback(self) -> Policy:
        """Return this policy with loopback addresses allowed."""
        return replace(self, allow_loopback=True)

    def check_kind(self, kind: str) -> None:
        """Raise ProbeFailure unless runs of that kind are allowed."""
        if self.broken:
            raise _forbidden(self.broken)
        if self.kinds and kind not in self.kinds:
            raise _forbidden(
                f"tests of kind `{kind}` are not among the `kinds` that this host's policy allows"
            )

    def check(self, address: IPAddress, port: int | None = None, *, named: bool = False) -> None:
        """Raise ProbeFailure unless that address and port may be tested; `named` when an allowed name led to it."""
        if self.broken:
            raise _forbidden(self.broken)
        refusal = self._refusals(address)
        if refusal:
            raise _forbidden(refusal)
        if not named and (self.allow or self.names) and not any(address in network for network in self.allow):
            raise _forbidden(f"{address} is not among the networks that this host's policy allows")
        if port is not None and not any(first <= port <= last for first, last in self.ports):
            raise _forbidden(f"port {port} is not among the `ports` that this host's policy allows")

    def check_network(self, network: IPNetwork) -> None:
        """Raise ProbeFailure unless every address of a network may be tested: one that may not forbids it all."""
        if self.broken:
            raise _forbidden(self.broken)
        whole = Network(network.version, int(network.network_address), int(network.broadcast_address))
        if any(whole.overlaps(denied) for denied in _NEVER):
            reason = "no addresses of destinations (this host, multicast or broadcast)"
        elif any(whole.overlaps(denied) for denied in self.deny):
            reason = "addresses in a network under `deny`"
        elif self._overlaps_unnamed(whole, _METADATA):
            reason = "a cloud's metadata service"
        elif self._overlaps_unnamed(whole, (LOCAL_NAT64,)):
            reason = "addresses of a local NAT64 translator"
        elif not self.allow_link_local and self._overlaps_unnamed(whole, _LINK_LOCAL):
            reason = "link-local addresses"
        elif not self.allow_loopback and self._overlaps_unnamed(whole, _LOOPBACK):
            reason = "loopback addresses"
        elif any(len(list(reachable_as(network[at]))) > 1 for at in (0, -1)):
            reason = "addresses that lead to IPv4 ones"
        else:
            reason = ""
        if reason:
            raise _forbidden(f"{network} has {reason}, which this host's policy does not allow")
        if (self.allow or self.names) and not whole.covered_by(self.allow):
            raise _forbidden(
                f"{network} does not lie in the networks that this host's policy allows with all its addresses"
            )

    def guard(self, resolve: Resolver) -> RunGuard:
        """Return the guard of one run."""
        return RunGuard(self, resolve)

    @functools.cached_property
    def _refusals(self) -> Callable[[IPAddress], str]:
        """What `_refusal` returns, remembered: tests look at the same addresses over and over."""
        return functools.lru_cache(maxsize=4096)(self._refusal)

    def _refusal(self, address: IPAddress) -> str:
        """Return why an address is denied, whatever is allowed; the empty text when it is not."""
        for meant in reachable_as(address):
            reason = self._denied(meant)
            if reason:
                hidden = "" if meant == address else f" (it leads to {meant})"
                return f"{address}{hidden} is {reason}, which this host's policy does not allow"
        return ""

    def _denied(self, address: IPAddress) -> str:
        if any(address in network for network in _NEVER):
            return "no address of a destination (this host, multicast or broadcast)"
        if any(address in network for network in self.deny):
            return "in a network under `deny`"
        if any(address in network and not self._named_inside(address, network) for network in _METADATA):
            return "a cloud's metadata service"
        if self._in_unnamed(address, (LOCAL_NAT64,)):
            return "an address of a local NAT64 translator"
        if not self.allow_link_local and self._in_unnamed(address, _LINK_LOCAL):
            return "a link-local address"
        if not self.allow_loopback and self._in_unnamed(address, _LOOPBACK):
            return "a loopback address"
        return ""

    def _in_unnamed(self, address: IPAddress, networks: tuple[Network, ...]) -> bool:
        return any(address in network and not self._named_inside(address, network) for network in networks)

    def _overlaps_unnamed(self, whole: Network, networks: tuple[Network, ...]) -> bool:
        """Say whether a network has addresses of these, unless it lies in an `allow` entry that lies in them itself."""
        return any(
            whole.overlaps(denied)
            and not any(whole.within(allowed) and allowed.within(denied) for allowed in self.allow)
            for denied in networks
        )

    def _named_inside(self, address: IPAddress, denied: Network) -> bool:
        return any(address in network and network.within(denied) for network in self.allow)


class RunGuard:
    """The policy as one run sees it: remembers to which addresses allowed names have led."""

    def __init__(self, policy: Policy, resolve: Resolver) -> None:
        self._policy = policy
        self._resolve = resolve
        self._named: set[IPAddress] = set()
        #: The address that the run used last, once it may.
        self.used: IPAddress | None = None

    def check(self, address: IPAddress, port: int | None = None) -> None:
        """Raise ProbeFailure with source POLICY unless the address and port may be used."""
        self._policy.check(address, port, named=bool(self._named) and address in self._named)
        self.used = address

    def check_network(self, network: IPNetwork) -> None:
        """Raise ProbeFailure with source POLICY unless every address of the network may be used."""
        self._policy.check_network(network)
        self.used = network[network.num_addresses // 2]  # any of them: one way leads to all

    async def resolve(self, host: str, family: str) -> Resolved:
        """Resolve a host; addresses of a name that the policy allows are allowed for this run."""
        resolved = await self._resolve(host, family)
        if self._policy.names and host.lower() in self._policy.names:
            self._named.update(resolved.addresses)
        return resolved


def _forbidden(message: str) -> ProbeFailure:
    return ProbeFailure(
        message,
        source=probe_pb2.FAILURE_SOURCE_POLICY,
        reason=probe_pb2.FAILURE_REASON_FORBIDDEN,
        status=probe_pb2.STATUS_ERROR,
    )


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    value = values.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise PolicyError(f"`{key}` must be a list")
    return value


def _flag(values: Mapping[str, Any], key: str) -> bool:
    value = values.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise PolicyError(f"`{key}` must be true or false")
    return value


def _limit(values: Mapping[str, Any], key: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PolicyError(f"`{key}` must be a whole number of 0 or more, or null for no limit")
    return value


def _port(values: Mapping[str, Any], key: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1024 <= value <= 65535:
        raise PolicyError(f"`{key}` must be a port from 1024 to 65535, or null to answer nobody")
    return value


def _network(item: Any, key: str) -> Network:
    # A bare number in YAML would be taken for the address with that number.
    if not isinstance(item, str):
        raise PolicyError(f"`{key}`: `{shown(str(item))}` is not a network such as `192.0.2.0/24`")
    try:
        return Network.parse(item)
    except ValueError as error:
        raise PolicyError(f"`{key}`: `{shown(item)}` is not a network such as `192.0.2.0/24`") from error


def _allowed(items: list[Any]) -> tuple[tuple[Network, ...], frozenset[str]]:
    networks: list[Network] = []
    names: set[str] = set()
    for item in items:
        try:
            networks.append(_network(item, "allow"))
        except PolicyError:
            if not isinstance(item, str) or "/" in item:
                raise
            try:
                names.add(parse_host(item))
            except TargetError as error:
                raise PolicyError(f"`allow`: {error}") from error
    return tuple(networks), frozenset(names)


def _ports(item: Any) -> tuple[int, int]:
    first, _, last = str(item).partition("-")
    if isinstance(item, bool) or not first.isdecimal() or not (last or first).isdecimal():
        raise PolicyError(f"`ports`: `{shown(str(item))}` is neither a port nor a range such as `1-1023`")
    bounds = int(first), int(last or first)
    if not 1 <= bounds[0] <= bounds[1] <= 65535:
        raise PolicyError(
            f"`ports`: `{shown(str(item))}` must lie between 1 and 65535, the smaller one first"
        )
    return bounds


def _kind(item: Any) -> str:
    if not isinstance(item, str) or item not in contract.kinds():
        raise PolicyError(
            f"`kinds`: `{shown(str(item))}` is no kind; there are {', '.join(contract.kinds())}"
        )
    return item
