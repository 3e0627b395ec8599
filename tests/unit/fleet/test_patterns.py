"""Host patterns: a name means what it was written for, or is refused."""

from __future__ import annotations

import pytest

from controller.errors import ConfigurationError
from controller.fleet.patterns import Names, check_pattern, pattern_of

NAMES = Names(
    hosts={"oslo", "edge-1", "edge-2", "all"}, groups={"oslo", "berlin", "workers", "all", "ungrouped"}
)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "edge-1",
        "berlin",
        "berlin:&workers:!edge-1",
        "edge-1,!edge-2",
        "edge-*",
        "osl*",
        "~os.*",
        "berlin[0:2]",
    ],
)
def test_what_is_clear_passes(pattern: str) -> None:
    """Hosts, groups, exclusions and wildcards, which are meant to take all that fits."""
    check_pattern(pattern, NAMES)


@pytest.mark.parametrize(
    "pattern", ["oslo", "berlin:oslo", "edge-1,oslo", "workers:!oslo", "workers:&oslo", "oslo[0]", "all"]
)
def test_a_name_that_a_host_and_a_group_have_is_refused(pattern: str) -> None:
    """Wherever it stands: Ansible would take the group."""
    with pytest.raises(ConfigurationError, match="is a host of the inventory and a group too") as caught:
        check_pattern(pattern, NAMES)
    assert caught.value.mend.startswith("rename one of the two")


def test_a_pattern_that_ansible_would_take_in_part_is_refused() -> None:
    """With a comma somewhere it does not look at colons; within brackets they are a range."""
    with pytest.raises(ConfigurationError, match="splits it at `,` only"):
        check_pattern("edge-1,berlin:!edge-2", NAMES)
    check_pattern("edge-1,berlin[0:2]", NAMES)


def test_names_of_hosts_mean_these_hosts() -> None:
    """In their order, whatever else the inventory has."""
    assert pattern_of(["edge-2", "edge-1"], NAMES) == "edge-2,edge-1"
    assert pattern_of([], NAMES) == ""


@pytest.mark.parametrize(
    "name",
    [
        "oslo",
        "all",
        "berlin",
        "edge-3",
        "edge-*",
        "edge-1:berlin",
        "!edge-1",
        "~edge",
        "@file",
        "&x",
        "a[0]",
        "",
    ],
)
def test_a_name_that_would_mean_other_hosts_is_refused(name: str) -> None:
    """A group's, one that nobody has, and everything that is no name."""
    with pytest.raises(ConfigurationError):
        pattern_of(["edge-1", name], NAMES)
