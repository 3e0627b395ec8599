"""Mergeable sketches of a distribution (DDSketch), as PostgreSQL keeps them: `int4[]` of keys and counts in turn.

A value falls into the bucket of its logarithm, so whatever is read from a sketch is off by at most `ERROR` of itself.
Buckets are counted exactly, so merging two sketches gives the one that all values together would have given. Keys
grow with the values: 0 is zero, positive and negative values lie around `_CENTRE` on either side of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Keys and counts in turn.
Sketch = NDArray[np.signedinteger[Any]]
#: Largest relative error of what is read.
ERROR = 0.01
GAMMA = (1 + ERROR) / (1 - ERROR)
_LOG_GAMMA = math.log(GAMMA)
#: Larger than the bucket of any double, which are some 35,500 on either side of the value one.
_CENTRE = 100_000


def key_sql(value: str) -> str:
    """Return the SQL of the key for a value of type double precision that is not NULL."""
    place = f"ceil(ln(abs({value})) / {_LOG_GAMMA!r}::float8)::int4"
    return f"CASE WHEN {value} > 0 THEN {_CENTRE} + {place} WHEN {value} < 0 THEN -{_CENTRE} - {place} ELSE 0 END"


def grouped_sql(query: str, keys: str) -> str:
    """Return the SQL that gathers a query's `place` (a key of a sketch) and `count` into one `sketch` for all `keys`."""
    return (
        f"SELECT {keys}, array_agg(half ORDER BY place, which) AS sketch FROM ("  # noqa: S608  our own SQL
        f"SELECT {keys}, place, sum(count)::int4 AS count FROM ({query}) counted GROUP BY {keys}, place) summed "
        "CROSS JOIN LATERAL (VALUES (0, place), (1, count)) AS halves(which, half) "
        f"GROUP BY {keys}"
    )


def pairs_sql(sketch: str) -> str:
    """Return the SQL of a FROM item that gives each `place` of a sketch and its `count`."""
    return (
        f"(SELECT {sketch}[2 * number - 1] AS place, {sketch}[2 * number] AS count "  # noqa: S608  our own SQL
        f"FROM generate_series(1, cardinality({sketch}) / 2) AS number)"
    )


@lru_cache(maxsize=4096)
def value_of(key: int) -> float:
    """Return the value that stands for a key's bucket: no value of it is further away than `ERROR`."""
    if key == 0:
        return 0.0
    middle = 2 * math.exp((abs(key) - _CENTRE) * _LOG_GAMMA) / (GAMMA + 1)
    return middle if key > 0 else -middle


def sent_sql(sketch: str) -> str:
    """Return the SQL of a sketch as `received` takes it: a year's chart has tens of thousands of numbers, slow to read as text."""
    return f"array_send({sketch})"


def received(sent: bytes | memoryview) -> Sketch:
    """Return a sketch from PostgreSQL's binary form of an array: five numbers on the whole, then each behind its length."""
    return np.frombuffer(sent, dtype=">i4")[6::2]


def merged(sketches: Sequence[Sketch]) -> Sketch:
    """Return the sketch of everything that went into these."""
    if len(sketches) == 1:
        return sketches[0]
    pairs = np.concatenate(sketches).astype(np.int64).reshape(-1, 2)
    keys, places = np.unique(pairs[:, 0], return_inverse=True)
    counts = np.zeros(len(keys), dtype=np.int64)
    np.add.at(counts, places, pairs[:, 1])
    return np.stack((keys, counts), axis=1).reshape(-1)


def percentiles(sketch: Sketch, shares: Sequence[float]) -> tuple[int, tuple[float, ...]]:
    """Return how many values there are, and percentiles, 0 to 1, by linear interpolation as percentile_cont does.

    There are none of an empty sketch.
    """
    seen = np.cumsum(sketch[1::2], dtype=np.int64)
    if not len(seen):
        return 0, ()
    count = int(seen[-1])
    ranks = [share * (count - 1) for share in shares]
    sides = [whole for rank in ranks for whole in (math.floor(rank), math.ceil(rank))]
    keys = sketch[::2][np.searchsorted(seen, sides, side="right")].tolist()
    values = list(map(value_of, keys))
    return count, tuple(
        low + (high - low) * (rank - math.floor(rank))
        for rank, low, high in zip(ranks, values[::2], values[1::2], strict=True)
    )
