"""Settings, the data folder and the room on its disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from controller.errors import ConfigurationError
from controller.settings import Settings
from streamswarm.findings import Finding, ok, wrong

_MIB = 1024 * 1024
#: With an embedded database: its write-ahead log alone may grow to 2 GiB.
_LEAST_FREE_WITH_DATABASE = 2048 * _MIB
_LEAST_FREE = 100 * _MIB


def settings(found: Settings) -> Finding:
    """Say whether the settings, which could be read, can be used together."""
    try:
        found.check()
    except ConfigurationError as error:
        return wrong("settings", error.message, error.mend)
    return ok("settings", f"they can be read and used; data folder {found.data_dir}")


def data_folder(found: Settings) -> Iterator[Finding]:
    """Yield whether the data folder can be used, and whether its disk has room."""
    name, folder = "data folder", found.data_dir
    try:
        mode = folder.stat().st_mode
        free = shutil.disk_usage(folder).free
    except OSError as error:
        mend = "start StreamSwarm once (`streamswarm up`), or mend STREAMSWARM_DATA_DIR"
        yield wrong(name, f"{folder} cannot be used: {error.strerror}", mend)
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield wrong(
            name, f"{folder} cannot be written by this account", "call this as the folder's owner or as root"
        )
    elif mode & 0o022:
        yield wrong(name, f"{folder} can be written by other accounts", f"chmod go-w {folder}")
    else:
        yield ok(name, f"{folder} can be written, by its owner alone")
    least = _LEAST_FREE if found.database_url else _LEAST_FREE_WITH_DATABASE
    text = f"{free / _MIB:,.0f} MiB are free on the disk of {folder}"
    if free < least:
        yield wrong(
            "disk", f"{text}; {least // _MIB:,} are wanted", "make room, or lower STREAMSWARM_RETENTION_DAYS"
        )
    else:
        yield ok("disk", text)
