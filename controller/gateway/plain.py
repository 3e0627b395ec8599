"""Values as PostgreSQL takes them in `jsonb`."""

from __future__ import annotations

import json
import math
from typing import Any

#: Levels of lists and objects within a value.
DEEPEST = 50
_LONGEST_NUMBER = 21


#: No reader takes an integer of more bits; counters have as many.
_GREATEST = 2**64


def whole_number(text: str) -> int:
    """Return an integer of JSON; raises ValueError for one that neither a bigint nor an unsigned one of its size holds."""
    value = int(text) if len(text) <= _LONGEST_NUMBER else _GREATEST
    if abs(value) >= _GREATEST:
        raise ValueError(f"{text[:20]} is larger than any number that can be read again")
    return value


def finite(text: str) -> float:
    """Return a number of JSON with a fraction or an exponent; raises ValueError for one that no double holds."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is larger than any number that can be read again")
    return value


def read_json(text: str) -> Any:
    """Return a value of JSON as every reader can take it.

    Raises ValueError for what is none, for numbers that cannot be read again and for what is nested too deeply;
    RecursionError for what is nested so deeply that it cannot be read at all.
    """
    value = json.loads(text, parse_constant=_refuse_constant, parse_float=finite, parse_int=whole_number)
    check_depth(value)
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


def check_depth(value: Any, deepest: int = DEEPEST) -> None:
    """Raise ValueError for what is nested so deeply that reading it back might fail."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        if not deepest:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        check_depth(child, deepest - 1)


def without_nul(value: Any) -> Any:
    """Return a value of JSON without the character NUL, which PostgreSQL cannot store, in its texts and names.

    The value is cleaned, not its JSON: there the same six characters can be the end of a text with a backslash.
    """
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [without_nul(inner) for inner in value]
    if isinstance(value, dict):
        return {name.replace("\0", ""): without_nul(inner) for name, inner in value.items()}
    return value


def storable_json(value: Any) -> str:
    """Return JSON that PostgreSQL takes: no NUL, no half of a surrogate pair.

    Raises ValueError for numbers that JSON does not have, RecursionError for what is nested too deep.
    """
    text = json.dumps(without_nul(value), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode()


def clipped(value: str, longest: int) -> str:
    """Return a text without NUL characters and no longer than this."""
    return value.replace("\0", "")[:longest]
