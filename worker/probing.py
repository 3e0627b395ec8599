"""What a probe is given and what it returns; every module in `worker.probes` keeps to this.

A probe module has two functions and no classes of its own kind:

    async def run(target: Target, spec: PingSpec, context: ProbeContext) -> Outcome
    def availability() -> Availability

and, where the parameters alone do not tell it by their names, two more:

    def duration_s(spec: PingSpec) -> float     the longest time that a run may take
    def need(spec: PingSpec) -> Need            the most that a run may send and receive

The runner adds the envelope (when, how long, which job) and turns exceptions into results.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Union

from streamswarm.targets import IPNetwork
from streamswarm.v1 import probe_pb2

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]  # noqa: UP007  a value, and Python 3.10 has no `type`


class ProbeFailure(Exception):  # noqa: N818  a measured failure is an outcome, not a fault of the program
    """A run that ended without the wanted answer.

    `status` is STATUS_FAILED when the destination or the way to it is at fault, STATUS_ERROR when nothing could
    be measured. `metrics` has what was measured until then, or None; `detail` what is known beside it, such as the
    address that was used, and must survive JSON.
    """

    def __init__(
        self,
        message: str,
        *,
        source: probe_pb2.FailureSource,
        reason: probe_pb2.FailureReason,
        status: probe_pb2.Status = probe_pb2.STATUS_FAILED,
        metrics: Any = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.reason = reason
        self.status = status
        self.metrics = metrics
        self.detail = detail or {}


class FailingWith:
    """Adds to the failures that pass through what is known of the run; what a failure knows itself goes first."""

    __slots__ = ("_detail",)

    def __init__(self, detail: dict[str, Any]) -> None:
        self._detail = detail

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(failure, ProbeFailure):
            failure.detail = self._detail | failure.detail


class TargetGuard(Protocol):
    """The local policy as probes see it. Raises ProbeFailure with source POLICY when something is forbidden."""

    def check(self, address: IPAddress, port: int | None = None) -> None:
        """Check the address that is about to be used, after every resolution and every redirect."""

    def check_network(self, network: IPNetwork) -> None:
        """Check all addresses of the network that is about to be used."""


@dataclass(frozen=True)
class Resolved:
    """Addresses of a name, in the resolver's order."""

    addresses: tuple[IPAddress, ...]
    #: Time that the resolution took; None when the target was an address.
    elapsed_ms: float | None


#: Resolves a host for an address family ("any", "ipv4", "ipv6"); checks nothing against the policy.
#: Raises ProbeFailure with source RESOLVER.
Resolver = Callable[[str, str], Awaitable[Resolved]]


@dataclass(frozen=True)
class ProbeContext:
    """What a run may use beside its target and parameters."""

    guard: TargetGuard
    resolve: Resolver
    #: Folder with databases about addresses that the operator gives; None without.
    databases: Path | None = None
    #: What the workers share to be told by each other's responders, and what they shared before; empty without.
    responder_keys: tuple[str, ...] = ()
    #: How far this host's clock is ahead of the controller's, milliseconds; None while that is not known.
    clock_offset_ms: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run delivered."""

    #: The kind's result message.
    metrics: Any
    #: What is too deep for columns; must survive JSON.
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Need:
    """The most that a run may need of what the host's policy limits."""

    #: Packets that it sends.
    packets: int
    #: Bytes that it sends and receives.
    size: int


@dataclass(frozen=True)
class Availability:
    """Whether this host can run a kind."""

    available: bool
    #: Why not, for people.
    reason: str = ""
    #: The command that mends it.
    mend: str = ""
