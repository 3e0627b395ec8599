"""What somebody waits for goes before the look over everything, which would take half of the interpreter's time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Precedence:
    """Of threads of one process: some have it, others give way to them between two portions of their work."""

    def __init__(self, *, longest_s: float = 2.0) -> None:
        """Nobody gives way for longer than `longest_s` at a time: there may always be somebody with precedence."""
        self._longest_s = longest_s
        self._condition = threading.Condition()
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have others give way."""
        with self._condition:
            self._taken += 1
        try:
            yield
        finally:
            with self._condition:
                self._taken -= 1
                self._condition.notify_all()

    def give_way(self) -> bool:
        """Wait while somebody has precedence; False when somebody still has."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._taken, timeout=self._longest_s)
