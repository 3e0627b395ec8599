"""Logs of the dashboard: one line per event, nothing that a client sent can forge a line, and no secrets."""

from __future__ import annotations

import logging
import re
from typing import Any

from controller.store.commands.login_links import PATH
from controller.store.commands.tokens import PREFIX
from streamswarm import logs
from streamswarm.targets import shown

_SECRETS = re.compile(rf"({re.escape(PATH)}|\b{re.escape(PREFIX)})[A-Za-z0-9_%-]+")

ACCESS_FORMAT = '%(h)s "%(r)s" %(s)s %(b)s B %(M)s ms'


class LineFormatter(logging.Formatter):
    """`2030-01-01 00:00:00,000 INFO web: …`, with control characters escaped and secrets left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of a record; a traceback follows it, its line breaks escaped."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text} | {self.formatException(record.exc_info)}"
        return (
            f"{self.formatTime(record)} {record.levelname} {record.name}: "
            f"{shown(without_secrets(text), logs.LONGEST)}"
        )


def without_secrets(text: str) -> str:
    """Return a text in which login links and tokens are cut short."""
    return _SECRETS.sub(r"\1…", text)


def form(log_format: str) -> logging.Formatter:
    """Return the formatter for one of `streamswarm.logs.FORMATS`."""
    return logs.formatter(log_format, LineFormatter(), clean=without_secrets)


def configuration(level: str, log_format: str = "plain") -> dict[str, Any]:
    """Return the configuration of `logging` for the server and the application: everything on stderr."""
    quiet = {"level": level.upper(), "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": form, "log_format": log_format}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": quiet, "gunicorn.access": quiet},
    }
