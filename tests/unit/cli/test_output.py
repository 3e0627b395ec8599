"""Files that commands write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.cli.output import whole_file


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """It takes its name at the end; when the block fails, the older one stays and nothing is left beside it."""
    path = tmp_path / "r.pdf"
    with whole_file(path) as file:
        file.write(b"first")
    with pytest.raises(RuntimeError):
        _break_off(path)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def _break_off(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """A pipe stays a pipe: replacing `/dev/null` would break the machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(pipe) as file:
        file.write(b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
