"""The default resolver: the host's own, with a time-out and errors that say what failed."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import time

from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from worker.detached import Detached, TooManyHungCallsError
from worker.failures import NO_ROOM, error_text, resolver_failure, vantage_failure
from worker.probing import IPAddress, ProbeFailure, Resolved, Resolver
from worker.wire.addresses import unmapped

_FAMILIES = {"": socket.AF_UNSPEC, "any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_VERSIONS = {"ipv4": 4, "ipv6": 6}
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
#: How long a name server may take; a query waits at most as long before, for its turn among those under way.
_TIMEOUT_S = 5.0
#: Longest time that a resolution can take by that, for the time limits of runs.
LONGEST_S = 2 * _TIMEOUT_S


def system_resolver(*, timeout_s: float = _TIMEOUT_S, limit: int = 64) -> Resolver:
    """Return a Resolver over getaddrinfo that has `limit` queries under way; others wait `timeout_s` for their turn.

    A query itself may take `timeout_s`.
    """
    detached = Detached("name resolution", limit=limit)

    async def resolve(host: str, family: str) -> Resolved:
        literal = _literal(host)
        if literal is not None:
            (address,) = literal.addresses
            if address.version != _VERSIONS.get(family, address.version):
                raise resolver_failure(
                    f"{address} is not an {_shown_family(family)} address, as the test asks for",
                    reason=probe_pb2.FAILURE_REASON_NO_SUCH_NAME,
                )
            return literal
        name = shown(host)
        try:
            addresses, elapsed_ms = await detached.call(lambda: _look_up(host, family), timeout_s=timeout_s)
        except asyncio.TimeoutError:
            raise resolver_failure(
                f"`{name}`: this host's resolver did not answer within {timeout_s:g} s"
            ) from None
        except TooManyHungCallsError as error:
            raise resolver_failure(f"`{name}`: {error}; look at this host's name servers") from error
        except socket.gaierror as error:
            if error.errno == socket.EAI_MEMORY:
                raise _no_room(name, "no memory") from error
            raise resolver_failure(
                f"`{name}`: {_words(error, family)}",
                reason=probe_pb2.FAILURE_REASON_NO_SUCH_NAME
                if error.errno in _NO_SUCH_NAME
                else probe_pb2.FAILURE_REASON_RESOLVER_FAILED,
            ) from error
        except (OSError, UnicodeError) as error:
            text = error_text(error) if isinstance(error, OSError) else str(error)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise _no_room(name, text) from error
            raise resolver_failure(f"`{name}` could not be resolved: {text}") from error
        if not addresses:
            raise resolver_failure(
                f"`{name}` has no {_shown_family(family)} address",
                reason=probe_pb2.FAILURE_REASON_NO_SUCH_NAME,
            )
        return Resolved(addresses=addresses, elapsed_ms=elapsed_ms)

    return resolve


def _no_room(name: str, text: str) -> ProbeFailure:
    """Nobody was asked: this host lacks what asking takes."""
    return vantage_failure(
        f"this host has no room to resolve `{name}`: {text}", reason=probe_pb2.FAILURE_REASON_NO_ROOM
    )


@functools.lru_cache(maxsize=4096)
def _literal(host: str) -> Resolved | None:
    """Return what an address stands for, None for a name."""
    try:
        return Resolved(addresses=(unmapped(ipaddress.ip_address(host)),), elapsed_ms=None)
    except ValueError:
        return None


def _look_up(host: str, family: str) -> tuple[tuple[IPAddress, ...], float]:
    """Ask the system, timing the call where it runs, so that a busy event loop adds nothing."""
    started = time.perf_counter_ns()
    # One socket type, or each address comes three times.
    answers = socket.getaddrinfo(host, None, family=_FAMILIES[family], type=socket.SOCK_STREAM)
    elapsed_ms = (time.perf_counter_ns() - started) / 1e6
    addresses = dict.fromkeys(unmapped(ipaddress.ip_address(str(answer[4][0]))) for answer in answers)
    version = _VERSIONS.get(family)
    return tuple(each for each in addresses if version in (None, each.version)), elapsed_ms


def _words(error: socket.gaierror, family: str) -> str:
    if error.errno in _NO_SUCH_NAME:
        return f"no such name, or it has no {_shown_family(family)} address"
    if error.errno == socket.EAI_AGAIN:
        return "this host's name servers could not be reached or failed for the moment"
    return f"could not be resolved: {error.strerror}"


def _shown_family(family: str) -> str:
    return {"ipv4": "IPv4", "ipv6": "IPv6"}.get(family, "IPv4 or IPv6")
