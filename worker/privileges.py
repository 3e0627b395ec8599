"""Nothing that probes runs as root: become another user, keeping only the right to send raw packets."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from worker.errors import ConfigurationError

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_NET_RAW = 13
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def leave_root(user: str, data_dir: Path) -> None:
    """As root, become `user`, owner of the data folder; otherwise do nothing.

    Raises ConfigurationError when there is no such user, or none is named.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    if not user:
        raise ConfigurationError(
            "the worker does not run as root: whatever a probe stumbles over would have the whole host",
            mend="start it as an ordinary user, as its systemd unit does, or set `user` in the configuration",
        )
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigurationError(
            f"there is no user `{user}` on this host",
            mend=f"useradd --system --shell /usr/sbin/nologin {user}",
        ) from error
    if entry.pw_uid == 0:
        raise ConfigurationError(f"`user: {user}` is root under another name", mend="name an ordinary user")
    _give(data_dir, entry.pw_uid, entry.pw_gid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    _keep_only_raw_packets(libc)
    os.environ.update({"HOME": entry.pw_dir, "USER": user, "LOGNAME": user})


def _give(folder: Path, uid: int, gid: int) -> None:
    """Make the data folder and give it with its content to a user; links are not followed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chown(folder, uid, gid)
    for root, names, files in os.walk(folder):
        for name in (*names, *files):
            with contextlib.suppress(FileNotFoundError):
                os.chown(Path(root) / name, uid, gid, follow_symlinks=False)


def _keep_only_raw_packets(libc: ctypes.CDLL) -> None:
    """Set all capabilities to CAP_NET_RAW alone; where the system does not give it, to none (ping then says so)."""
    bit = 1 << _CAP_NET_RAW
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(_Data(bit, bit, bit), _Data(0, 0, 0))
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        data = (_Data * 2)(_Data(0, 0, 0), _Data(0, 0, 0))
        libc.capset(ctypes.byref(header), ctypes.byref(data))
        return
    # Programs that a probe starts need it too.
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_RAW, 0, 0)
