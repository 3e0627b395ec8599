"""Under which variables Ansible is started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.errors import ConfigurationError
from controller.fleet import ansible
from controller.programs import module_command


def test_host_keys_are_checked_and_a_silent_host_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always, and with Ansible's own strategy unless another is asked for."""
    monkeypatch.delenv(ansible.STRATEGY_VARIABLE, raising=False)
    made = ansible.environment(tmp_path)
    assert made["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert "ServerAliveInterval" in made["ANSIBLE_SSH_EXTRA_ARGS"]
    assert "ANSIBLE_STRATEGY" not in made


def test_the_api_token_is_in_nothing_that_ansible_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an inventory has run sees no token; only the controller's own inventory is given it, in a closed file."""
    monkeypatch.setenv("STREAMSWARM_TOKEN", "ssw_secret")
    (tmp_path / "hosts.ini").write_text(
        f"[workers]\na seen=\"{{{{ lookup('pipe', 'env > {tmp_path}/seen') }}}}\"\n"
    )
    play = tmp_path / "play.yml"
    play.write_text(
        "- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n"
        '    - ansible.builtin.debug:\n        msg: "{{ seen }}"\n'
    )
    with ansible.private_folder() as private:
        made = {**os.environ, **ansible.environment(private, [tmp_path / "hosts.ini"])}
        words = [*module_command("ansible", "playbook"), "-i", str(tmp_path / "hosts.ini"), str(play)]
        subprocess.run(words, env=made, check=True, capture_output=True)
        assert not (private / "token").exists()
    seen = (tmp_path / "seen").read_text().splitlines()
    assert f"ANSIBLE_HOME={private}/home" in seen
    assert [line for line in seen if line.startswith("STREAMSWARM_TOKEN")] == ["STREAMSWARM_TOKEN="]

    (tmp_path / "streamswarm.yml").write_text("plugin: streamswarm\n")
    with ansible.private_folder() as private:
        for sources in ([tmp_path], [tmp_path / "hosts.ini", tmp_path / "streamswarm.yml"]):
            made = ansible.environment(private, sources)
            assert "ssw_secret" not in made.values()
            file = Path(made["STREAMSWARM_TOKEN_FILE"])
            assert (file.read_text(), file.stat().st_mode & 0o777) == ("ssw_secret", 0o600)
        monkeypatch.delenv("STREAMSWARM_TOKEN")
        assert "STREAMSWARM_TOKEN_FILE" not in ansible.environment(private, [tmp_path])
    assert not file.exists()


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


def _aged(folder: Path) -> None:
    """Let a folder look an hour old."""
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))


def test_the_private_folder_of_a_killed_process_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds tokens. One that is in use stays, however old, and so does what is not of this making."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "from controller.fleet.ansible import private_folder\nimport os, signal\n"
        "with private_folder() as folder:\n    (folder / 'variables.json').write_text('secret')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    [abandoned] = tmp_path.glob("sw-*")
    (tmp_path / "sw-foreign").mkdir()
    _aged(tmp_path / "sw-foreign")
    with ansible.private_folder() as used:
        assert abandoned.exists(), "one so young may not have its lock yet"
        _aged(abandoned)
        _aged(used)
        with ansible.private_folder():
            assert used.exists()
            assert not abandoned.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sw-foreign"]
