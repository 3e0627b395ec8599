"""What earlier traces found towards a network: how far it is, and which routers lie on the way.

A trace that knows the distance asks as many hops as there are, no more; one that knows the routers keeps to the pace
of each. Both are guesses: a trace never reports what it has not seen itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.probing import IPAddress

#: Networks that are remembered; those that were met first are forgotten.
_MOST_NETWORKS = 20_000
#: Destinations with so many equal leading bits are taken to lie behind the same routers.
_PREFIX = {4: 24, 6: 48}


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
        self._routes: dict[tuple[int, int], Route] = {}

    def towards(self, address: IPAddress) -> Route:
        """Return what is known of the way to an address; what is found may be entered there."""
        version = address.version
        key = version, int(address) >> (address.max_prefixlen - _PREFIX[version])
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route()
            if len(self._routes) > _MOST_NETWORKS:
                del self._routes[next(iter(self._routes))]
        return route
