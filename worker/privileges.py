"""Nothing that probes runs as root: become another user, keeping only the right to send raw packets."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import ConfigurationError

if TYPE_CHECKING:  # Windows has no such module
    import pwd

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
CAP_NET_RAW = 13
_CAPABILITY_VERSION_3 = 0x20080522
# How entries of the data folder are opened; Windows has none of these and never gets there.
_FOLDER = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


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
    become(entry)


def become(entry: pwd.struct_passwd) -> None:
    """As root, become a user for good, with CAP_NET_RAW where the system gives it and no other right of root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    _keep_only_raw_packets(libc)
    os.environ.update({"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name})


def _give(folder: Path, uid: int, gid: int) -> None:
    """Make the data folder and give what root owns of it to a user; raises ConfigurationError for what is others'.

    The user may be at work in there while root walks through it. So every entry is held open while it is looked at
    and given away, no link is followed, and a file that also lies elsewhere is not given away.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(folder, _FOLDER)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} is no folder: {error.strerror}",
            mend="set `data_dir` to the folder itself, not to a link to it",
        ) from error
    try:
        _give_open(handle, folder, uid, gid)
        _give_content(handle, folder, uid, gid)
    finally:
        os.close(handle)


def _give_content(folder: int, path: Path, uid: int, gid: int) -> None:
    for name in os.listdir(folder):
        # It may be gone by now, or be something else than it was: then it is not root's, and no concern of ours.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                continue
            handle = os.open(name, _FOLDER if stat.S_ISDIR(mode) else _FILE, dir_fd=folder)
            try:
                _give_open(handle, path / name, uid, gid)
                if stat.S_ISDIR(mode):
                    _give_content(handle, path / name, uid, gid)
            finally:
                os.close(handle)


def _give_open(handle: int, path: Path, uid: int, gid: int) -> None:
    found = os.fstat(handle)
    if found.st_uid == uid:
        return
    if found.st_uid != 0:
        raise ConfigurationError(
            f"{path} belongs to another user (uid {found.st_uid}) than the one that the worker becomes (uid {uid})",
            mend="give it to that user, or set `data_dir` to another folder",
        )
    if stat.S_ISREG(found.st_mode) and found.st_nlink != 1:
        raise ConfigurationError(
            f"{path} is root's and has {found.st_nlink} names: under another it may be no file of the worker's",
            mend=f"look at what it is, then remove {path}",
        )
    os.fchown(handle, uid, gid)


def _keep_only_raw_packets(libc: ctypes.CDLL) -> None:
    """Set all capabilities to CAP_NET_RAW alone; where the system does not give it, to none (ping then says so)."""
    bit = 1 << CAP_NET_RAW
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(_Data(bit, bit, bit), _Data(0, 0, 0))
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        data = (_Data * 2)(_Data(0, 0, 0), _Data(0, 0, 0))
        libc.capset(ctypes.byref(header), ctypes.byref(data))
        return
    # Programs that a probe starts need it too.
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0)
