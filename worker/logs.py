"""Logs: one line per event on stderr, with control characters escaped so that nobody can forge a line."""

from __future__ import annotations

import logging
import sys
import time

from streamswarm import logs
from streamswarm.targets import shown


class _LineFormatter(logging.Formatter):
    """`2030-01-01T00:00:00.000Z info session: connected to …`."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage()
        if record.exc_info:
            text = f"{text} | {self.formatException(record.exc_info)}"
        name = record.name.removeprefix("worker.")
        return (
            f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {name}: {shown(text, logs.LONGEST)}"
        )


def set_up_logs(level: str, log_format: str = "plain") -> None:
    """Send the logs of this process to stderr, in one of `streamswarm.logs.FORMATS`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.formatter(log_format, _LineFormatter()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
