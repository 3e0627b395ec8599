"""Pages of a list by keyset: a cursor names the last row seen, so that rows coming and going shift nothing."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streamswarm.contract import InvalidInputError, Problem

Item = TypeVar("Item")

MAX_LIMIT = 500
DEFAULT_LIMIT = 100


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """One page of a list."""

    items: tuple[Item, ...]
    #: Hand it in to get what follows; None on the last page.
    next_cursor: str | None


def encode_cursor(*keys: str | int) -> str:
    """Return an opaque cursor for the sort keys of a row."""
    text = json.dumps(keys, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """Return the sort keys in a cursor; raises InvalidInputError when it is not one of ours."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        keys = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        keys = None
    if (
        not isinstance(keys, list)
        or len(keys) != len(types)
        or any(type(key) is not wanted for key, wanted in zip(keys, types, strict=True))
        or any(isinstance(key, int) and abs(key) >= 2**63 for key in keys)
        or any(isinstance(key, str) and "\0" in key for key in keys)
    ):
        raise InvalidInputError(
            [Problem(path="cursor", message="is not a cursor; take `next_cursor` of the page before")]
        )
    return tuple(keys)


def page_of(
    rows: Sequence[Any], limit: int, make: Callable[[Any], Item], cursor_of: Callable[[Any], str]
) -> Page[Item]:
    """Make a page from up to `limit + 1` rows: the extra one only tells that more follow."""
    kept = rows[:limit]
    return Page(
        items=tuple(make(row) for row in kept),
        next_cursor=cursor_of(kept[-1]) if len(rows) > limit else None,
    )
