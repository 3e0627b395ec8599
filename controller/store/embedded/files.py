"""Private files and folders of the embedded server."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from pathlib import Path

from controller.errors import ConfigurationError

SOCKET_FILE = ".s.PGSQL.5432"
#: `sun_path` of a Unix socket has 108 bytes, the last a NUL.
_SOCKET_PATH_LIMIT = 107


def socket_dir(data_dir: Path, uid: int) -> Path:
    """Return the private folder of the socket: in the data folder, or a short one where that is too long."""
    inside = data_dir / "postgres-socket"
    if len(os.fsencode(inside / SOCKET_FILE)) <= _SOCKET_PATH_LIMIT:
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(f"/tmp/streamswarm-{uid}-{digest}")  # noqa: S108  checked for owner and mode before use


def private_folder(path: Path, account: pwd.struct_passwd) -> None:
    """Make a folder that only the account may enter; refuse one that somebody else has put there."""
    try:
        path.mkdir(mode=0o700)
        if os.geteuid() != account.pw_uid:
            os.chown(path, account.pw_uid, account.pw_gid)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.pw_uid:
        raise ConfigurationError(
            f"the socket folder {path} is not a folder of user `{account.pw_name}`", mend=f"remove {path}"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def tail(path: Path, *, since: int) -> str:
    """Return what a file holds from that position on."""
    with path.open("rb") as file:
        file.seek(since)
        return file.read().decode("utf-8", "replace")
