"""Which way packets took, and whether it is another one than the last time."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable

#: Paths that are remembered; those that were seen first are forgotten.
_MOST_PATHS = 50_000


class Path:
    """The way of one flow."""

    __slots__ = ("_hash", "distance", "hops")

    def __init__(self, *, hops: dict[int, tuple[str, ...]], distance: int | None) -> None:
        #: Addresses that answered, by TTL; hops that were silent are not there.
        self.hops = hops
        #: Smallest TTL that reached the destination; None when none did, or when none that is smaller was asked.
        self.distance = distance
        self._hash: int | None = None

    @property
    def hash(self) -> int:
        """The first 48 bits of the SHA-256 over `TTL address,…` lines: fits the integers of every language."""
        if self._hash is None:
            text = "\n".join(f"{ttl} {','.join(found)}" for ttl, found in self.hops.items())
            self._hash = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
        return self._hash

    def is_as(self, other: Path) -> bool:
        """Return whether both saw the same at every hop; what is known of the other's hash is known of this one's then."""
        if self.hops != other.hops:
            return False
        self._hash = other._hash
        return True

    def contradicts(self, other: Path) -> bool:
        """Return whether both cannot be the same way. What is silent in either contradicts nothing."""
        if self.distance is not None and other.distance is not None and self.distance != other.distance:
            return True
        return any(
            ttl in other.hops and not set(found) & set(other.hops[ttl]) for ttl, found in self.hops.items()
        )


class Memory:
    """The last path of each trace that this worker process has run."""

    def __init__(self) -> None:
        self._paths: OrderedDict[Hashable, Path] = OrderedDict()

    def changed(self, key: Hashable, path: Path) -> bool | None:
        """Return whether the path differs from the last one under a key, None without one; remember this one."""
        last = self._paths.get(key)
        if last is None:
            self._paths[key] = path
            if len(self._paths) > _MOST_PATHS:
                self._paths.popitem(last=False)
            return None
        self._paths.move_to_end(key)
        if path.is_as(last):
            # The last one stays: Python's garbage collector looks at what is new and lives on.
            last.distance = path.distance
            return False
        changed = path.contradicts(last)
        if not changed:
            # A hop that was silent this time is still known from before.
            path = Path(
                hops=dict(sorted({**last.hops, **path.hops}.items())), distance=path.distance or last.distance
            )
        self._paths[key] = path
        return changed
