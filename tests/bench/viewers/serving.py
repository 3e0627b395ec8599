"""Serves a bare Flask application beside the product, by gunicorn with as many threads."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from bench.viewers.asking import Line
from support.surroundings import clean_environment, free_addresses, wait_for

_PATIENCE_S = 30.0


@contextlib.contextmanager
def bare(module: str, url: str, threads: int) -> Iterator[tuple[psutil.Process, str]]:
    """Serve the application of a module beside this one, with a database, until the block ends; yields process and address."""
    (address,) = free_addresses(1)
    options = ["--worker-class", "gthread", "--workers", "1", "--threads", str(threads)]
    options += ["--keep-alive", "15", "--log-level", "warning", "--no-control-socket"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", address, *options, f"{module}:app"],
        env=clean_environment(BARE_DATABASE_URL=url),
        cwd=Path(__file__).parent,
    )
    try:
        yield psutil.Process(process.pid), address
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def wait_answered(address: str, question: bytes) -> None:
    """Wait until a server answers a question."""
    wait_for(f"the answer at {address}", lambda: _answers(address, question), _PATIENCE_S)


def _answers(address: str, question: bytes) -> bool:
    try:
        line = Line(address)
    except OSError:
        return False
    line.answer(question)
    line.close()
    return True
