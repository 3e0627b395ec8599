"""Prints what this Python runs on, as JSON. Written for any Python, so that one that is too old can say so.

Given the controller's time as an argument, in seconds since 1970, it also says how far this host's clock is ahead of it.
Given a folder and an account after that, it also says what of the worker is there already: that saves a connection for
each question.
"""

import fcntl
import json
import os
import platform
import pwd
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


def releases(folder):
    """Return the names of the releases that are whole."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    return sorted(name for name in names if os.path.isfile(os.path.join(folder, name, "release.json")))  # noqa: PTH113, PTH118


def comment(account):
    """Return the comment of an account, None where there is no such account."""
    try:
        return pwd.getpwnam(account).pw_gecos
    except KeyError:
        return None


def link(folder, name):
    """Return the whole release that a link leads to; empty when there is none."""
    try:
        release = os.path.basename(os.readlink(os.path.join(folder, name)))  # noqa: PTH115, PTH118, PTH119
    except OSError:
        return ""
    return release if release in releases(os.path.join(folder, "releases")) else ""  # noqa: PTH118


def cut_off(folder):
    """Return the whole release that a switch which was cut off began with, empty for one that is not there; else None."""
    try:
        with open(os.path.join(folder, "switching")) as file:  # noqa: PTH118, PTH123
            release = file.read(200).strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""
    return release if release in releases(os.path.join(folder, "releases")) else ""  # noqa: PTH118


def switches(folder):
    """Return whether a switch from one release to another is under way."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (IOError, OSError):  # noqa: UP024  two things in an old Python
        return True
    finally:
        os.close(handle)
    return False


said = {
    "python": ".".join(str(part) for part in sys.version_info[:3]),
    "architecture": platform.machine(),
    "libc": libc(),
}
if len(sys.argv) > 1:
    said["clock_ahead_s"] = round(time.time() - float(sys.argv[1]))
if len(sys.argv) > 3:
    said["systemd"] = os.path.isdir("/run/systemd/system")  # noqa: PTH112
    said["releases"] = releases(os.path.join(sys.argv[2], "releases"))  # noqa: PTH118
    said["current"] = link(sys.argv[2], "current")
    said["previous"] = link(sys.argv[2], "previous")
    said["cut_off"] = cut_off(sys.argv[2])
    said["switches"] = switches(sys.argv[2])
    said["account"] = comment(sys.argv[3])
sys.stdout.write(json.dumps(said) + "\n")
