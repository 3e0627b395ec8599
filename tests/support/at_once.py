"""Threads that start at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Call all functions at the same time and return what they returned; raises what the first faulty one raised."""
    start = threading.Barrier(len(calls))

    def call(function: Callable[[], T]) -> T:
        start.wait(timeout=30)
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))
