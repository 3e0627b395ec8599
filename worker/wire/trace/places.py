"""Autonomous systems and places of addresses, from databases on this host only: nothing is ever asked over the network.

The operator puts files in MaxMind's format (`.mmdb`) into the folder that the worker's configuration names as
`databases_dir`: any that hold the keys of GeoLite2-ASN, GeoLite2-City and their likes. They are opened when first
needed, and again when the folder's content has changed.

`maxminddb` is MaxMind's own reader (Apache-2.0, with a release every few months).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import maxminddb

log = logging.getLogger(__name__)

#: Mean radius of the earth in kilometres (IUGG); a sphere is within 0.6 % of the true distance.
_EARTH_KM = 6371.0088
#: Seconds between two looks at the folder.
_LOOK_S = 30.0
#: Entries of one address are no longer than this; files come from outside.
_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the databases say about an address; None where they say nothing."""

    as_number: int | None = None
    as_name: str | None = None
    country: str | None = None
    city: str | None = None
    #: Degrees, north and east positive.
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, kw_only=True)
class Geography:
    """How far a path goes, in kilometres, and how straight."""

    distance_km: float
    direct_km: float
    #: Direct distance as a share of the path's, None when the path stays where it is.
    efficiency_pct: float | None


class Places:
    """The databases of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_s = -math.inf
        #: What was found at the last look; None before the first.
        self._state: list[tuple[str, int, int]] | None = None
        self._readers: list[maxminddb.Reader] = []

    def refresh(self) -> None:
        """Open what has changed since the last look, which was a while ago."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        try:
            files = sorted(self._folder.glob("*.mmdb"))
            state = [(file.name, (found := file.stat()).st_mtime_ns, found.st_size) for file in files]
        except OSError as error:
            log.warning("the databases in %s cannot be read: %s", self._folder, error)
            files, state = [], []
        if state != self._state:
            self.close()
            self._state = state
            for file in files:
                try:
                    # Neither mapped, as a file that is overwritten in place would take the process down, nor held in
                    # memory, where it would be larger than all the rest.
                    self._readers.append(maxminddb.open_database(file, maxminddb.MODE_FILE))
                except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
                    log.warning("%s is no database in MaxMind's format and is left out: %s", file, error)
            if not self._readers:
                log.warning(
                    "there is no database that can be read in %s, so systems and places of hops are not told: put `.mmdb` "
                    "files there, or name another folder as `databases_dir`",
                    self._folder,
                )

    @property
    def there(self) -> bool:
        """Whether there is any database."""
        return bool(self._readers)

    def close(self) -> None:
        """Close all databases."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def of(self, address: str) -> Place:
        """Return what the databases say about an address."""
        values: dict[str, Any] = {}
        for reader in self._readers:
            try:
                entry = reader.get(address)
            except (ValueError, OSError, maxminddb.InvalidDatabaseError) as error:
                # An IPv6 address in a database of IPv4, or a file that was damaged or is being written.
                log.debug("no entry for %s: %s", address, error)
                continue
            if isinstance(entry, dict):
                for name, value in _read(entry).items():
                    values.setdefault(name, value)
        return Place(**values)


def _read(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry says, under the names of `Place`; anything may stand in a file."""
    location = _mapping(entry.get("location"))
    latitude, longitude = (
        _degrees(location.get(name), most) for name, most in (("latitude", 90), ("longitude", 180))
    )
    values: dict[str, Any] = {
        "as_number": entry.get("autonomous_system_number"),
        "as_name": _text(entry.get("autonomous_system_organization")),
        "country": _text(_mapping(entry.get("country")).get("iso_code")),
        "city": _text(_mapping(_mapping(entry.get("city")).get("names")).get("en")),
    }
    if not isinstance(values["as_number"], int) or not 0 < values["as_number"] < 2**32:
        values["as_number"] = None
    if latitude is not None and longitude is not None:
        values["latitude"], values["longitude"] = latitude, longitude
    return {name: value for name, value in values.items() if value is not None}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value[:_LONGEST_NAME] if isinstance(value, str) and value.isprintable() and value else None


def _degrees(value: Any, most: float) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= most:
        return float(value)
    return None


def great_circle_km(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Return the distance between two places (latitude, longitude in degrees) on a sphere (haversine formula)."""
    (latitude, longitude), (other_latitude, other_longitude) = (
        map(math.radians, place) for place in (first, second)
    )
    half = (
        math.sin((other_latitude - latitude) / 2) ** 2
        + math.cos(latitude) * math.cos(other_latitude) * math.sin((other_longitude - longitude) / 2) ** 2
    )
    return 2 * _EARTH_KM * math.asin(math.sqrt(min(1.0, half)))


def geography(places: Sequence[tuple[float, float]]) -> Geography | None:
    """Return how far a path goes over places in their order; None with fewer than two."""
    if len(places) < 2:
        return None
    distance_km = math.fsum(great_circle_km(first, second) for first, second in pairwise(places))
    direct_km = great_circle_km(places[0], places[-1])
    return Geography(
        distance_km=distance_km,
        direct_km=direct_km,
        efficiency_pct=100.0 * direct_km / distance_km if distance_km > 0 else None,
    )
