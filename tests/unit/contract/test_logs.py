"""JSON lines are whole and cannot be forged; the journal gets priorities where it reads them, and nobody else does."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamswarm.logs import LONGEST, JsonFormatter, PriorityFormatter, formatter

_FORGED = 'x\r\n{"level": "info"}\x1b[2J\u2028'


def _record(message: str, level: int = logging.WARNING, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "worker.session", "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
        | more
    )


def test_a_json_line_holds_what_was_said() -> None:
    """Instant in UTC, level, logger, process and message; no `exception` where there was none."""
    line = JsonFormatter().format(_record("took %d ms", args=(3,), created=1893456000.25, msecs=250.0))
    assert json.loads(line) == {
        "time": "2030-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "worker.session",
        "process": os.getpid(),
        "message": "took 3 ms",
    }


def test_nothing_makes_a_second_json_line() -> None:
    """Line breaks, escapes and separators in a message and in a traceback come back as they were, in one plain line."""
    try:
        raise ValueError(_FORGED)
    except ValueError:
        line = JsonFormatter().format(_record(_FORGED, exc_info=sys.exc_info()))
    assert line.isascii()
    assert line.isprintable()
    values = json.loads(line)
    assert values["message"] == _FORGED
    assert values["exception"].startswith("Traceback")
    assert values["exception"].endswith(_FORGED)


def test_a_json_line_is_cleaned_and_cut() -> None:
    """Secrets go before the text is cut, in the exception too."""
    clean = JsonFormatter(lambda text: text.replace("secret", "…"))
    try:
        raise ValueError("secret")
    except ValueError:
        values = json.loads(clean.format(_record("secret" + "y" * LONGEST, exc_info=sys.exc_info())))
    assert values["message"] == "…" + "y" * (LONGEST - 2) + "…"
    assert values["exception"].endswith("ValueError: …")


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(50, "<2>"), (40, "<3>"), (35, "<4>"), (30, "<4>"), (20, "<6>"), (10, "<7>"), (5, "<7>")],
)
def test_priorities_are_those_of_syslog(level: int, prefix: str) -> None:
    """sd-daemon(3): 2 critical, 3 error, 4 warning, 6 informational, 7 debug."""
    assert PriorityFormatter(logging.Formatter("%(message)s")).format(_record("m", level)) == f"{prefix}m"


_LOG = """
import logging, sys
from streamswarm.logs import formatter
handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(formatter(sys.argv[1], logging.Formatter("%(message)s")))
logging.getLogger().handlers[:] = [handler]
logging.warning("hot")
"""


def _logged(path: Path, log_format: str, journal_stream: str | None) -> str:
    """Return what a process writes whose standard error is a file that the variable may name."""
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    with path.open("wb") as file:
        if journal_stream is not None:
            found = os.fstat(file.fileno())
            environment["JOURNAL_STREAM"] = journal_stream.format(dev=found.st_dev, ino=found.st_ino)
        subprocess.run(
            [sys.executable, "-c", _LOG, log_format], stderr=file, env=environment, timeout=60, check=True
        )
    return path.read_text()


def test_only_the_journal_gets_priorities(tmp_path: Path) -> None:
    """A file does not, nor one whose process has inherited the variable of another stream, nor do JSON lines."""
    path = tmp_path / "log"
    assert _logged(path, "plain", "{dev}:{ino}") == "<4>hot\n"
    assert _logged(path, "plain", None) == "hot\n"
    assert _logged(path, "plain", "9:{ino}") == "hot\n"
    assert json.loads(_logged(path, "json", "{dev}:{ino}"))["message"] == "hot"


def test_a_closed_standard_error_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that were started without one still set their logs up."""
    monkeypatch.setattr(sys, "stderr", None)
    plain = logging.Formatter()
    assert formatter("plain", plain) is plain
