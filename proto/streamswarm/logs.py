"""Forms of log lines that every process shares: JSON lines, and priorities that systemd's journal understands.

What a plain line looks like is each program's own. Whatever the form, a record is one line, which nothing that others
sent can forge.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable

#: What `log_format` may be.
FORMATS = ("plain", "json")
#: Characters of a message, and of a traceback, that are written.
LONGEST = 4000
#: The least level of each syslog priority, by sd-daemon(3); there is no Python level for `notice` and `alert`.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


class JsonFormatter(logging.Formatter):
    """`{"time": "2030-01-01T00:00:00.000Z", "level": "info", "logger": "…", "message": "…"}` and, after errors, `exception`.

    Everything beyond ASCII and all control characters are escaped, as JSON does. `clean` takes out what must not be
    written, such as secrets.
    """

    def __init__(self, clean: Callable[[str], str] = str) -> None:
        super().__init__()
        self._clean = clean

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of a record."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": self._text(record.getMessage()),
        }
        if record.exc_info:
            values["exception"] = self._text(self.formatException(record.exc_info))
        return json.dumps(values)

    def _text(self, text: str) -> str:
        cleaned = self._clean(text)
        return cleaned if len(cleaned) <= LONGEST else cleaned[: LONGEST - 1] + "…"


class PriorityFormatter(logging.Formatter):
    """Another formatter's line behind its priority, `<4>` for a warning: `journalctl -p warning` works by it."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the inner formatter's line with its prefix."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)
        return f"<{priority}>{self._inner.format(record)}"


def formatter(
    log_format: str, plain: logging.Formatter, *, clean: Callable[[str], str] = str
) -> logging.Formatter:
    """Return the formatter for lines on standard error: JSON, or plain, with priorities where the journal reads them."""
    if log_format == "json":
        return JsonFormatter(clean)
    return PriorityFormatter(plain) if goes_to_journal() else plain


def goes_to_journal() -> bool:
    """Whether standard error is the stream to the journal that systemd gave this service (systemd.exec(5), JOURNAL_STREAM).

    The variable alone says nothing: a process whose output goes to a file has it from its parent.
    """
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"
