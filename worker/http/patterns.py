"""Regular expressions of tests, searched for so that neither a clumsy one nor a hostile answer holds up the worker.

The library `regex` gives up after a time, and lets other threads run meanwhile; `re` does neither.
"""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any

import regex

from worker.detached import Detached

#: Longest time that one search may take.
LONGEST_S = 1.0
#: A compiled expression holds its repeated parts as often as they may occur, with hundreds of bytes for each.
MOST_PARTS = 10_000
_BOUNDS = re.compile(r"\{([0-9]*)(?:(,)([0-9]*))?\}")
_MOST_DIGITS = 100
#: What makes brackets mean something else than they look like: comments, free spacing, sets in sets.
_UNUSUAL = re.compile(r"\(\?#|\(\?[a-zA-Z0-9-]*[xV]|\[:")
_SEARCHES = Detached("searching for a regular expression", limit=64)


class PatternError(ValueError):
    """The text is no regular expression; the message says why."""


class PatternTooSlowError(Exception):
    """The search did not end in time."""


@functools.lru_cache(maxsize=256)
def compiled(text: str) -> Any:
    """Return a regular expression; raises PatternError."""
    count = parts(text)
    if count > MOST_PARTS:
        raise PatternError(
            f"its repetitions such as `{{1,100}}`, one inside the other, come to {count} parts, and {MOST_PARTS} is the "
            "most; write smaller bounds, or `*` and `+`"
        )
    try:
        return regex.compile(text)
    except regex.error as error:
        raise PatternError(f"{error}") from error


def parts(text: str) -> int:
    """Return at most how many characters an expression comes to when its bounded repetitions are written out."""
    if _UNUSUAL.search(text):
        return _parts_at_most(text)
    open_groups: list[int] = []
    total = last = position = 0  # of the innermost open group, and of what was read last in it
    while position < len(text):
        character = text[position]
        bounds = _BOUNDS.match(text, position)
        if bounds and (times := _most(bounds)):
            total += last * (times - 1)
            last *= times
            position = bounds.end()
            continue
        if character == "(":
            open_groups.append(total)
            total = last = 0
            position += 1
            continue
        if character == ")":
            if not open_groups:
                return _parts_at_most(text)
            last = total + 1
            total = open_groups.pop() + last
            position += 1
            continue
        end = _end_of_atom(text, position)
        if character not in "*+?":  # what follows these, such as `+?`, still belongs to what is repeated
            last = end - position
            total += last
        position = end
    return _parts_at_most(text) if open_groups else total


def _end_of_atom(text: str, position: int) -> int:
    if text[position] == "\\":
        return min(position + 2, len(text))
    if text[position] != "[":
        return position + 1
    position += 2 if text[position + 1 : position + 2] == "^" else 1
    first = position
    while position < len(text) and (text[position] != "]" or position == first):
        position += 2 if text[position] == "\\" else 1
    return min(position + 1, len(text))


def _parts_at_most(text: str) -> int:
    """As if every repetition were inside of every other."""
    count = len(text)
    for bounds in _BOUNDS.finditer(text):
        count *= _most(bounds) or 1
    return count


def _most(bounds: re.Match[str]) -> int:
    """Return how often a part is held; 0 for what is no repetition."""
    least, comma, most = bounds.groups()
    digits = [number for number in (least, most) if number]
    if not digits and not comma:
        return 0
    return max([1, *(int(number) if len(number) <= _MOST_DIGITS else MOST_PARTS + 1 for number in digits)])


async def occurs(text: str, content: str) -> bool:
    """Return whether a regular expression matches anywhere; raises PatternError or PatternTooSlowError.

    Raises TooManyHungCallsError when so many searches are under way that no further one is started.
    """
    pattern = compiled(text)
    try:
        found = await _SEARCHES.call(
            lambda: pattern.search(content, timeout=LONGEST_S, concurrent=True), timeout_s=2 * LONGEST_S
        )
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise PatternTooSlowError(
            f"searching {len(content)} characters took longer than {LONGEST_S:g} s"
        ) from error
    return found is not None
