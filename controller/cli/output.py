"""Files that commands write: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from controller.errors import ConfigurationError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when the block ends well; until then an older one stays as it was.

    What stands there and is no file (`/dev/null`, a pipe) is written to and never replaced.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    with _beside(path) as (file, name):
        yield file
        mask = os.umask(0)
        os.umask(mask)
        name.chmod(0o666 & ~mask)


@contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that only its owner can read and that takes its name when the block ends well, on disk by then."""
    if path.exists():
        raise ConfigurationError(f"{path} is there already", mend="name another file, or remove it")
    with _beside(path) as (file, _):
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a private file beside `path` that replaces it when the block ends well, and is gone otherwise."""
    try:
        number, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", mend="name a place where you may write"
        ) from error
    name = Path(made)
    try:
        with os.fdopen(number, "wb") as file:
            yield file, name
        name.replace(path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
