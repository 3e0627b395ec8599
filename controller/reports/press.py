"""Has HTML printed to PDF by the confined child process, and tells in one message what went wrong."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from controller import assets
from controller.errors import StreamSwarmError
from controller.reports import render

_log = logging.getLogger(__name__)

#: What installs the libraries that WeasyPrint loads.
LIBRARIES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
_MIB = 1024 * 1024
_LONGEST_COMPLAINT = 2000
_SHORTER = "ask for a shorter range or fewer tests"


class PrintingError(StreamSwarmError):
    """A document could not be printed; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What printing one document may take."""

    #: Bytes of address space.
    memory: int = 1024 * _MIB
    #: Seconds, by the clock and of processor time.
    seconds: int = 120
    #: Bytes of the PDF, and of every other file.
    largest: int = 32 * _MIB


def print_pdf(document: str, limits: Limits | None = None) -> bytes:
    """Return a document as PDF; raises PrintingError."""
    limits = limits or Limits()
    with (
        tempfile.TemporaryDirectory(prefix="streamswarm-report-") as folder,
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as printed,
        tempfile.TemporaryFile() as complaints,
    ):
        source.write(document.encode("utf-8"))
        source.seek(0)
        code = _run(Path(folder), source, printed, complaints, limits)
        # The end is what counts: there stands the error, after a traceback of any length.
        complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - _LONGEST_COMPLAINT))
        complaint = complaints.read().decode("utf-8", "replace").strip()
        if code == 0:
            content = _read(printed, limits.largest)
            if content.startswith(b"%PDF-"):
                if complaint:
                    _log.warning("printing a report: %s", " | ".join(complaint.splitlines()))
                return content
        raise _explain(code, complaint, limits)


def _run(
    folder: Path, source: IO[bytes], printed: IO[bytes], complaints: IO[bytes], limits: Limits
) -> int | None:
    """Run the child; return its exit code, None when its time was over."""
    # No user's packages and no current folder among the places that modules come from, and of the variables only what
    # stands here: a bundle's libraries are found by one.
    command = [sys.executable, "-s", "-P", "-m", "controller.reports.render"]
    release = assets.release()
    libraries = {"PYTHONPATH": str(release / "lib")} if release is not None else {}
    command += [str(limits.memory), str(limits.seconds), str(limits.largest), str(os.getpid())]
    process = subprocess.Popen(
        command,
        stdin=source,
        stdout=printed,
        stderr=complaints,
        cwd=folder,
        env={
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "XDG_CACHE_HOME": str(folder),
            **libraries,
        },
        start_new_session=True,
    )
    try:
        return process.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(file: IO[bytes], most: int) -> bytes:
    file.seek(0)
    return file.read(most)


def _explain(code: int | None, complaint: str, limits: Limits) -> PrintingError:
    last = complaint.splitlines()[-1] if complaint else ""
    if code is None or code == -signal.SIGXCPU:
        return PrintingError(f"printing took longer than {limits.seconds} s and was ended", mend=_SHORTER)
    if code in (render.TOO_LARGE, -signal.SIGXFSZ):
        return PrintingError(f"the PDF would have more than {limits.largest // _MIB} MiB", mend=_SHORTER)
    if code == render.NO_LIBRARIES:
        return PrintingError(
            f"the keeper's host lacks what WeasyPrint needs to make PDFs: {last}",
            mend=f"install it there: sudo apt-get install {LIBRARIES} (and pip install 'streamswarm[controller]')",
        )
    if code == render.NO_MEMORY or code < 0 or "MemoryError" in last:
        how = f" (signal {-code})" if code < 0 else ""
        return PrintingError(
            f"printing needs more memory than the {limits.memory // _MIB} MiB that it may take{how}",
            mend=_SHORTER,
        )
    return PrintingError(
        f"printing failed: {last or f'exit code {code}'}",
        mend="the keeper's log has more; report it as a fault",
    )
