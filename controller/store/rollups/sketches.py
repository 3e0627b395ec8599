"""Mergeable sketches of a distribution (DDSketch), as PostgreSQL keeps them: `int4[]` of keys and counts in turn.

A value falls into the bucket of its logarithm, so whatever is read from a sketch is off by at most `ERROR` of itself.
Buckets are counted exactly, so merging two sketches gives the one that all values together would have given. Keys
grow with the values: 0 is zero, positive and negative values lie around `_CENTRE` on either side of it.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

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


def sent_sql(sketch: str) -> str:
    """Return the SQL of a sketch as `received` takes it: a year's chart has a hundred thousand numbers, slow to read as text."""
    return f"array_send({sketch})"


def received(sent: bytes | memoryview) -> Sequence[int]:
    """Return a sketch from PostgreSQL's binary form of an array: five numbers of its own, then each behind its length."""
    numbers = array("i")
    numbers.frombytes(sent)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers[6::2]


@lru_cache(maxsize=4096)
def value_of(key: int) -> float:
    """Return the value that stands for a key's bucket: no value of it is further away than `ERROR`."""
    if key == 0:
        return 0.0
    middle = 2 * math.exp((abs(key) - _CENTRE) * _LOG_GAMMA) / (GAMMA + 1)
    return middle if key > 0 else -middle


def merged(sketches: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the sketch of everything that went into these."""
    if len(sketches) == 1:
        return sketches[0]
    counts: Counter[int] = Counter()
    for sketch in sketches:
        for key, count in zip(sketch[::2], sketch[1::2], strict=True):
            counts[key] += count
    return [number for key in sorted(counts) for number in (key, counts[key])]


def percentiles(sketch: Sequence[int], shares: Sequence[float]) -> tuple[int, tuple[float, ...]]:
    """Return how many values there are, and percentiles, 0 to 1, by linear interpolation as percentile_cont does.

    There are none of an empty sketch.
    """
    seen = list(accumulate(sketch[1::2]))
    if not seen:
        return 0, ()
    count = seen[-1]
    found = []
    for share in shares:
        rank = share * (count - 1)
        whole = int(rank)
        place = bisect_right(seen, whole)
        low = high = value_of(sketch[2 * place])
        if rank > whole and seen[place] == whole + 1:
            high = value_of(sketch[2 * place + 2])
        found.append(low + (high - low) * (rank - whole))
    return count, tuple(found)
