"""What earlier traces found towards a network: how far it is, and which routers lie on the way.

A trace that knows the distance asks as many hops as there are, no more; one that knows the routers keeps to the pace
of each. Both are guesses: a trace never reports what it has not seen itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Networks that are remembered; those that were met first are forgotten.
_MOST_NETWORKS = 20_000
#: Destinations with so many equal leading bytes are taken to lie behind the same routers, by the length of an address.
_PREFIX_BYTES = {4: 3, 16: 6}


@dataclass
class Route:
    """The way to one network, as the last trace found it."""

    #: TTL that reached the destination; 0 while none did.
    distance: int = 0
    #: Routers by TTL, as text.
    routers: dict[int, str] = field(default_factory=dict)


class Routes:
    """The ways that this worker knows."""

    def __init__(self) -> None:
        self._routes: dict[bytes, Route] = {}

    def towards(self, address: bytes) -> Route:
        """Return what is known of the way to an address of 4 or 16 bytes; what is found may be entered there."""
        key = address[: _PREFIX_BYTES[len(address)]]
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route()
            if len(self._routes) > _MOST_NETWORKS:
                del self._routes[next(iter(self._routes))]
        return route
