"""What is asked of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


@contextmanager
def heard(of: Engine | type[Engine]) -> Iterator[list[tuple[str, Any]]]:
    """Yield the statements that are run within the block, with their values: of one engine, or of all by `Engine` itself."""
    found: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        found.append((statement, values))

    event.listen(of, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(of, "before_cursor_execute", note)
