"""Inventories read by Ansible itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller import assets
from controller.cli.main import cli
from controller.errors import ConfigurationError
from controller.fleet.inventory import load_inventory


@pytest.mark.parametrize("name", ["example.ini", "example.yml"])
def test_the_examples_are_read(name: str) -> None:
    """Both forms of the example give the same hosts, with the group variables beside them."""
    hosts = {host.name: host for host in load_inventory([assets.inventory() / name])}
    assert {name: host.site for name, host in hosts.items()} == {
        "edge-berlin-1": "berlin",
        "edge-berlin-2": "berlin",
        "edge-oslo-1": "oslo",
    }
    second = hosts["edge-berlin-2"]
    assert (second.address, second.measured_address) == ("192.0.2.12", "198.51.100.12")
    assert second.labels == {"uplink": "fibre"}
    assert second.groups == ("berlin", "workers")
    assert hosts["edge-oslo-1"].port == 2222
    assert {host.user for host in hosts.values()} == {"deploy"}


def test_a_broken_inventory_is_told_with_ansibles_words(tmp_path: Path) -> None:
    """A file that Ansible cannot parse is an error, not an empty inventory."""
    path = tmp_path / "hosts.yml"
    path.write_text("workers: [unclosed\n")
    with pytest.raises(ConfigurationError, match=r"hosts\.yml"):
        load_inventory([path])


def test_a_reader_that_dies_without_a_word_is_told(tmp_path: Path) -> None:
    """As when the system ends it for want of memory: the message says how it ended."""
    script = tmp_path / "hosts.sh"
    script.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    script.chmod(0o755)
    with pytest.raises(ConfigurationError, match="it ended by signal SIGKILL and said nothing"):
        load_inventory([script])


def test_a_missing_inventory_is_told(tmp_path: Path) -> None:
    """The error names the file and what to do."""
    with pytest.raises(ConfigurationError, match="there is no inventory at") as caught:
        load_inventory([tmp_path / "none.ini"])
    assert "example.ini" in caught.value.mend


def test_the_command_shows_the_hosts() -> None:
    """`fleet inventory --json` prints the records."""
    result = CliRunner().invoke(
        cli, ["fleet", "inventory", "--json", "-i", str(assets.inventory() / "example.ini")]
    )
    assert result.exit_code == 0, result.output
    assert [host["name"] for host in json.loads(result.stdout)] == [
        "edge-berlin-1",
        "edge-berlin-2",
        "edge-oslo-1",
    ]


def test_the_command_without_any_inventory_says_where_one_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no inventory named and none in the usual places the command says where the example lies that one begins with."""
    example = tmp_path / "product" / "inventory" / "example.ini"
    example.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("controller.assets.checkout", lambda: tmp_path / "product")
    monkeypatch.delenv("STREAMSWARM_INVENTORY", raising=False)
    result = CliRunner().invoke(cli, ["fleet", "inventory"])
    assert result.exit_code == 2
    assert f"copy {example} to inventory/hosts.ini" in result.stderr
