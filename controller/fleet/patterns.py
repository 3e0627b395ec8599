"""Which hosts an Ansible host pattern means: a name in it never means more than who wrote it can have meant.

Ansible takes a name for that of a group where there is one, and for that of a host only where there is none. What is to be
done to one host would be done to all of the group of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.errors import ConfigurationError
from controller.fleet.inventory import HOST_NAME, read_groups
from streamswarm.targets import shown

#: What stands between the names of a pattern, what stands before one, and which hosts of a group are meant.
_BETWEEN, _BEFORE, _SOME = re.compile(r"[:,]"), "!&", re.compile(r"\[.*\Z")
_RENAME = "rename one of the two in the inventory"


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names that an inventory has."""

    hosts: Collection[str]
    groups: Collection[str]

    @classmethod
    def of(cls, sources: Sequence[Path]) -> Names:
        """Return the names of inventories; raises ConfigurationError where one cannot be read."""
        found = read_groups(sources)
        return cls(hosts=found.keys(), groups=frozenset({"all", "ungrouped"}.union(*found.values())))


def check_pattern(pattern: str, names: Names) -> None:
    """Raise ConfigurationError for a pattern that somebody has written and that may mean other hosts than it seems to."""
    if "," in pattern and ":" in _SOME.sub("", pattern):
        raise ConfigurationError(
            f"the host pattern `{shown(pattern, 200)}` has both `,` and `:` between its names, and Ansible splits it at `,` only",
            mend="write one of them throughout",
        )
    for word in _BETWEEN.split(pattern):
        name = _SOME.sub("", word.strip().lstrip(_BEFORE))
        if name in names.hosts and name in names.groups:
            raise ConfigurationError(
                f"`{name}` is a host of the inventory and a group too, and Ansible takes the group",
                mend=_RENAME,
            )


def pattern_of(hosts: Iterable[str], names: Names) -> str:
    """Return the pattern that means exactly these hosts; raises ConfigurationError where there is none."""
    hosts = tuple(hosts)
    for host in hosts:
        if not HOST_NAME.fullmatch(host) or host not in names.hosts:
            raise ConfigurationError(
                f"the inventory has no host `{shown(host)}`",
                mend="name a host of the group `workers`; `streamswarm fleet drift` tells which workers have none",
            )
        if host in names.groups:
            raise ConfigurationError(
                f"the host `{host}` is named as a group of the inventory, and Ansible takes the group",
                mend=_RENAME,
            )
    return ",".join(hosts)
