"""Reports of tests: the hour that they are about, and who prints them."""

from __future__ import annotations

import contextlib
import datetime as dt

import psutil

#: A whole hour that lies in the past: what is due in it has settled.
HOUR = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
END = HOUR + dt.timedelta(hours=1)


def printing(parent: int) -> list[psutil.Process]:
    """Return the children of a process that print."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "controller.reports.render" in process.cmdline():
                found.append(process)
    return found
