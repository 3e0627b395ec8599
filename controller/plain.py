"""Records as JSON carries them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import uuid
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Return a record, or what is in one, as plain JSON values.

    Instants end in `Z`; a number that is not finite becomes null, for JSON has no such numbers.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, dt.datetime):
        return instant(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def instant(value: dt.datetime) -> str:
    """Return an instant in ISO form, in UTC."""
    return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
