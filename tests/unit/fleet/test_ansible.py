"""Under which variables Ansible is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import ConfigurationError
from controller.fleet import ansible


def test_host_keys_are_checked_and_a_silent_host_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always, and with Ansible's own strategy unless another is asked for."""
    monkeypatch.delenv(ansible.STRATEGY_VARIABLE, raising=False)
    made = ansible.environment(tmp_path)
    assert made["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert "ServerAliveInterval" in made["ANSIBLE_SSH_EXTRA_ARGS"]
    assert "ANSIBLE_STRATEGY" not in made


def test_mitogen_is_found_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug-in's folder is named, without importing it: it patches Ansible when it is."""
    monkeypatch.setenv(ansible.STRATEGY_VARIABLE, "mitogen")
    made = ansible.environment(tmp_path)
    assert made["ANSIBLE_STRATEGY"] == "mitogen_linear"
    assert (Path(made["ANSIBLE_STRATEGY_PLUGINS"]) / "mitogen_linear.py").is_file()


def test_a_strategy_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable and what to do, for one that is unknown and one that is not installed."""
    monkeypatch.setenv(ansible.STRATEGY_VARIABLE, "free")
    with pytest.raises(ConfigurationError, match=r"`free`, which is no strategy\n.*`linear` or `mitogen`"):
        ansible.environment(tmp_path)
    monkeypatch.setenv(ansible.STRATEGY_VARIABLE, "mitogen")
    monkeypatch.setattr(ansible, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="pip install 'mitogen"):
        ansible.environment(tmp_path)
