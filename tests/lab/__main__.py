"""Boot hosts to try things on: `make lab`, or `PYTHONPATH=tests python -m lab [--hosts N] [-- COMMAND …]`.

Without a command a shell opens in the controller's network; when it ends, the laboratory is taken down.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from lab.base import apt_mirror, base_key, cache_folder
from lab.errors import LabError
from lab.fixtures import missing
from lab.laboratory import Lab


def main() -> int:
    """Boot, run the command or a shell beside the hosts, take down; returns the command's exit code."""
    arguments = _arguments()
    if reason := missing():
        _say(f"No laboratory here: {reason}.")
        return 2
    try:
        if not (cache_folder() / f"base-{base_key(apt_mirror().suite)}").is_dir():
            _say("Making the base system once; this takes about a minute.")
        with Lab.boot(arguments.hosts) as lab:
            return _visit(lab, arguments.command)
    except LabError as error:
        _say(str(error))
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab", description="Boot real hosts in network namespaces.")
    parser.add_argument("--hosts", type=int, default=3, help="how many hosts (default: 3)")
    parser.add_argument("command", nargs="*", help="what to run beside them (default: a shell)")
    return parser.parse_args()


def _visit(lab: Lab, command: list[str]) -> int:
    for host in lab.hosts:
        _say(f"{host.name}  {host.address}  {host.address6}")
    _say(f"controller  {lab.address}  {lab.address6}\ninventory  {lab.inventory}")
    guest = lab.popen(
        command or [os.environ.get("SHELL", "/bin/sh")],
        extra_environment={"STREAMSWARM_LAB_INVENTORY": str(lab.inventory)},
        stdin=None,
    )
    try:
        return guest.wait()
    except KeyboardInterrupt:
        try:
            return guest.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return 130


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
