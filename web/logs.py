"""Logs of the dashboard: one line per event, nothing that a client sent can forge a line, and no secrets."""

from __future__ import annotations

import logging
import re
from typing import Any

from controller.store.commands.login_links import PATH
from controller.store.commands.tokens import PREFIX
from streamswarm.targets import shown

_LONGEST = 4000
_SECRETS = re.compile(rf"({re.escape(PATH)}|\b{re.escape(PREFIX)})[A-Za-z0-9_%-]+")

ACCESS_FORMAT = '%(h)s "%(r)s" %(s)s %(b)s B %(M)s ms'


class LineFormatter(logging.Formatter):
    """`2030-01-01 00:00:00,000 INFO web: …`, with control characters escaped and secrets left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of a record; a traceback follows it, its line breaks escaped."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text} | {self.formatException(record.exc_info)}"
        text = _SECRETS.sub(r"\1…", text)
        return f"{self.formatTime(record)} {record.levelname} {record.name}: {shown(text, _LONGEST)}"


def configuration(level: str) -> dict[str, Any]:
    """Return the configuration of `logging` for the server and the application: everything on stderr."""
    quiet = {"level": level.upper(), "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": quiet, "gunicorn.access": quiet},
    }
