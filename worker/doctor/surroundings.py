"""As whom the doctor looks: as root it becomes the user that the daemon has."""

from __future__ import annotations

import os
import sys

from worker.config import WorkerConfig
from worker.errors import ConfigurationError
from worker.privileges import become


def become_worker(config: WorkerConfig) -> None:
    """As root, become the configured user, else the owner of the data folder; raises ConfigurationError without either.

    Files that SQLite makes beside the spool then belong to the daemon's user, and what may be read and sent is what
    the daemon may.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    import pwd

    try:
        entry = pwd.getpwnam(config.user) if config.user else pwd.getpwuid(os.lstat(config.data_dir).st_uid)
    except KeyError as error:
        whom = f"user `{config.user}`" if config.user else f"account that owns {config.data_dir}"
        raise ConfigurationError(
            f"there is no {whom} on this host", mend="make it, or provision the host again"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {config.data_dir} cannot be looked at: {error.strerror}",
            mend="provision the host, or name another `data_dir`",
        ) from error
    if entry.pw_uid == 0:
        raise ConfigurationError(
            f"the data folder {config.data_dir} belongs to root, and the worker does not run as root",
            mend="set `user` in the configuration, or give the folder to the worker's user",
        )
    become(entry)
