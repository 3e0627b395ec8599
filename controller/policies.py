"""Workers' local policies as they are compared: what the inventory intends against what a worker keeps to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What a worker tells beside its policy: that something in it has no effect.
_WARNING = "warning"


def comparable(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy so that what means the same is the same: unset, empty and off are the defaults."""
    return {
        key: sorted(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in policy.items()
        if key != _WARNING and value is not None and value is not False and value != []
    }


def same_policy(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two policies mean the same."""
    return comparable(one) == comparable(other)
