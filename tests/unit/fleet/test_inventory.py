"""What Ansible says of an inventory, as records."""

from __future__ import annotations

from typing import Any

import pytest

from controller.errors import ConfigurationError
from controller.fleet.inventory import InventoryHost, parse_inventory


def _listed(name: str = "a", **variables: Any) -> dict[str, Any]:
    return {
        "_meta": {"hostvars": {name: variables}},
        "all": {"children": ["workers"]},
        "workers": {"hosts": [name]},
    }


def test_a_host_has_its_groups_and_those_above() -> None:
    """Groups are all that the host is in, through their parents too, without Ansible's own two."""
    listed = {
        "_meta": {"hostvars": {"b": {}}},
        "all": {"children": ["ungrouped", "workers"]},
        "ungrouped": {"hosts": ["c"]},
        "workers": {"children": ["oslo"]},
        "oslo": {"hosts": ["b"]},
    }
    assert [(host.name, host.groups) for host in parse_inventory(listed)] == [
        ("b", ("oslo", "workers")),
        ("c", ()),
    ]


def test_the_controllers_host_is_a_worker_only_where_it_is_told_to_be() -> None:
    """A host of the group `controller` gets no worker and none is missed there, unless it is in `workers` too."""
    listed = {
        "_meta": {"hostvars": {"mon": {}, "both": {}, "edge": {}}},
        "all": {"children": ["controller", "workers"]},
        "controller": {"hosts": ["mon", "both"]},
        "workers": {"hosts": ["edge", "both"]},
    }
    assert [host.name for host in parse_inventory(listed)] == ["both", "edge"]


def test_variables_become_fields() -> None:
    """The variables that we know are read, with their defaults; others are left alone."""
    plain, rich = (
        parse_inventory(_listed())[0],
        parse_inventory(
            _listed(
                ansible_host="192.0.2.1",
                ansible_port=2222,
                ansible_user="deploy",
                ansible_password="secret",
                streamswarm_address="198.51.100.1",
                streamswarm_site="oslo",
                streamswarm_labels={"rack": 7},
            )
        )[0],
    )
    assert plain == InventoryHost(name="a", address="a", measured_address="a", groups=("workers",))
    assert rich == InventoryHost(
        name="a",
        address="192.0.2.1",
        port=2222,
        user="deploy",
        groups=("workers",),
        measured_address="198.51.100.1",
        site="oslo",
        labels={"rack": "7"},
    )
    assert "secret" not in repr(rich)


@pytest.mark.parametrize(
    "name", ["-f", "--help", "a b", "a;b", "$(id)", "a\n", "../a", "a/b", "", "x" * 254, "ä"]
)
def test_a_name_that_no_worker_can_have_is_refused(name: str) -> None:
    """Host names are names: nothing that a shell, a path or a program's options would take for something else."""
    with pytest.raises(ConfigurationError, match="cannot be a worker's name"):
        parse_inventory(_listed(name))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ansible_port": "ssh"}, "not a port"),
        ({"ansible_port": 0}, "not a port"),
        ({"ansible_port": True}, "not text"),
        ({"ansible_host": {"__ansible_vault": "…"}}, "not text"),
        ({"streamswarm_labels": ["a"]}, "not a mapping"),
    ],
)
def test_wrong_variables_are_named(variables: dict[str, Any], message: str) -> None:
    """The error names the variable and the host."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_inventory(_listed(**variables))
    assert next(iter(variables)) in str(caught.value)
    assert "host a" in str(caught.value)


def test_groups_in_a_circle_end() -> None:
    """Groups that contain each other are walked once."""
    listed = {"all": {"children": ["x"]}, "x": {"hosts": ["a"], "children": ["y"]}, "y": {"children": ["x"]}}
    assert parse_inventory(listed)[0].groups == ("x",)


def test_texts_of_dynamic_inventories_lose_their_mark() -> None:
    """Ansible marks what is no template; it is the text that counts."""
    mark = "__ansible_unsafe"
    [host] = parse_inventory(
        _listed(streamswarm_site={mark: "oslo"}, streamswarm_labels={"rack": {mark: "a1"}})
    )
    assert (host.site, host.labels) == ("oslo", {"rack": "a1"})


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        (None, {}),
        ({"deny": ["192.0.2.0/24"]}, {"deny": ["192.0.2.0/24"]}),
        ("{{ site_policy }}", None),
        ({"deny": ["{{ own_network }}"]}, None),
        ({"deny": [{"__ansible_vault": "$ANSIBLE_VAULT"}]}, None),
    ],
)
def test_a_policy_is_read_where_it_stands_as_it_is(value: Any, policy: Any) -> None:
    """What only a run of Ansible could read is unknown, and not empty."""
    assert parse_inventory(_listed(streamswarm_worker_policy=value))[0].policy == policy
