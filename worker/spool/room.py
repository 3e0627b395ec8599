"""Whether the spool has room: for how much, and for how old results."""

from __future__ import annotations

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: Room is called room again below this share of the limit, so that the state does not flicker.
_ROOM_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may wait for acknowledgement."""

    #: Bytes of results with overhead.
    max_bytes: int = 256 * 1024 * 1024
    #: Age of the oldest result.
    max_age_s: float = 30 * 86_400.0


class Room:
    """Says whether the spool is full, and logs when that changes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._full = False

    def is_full(self, size_bytes: int, oldest_age_s: float) -> bool:
        """Return whether no more may be added to so many bytes, the oldest of that age."""
        share = _ROOM_SHARE if self._full else 1.0
        full = oldest_age_s > self._limits.max_age_s or size_bytes >= self._limits.max_bytes * share
        if full != self._full:
            log.log(
                logging.ERROR if full else logging.INFO,
                "the spool %s",
                "is full" if full else "has room again",
            )
        self._full = full
        return full
