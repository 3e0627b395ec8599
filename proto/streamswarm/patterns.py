"""Regular expressions of tests, by the library `regex`: what the controller takes is what workers can search for."""

from __future__ import annotations

import functools
import re
from typing import Any

import regex

#: A compiled expression holds its repeated parts as often as they may occur, with hundreds of bytes for each.
MOST_PARTS = 10_000
_BOUNDS = re.compile(r"\{([0-9]*)(?:(,)([0-9]*))?\}")
_MOST_DIGITS = 100
#: Free spacing: what stands in brackets and bounds can no longer be told without reading as the library does.
_FREE_SPACING = re.compile(r"\(\?[a-zA-Z0-9]*x")
#: What makes brackets mean something else than they look like: comments, sets in sets.
_UNUSUAL = re.compile(r"\(\?#|\(\?[a-zA-Z0-9-]*V|\[:")


class PatternError(ValueError):
    """The text is no regular expression; the message says why."""


@functools.lru_cache(maxsize=256)
def compiled(text: str) -> Any:
    """Return a regular expression; raises PatternError."""
    if _FREE_SPACING.search(text):
        raise PatternError(
            "free spacing, `(?x)`, is not taken; write the expression without blanks and comments"
        )
    count = parts(text)
    if count > MOST_PARTS:
        raise PatternError(
            f"its repetitions such as `{{1,100}}`, one inside the other, come to {count} parts, and {MOST_PARTS} is the "
            "most; write smaller bounds, or `*` and `+`"
        )
    try:
        return regex.compile(text)
    except RecursionError as error:
        raise PatternError("its brackets are nested too deeply") from error
    except (regex.error, ValueError, OverflowError) as error:
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
