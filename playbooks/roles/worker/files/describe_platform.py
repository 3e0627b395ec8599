"""Prints what this Python runs on, as JSON. Written for any Python, so that one that is too old can say so."""

import json
import os
import platform
import sys


def libc():
    """Return the C library and its version, for example glibc-2.36."""
    family, version = platform.libc_ver()
    if family == "glibc":
        return "glibc-" + ".".join(version.split(".")[:2])
    # musl says nothing through that call; its loader's name does.
    loaders = [name for name in os.listdir("/lib") if name.startswith("ld-musl-")]  # noqa: PTH208  runs on any Python
    return "musl-1.2" if loaders else "unknown"


sys.stdout.write(
    json.dumps(
        {
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "architecture": platform.machine(),
            "libc": libc(),
        }
    )
    + "\n"
)
