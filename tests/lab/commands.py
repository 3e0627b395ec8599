"""Calls of the system's tools, with their output in the error when they fail."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import LabError

#: Where mount, ip and debootstrap live; an ordinary PATH may lack the sbin folders.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with the sbin folders on PATH, and `extra` on top."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}", **(extra or {})}


def call(
    argv: Sequence[str | Path],
    *,
    timeout: float = 60,
    text_input: str | None = None,
    extra_environment: Mapping[str, str] | None = None,
) -> str:
    """Run `argv` and return its standard output.

    Raises LabError with the end of what the program said when it fails, is missing or takes too long.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=text_input,
            stdin=subprocess.DEVNULL if text_input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment(extra_environment),
        )
    except FileNotFoundError as error:
        raise LabError(
            f"{words[0]} is not installed; see docs/how-to/provision.md for the Debian packages."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{shlex.join(words)}` did not end within {timeout:.0f} s.") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"`{shlex.join(words)}` ended with {done.returncode}: {said}")
    return done.stdout
