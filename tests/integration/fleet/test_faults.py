"""One run over hosts each of which has something in its way: a clear line for each, and the good one is ready."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.hosts import Host, make_key
from lab.laboratory import Lab

from controller.cli.fleet import HOSTS_FAILED
from controller.fleet.bundles import Bundle

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(600)]

#: What each host's line must say: what is wrong, and what to do.
LINES = {
    "absent": ("192.0.2.1",),
    "stranger": ("is not the one in known_hosts", "mend known_hosts"),
    "nopython": ("/usr/bin/python9 does not run on the host", "streamswarm_worker_python"),
    "oldpython": ("is Python 3.9.2; a worker needs 3.10 or newer", "streamswarm_worker_python"),
    "late": ("clock of the host is 3600 s behind", "Set it"),
    "early": ("clock of the host is 3600 s ahead", "Set it"),
    "foreign": ("was built for", "aarch64", "streamswarm_worker_bundle"),
    "full": ("No space left on device", "Make room in /mnt/small", "streamswarm_worker_install_dir"),
}


def _python(host: Host, name: str, **said: Any) -> str:
    """Put a program on a host that describes the platform as told, and return its path."""
    path = host.root / "usr/local/bin" / name
    known = {"python": "3.11.2", "architecture": "x86_64", "libc": "glibc-2.36"}
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(known | said)}\nEND\n")
    path.chmod(0o755)
    return f"/usr/local/bin/{name}"


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[str]:
    """A folder on host2 with room for five megabytes."""
    host = lab.hosts[1]
    host.ssh("mkdir -p /mnt/small && mount -t tmpfs -o size=5m tmpfs /mnt/small")
    yield "/mnt/small/worker"
    host.ssh("umount /mnt/small")


def _inventory(lab: Lab, bundle: Bundle, folder: Path, small: str) -> Path:
    """Write an inventory with host1, and with host2 under a name for each fault."""
    host2 = lab.hosts[1]
    key = make_key(folder / "other", comment="another")
    wrong = folder / "known_hosts"
    wrong.write_text(f"{host2.address} {' '.join(key.split()[:2])}\n")
    foreign = folder / "foreign.tar.gz"
    foreign.symlink_to(bundle.path)
    other = dataclasses.replace(bundle.platform, architecture="aarch64")
    described = dataclasses.replace(bundle, path=foreign, platform=other).description()
    foreign.with_name("foreign.tar.gz.json").write_text(json.dumps(described))
    plain = lab.inventory.read_text()
    [options] = re.findall("ansible_ssh_common_args=(.*)", plain)
    more = {
        "absent": "ansible_host=192.0.2.1",
        "stranger": f'ansible_ssh_common_args="{options.replace(str(lab.folder / "known_hosts"), str(wrong))}"',
        "nopython": "streamswarm_worker_python=/usr/bin/python9",
        "oldpython": f"streamswarm_worker_python={_python(host2, 'old', python='3.9.2')}",
        "late": f"streamswarm_worker_python={_python(host2, 'late', clock_ahead_s=-3600.0)}",
        "early": f"streamswarm_worker_python={_python(host2, 'early', clock_ahead_s=3600.0)}",
        "foreign": f"streamswarm_worker_bundle={foreign}",
        "full": f"streamswarm_worker_install_dir={small}",
    }
    lines = [
        f"{name} {'' if name == 'absent' else f'ansible_host={host2.address} '}{more[name]}" for name in more
    ]
    lines = [f"host1 ansible_host={lab.hosts[0].address}", *lines]
    rest = plain[plain.index("[workers:vars]") :].replace("-F none", "-F none -o ConnectTimeout=3")
    path = folder / "hosts.ini"
    common = f"{rest}streamswarm_worker_bundle={bundle.path}\n"
    path.write_text("[workers]\n" + "\n".join(lines) + f"\n\n{common}")
    return path


def test_every_fault_is_one_line_and_the_good_host_is_ready(
    controller: Any, lab: Lab, web: tuple[str, str], host_bundle: Bundle, tmp_path: Path, small_disk: str
) -> None:
    """Unreachable, another host key, no or too old a Python, a wrong clock, a foreign bundle, a full disk; exit code 1."""
    url, token = web
    inventory = _inventory(lab, host_bundle, tmp_path, small_disk)
    run = lab.python(
        "-m",
        "controller.cli",
        "fleet",
        "provision",
        "--inventory",
        inventory,
        extra_environment={
            "STREAMSWARM_URL": url,
            "STREAMSWARM_TOKEN": token,
            "COLUMNS": "4000",
            "no_proxy": "*",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = run.communicate(timeout=500)[0].decode()
    assert run.returncode == HOSTS_FAILED, said
    assert token not in said
    _, _, after = said.partition("changed  failed")
    lines = [line.strip() for line in after.splitlines() if line.strip()]
    outcomes = {line.split()[0]: line.split()[1] for line in lines if ":" not in line}
    assert outcomes.pop("host1") == "ready", said
    assert outcomes.keys() == LINES.keys()
    assert {outcomes.pop("absent"), outcomes.pop("stranger")} == {"unreachable"}
    assert set(outcomes.values()) == {"failed"}
    told = {name: rest for name, _, rest in (line.partition(": ") for line in lines if ":" in line)}
    assert told.keys() == LINES.keys(), said
    for name, parts in LINES.items():
        for part in parts:
            assert part in told[name], (name, told[name])
    controller.wait_for("SELECT host_name FROM workers WHERE gateway_id IS NOT NULL", [("host1",)])
