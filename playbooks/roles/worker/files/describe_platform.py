"""Prints what this Python runs on, as JSON. Written for any Python, so that one that is too old can say so.

Given the controller's time as an argument, in seconds since 1970, it also says how far this host's clock is ahead of it.
"""

import json
import os
import platform
import sys
import time


def libc():
    """Return the C library and its version, for example glibc-2.36."""
    family, version = platform.libc_ver()
    if family == "glibc":
        return "glibc-" + ".".join(version.split(".")[:2])
    # musl says nothing through that call; its loader's name does.
    loaders = [name for name in os.listdir("/lib") if name.startswith("ld-musl-")]  # noqa: PTH208  runs on any Python
    return "musl-1.2" if loaders else "unknown"


said = {
    "python": ".".join(str(part) for part in sys.version_info[:3]),
    "architecture": platform.machine(),
    "libc": libc(),
}
if len(sys.argv) > 1:
    said["clock_ahead_s"] = round(time.time() - float(sys.argv[1]))
sys.stdout.write(json.dumps(said) + "\n")
