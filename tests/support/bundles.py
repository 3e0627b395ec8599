"""Bundles made beforehand: in the laboratory's network there is no package index."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.hosts import Host

_DESCRIBE = Path(__file__).parents[2] / "playbooks/roles/worker/files/describe_platform.py"


def make_bundle(program: Path, host: Host, environment: Mapping[str, str]) -> None:
    """Have `streamswarm` make the bundle for a host, where this environment keeps bundles."""
    platform = json.loads(host.ssh("python3", "-c", shlex.quote(_DESCRIBE.read_text(encoding="utf-8"))))
    options = [word for name, value in platform.items() for word in (f"--{name}", value)]
    subprocess.run(
        [program, "fleet", "bundle", *options], env=environment, check=True, timeout=300, capture_output=True
    )
