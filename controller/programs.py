"""How the controller starts modules of its own environment as programs."""

from __future__ import annotations

import sys


def module_command(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """Return the command that runs a module of this environment, wherever one stands.

    Without `-P` a folder `web` or `worker` in which somebody happens to stand would be run instead of ours.
    """
    return [python, "-P", "-m", name, *arguments]
