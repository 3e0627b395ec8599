"""The repeated group that a call names."""

from __future__ import annotations

from streamswarm.contract import Child, InvalidInputError, Kind, Problem
from streamswarm.targets import shown


def child_of(kind: Kind, name: str) -> Child:
    """Return a repeated group of a kind by its name; InvalidInputError names those there are."""
    groups = {group.name: group for group in kind.children}
    if name not in groups:
        known = f"one of {', '.join(groups)}" if groups else f"there: `{kind.name}` has no repeated group"
        raise InvalidInputError([Problem(path="child", message=f"`{shown(name)}` is not {known}")])
    return groups[name]
