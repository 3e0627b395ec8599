"""Logs of gateway and keeper: one line per event, which nothing that others sent can forge, and no flood of them."""

from __future__ import annotations

import logging
import sys

from controller.errors import StreamSwarmError
from streamswarm import logs
from streamswarm.targets import shown


class LineFormatter(logging.Formatter):
    """`2030-01-01 00:00:00,000 INFO controller.gateway: …`, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of a record; a traceback follows it, its line breaks escaped."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text} | {self.formatException(record.exc_info)}"
        return f"{self.formatTime(record)} {record.levelname} {record.name}: {shown(text, logs.LONGEST)}"


def set_up(level: str, log_format: str = "plain") -> None:
    """Send the logs of this process to standard error, in one of `streamswarm.logs.FORMATS`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.formatter(log_format, LineFormatter()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def reason(error: BaseException) -> str:
    """Return what an error says, in one line: of a wrapped one what the driver said, without advice for programmers."""
    inner = getattr(error, "orig", None) or error
    # Libraries that wrap errors in a text of their own ("Database error.") keep the telling one as the cause.
    if not isinstance(inner, StreamSwarmError) and inner.__cause__ is not None:
        inner = inner.__cause__
    return " ".join(str(inner).split()) or type(inner).__name__


class Trouble:
    """Something that is tried again and again: told when it fails, fails differently, and works again."""

    def __init__(self, log: logging.Logger, *, failing: str, working: str) -> None:
        self._log = log
        self._failing = failing
        self._working = working
        self._last: str | None = None

    def failed(self, why: str) -> None:
        """Log the failure, unless the last one was the same."""
        if why != self._last:
            self._log.warning("%s: %s", self._failing, why)
        self._last = why

    def worked(self) -> None:
        """Log that it works again, if it did not."""
        if self._last is not None:
            self._log.info("%s", self._working)
        self._last = None
