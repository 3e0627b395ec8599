"""A few workers are cut off without a word, as `make soak NAME=partition` does with fifty for ten minutes."""

from __future__ import annotations

import os

import pytest
from support.partition import needs, partition


@pytest.fixture
def _root() -> None:
    if needs():
        if os.environ.get("CI") == "true":
            pytest.fail(needs())
        pytest.skip(needs())


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_root")
def test_what_was_measured_while_the_network_was_cut_arrives_once() -> None:
    """Both ends keep connections that are dead; the workers are told as disconnected, measure on, and deliver everything."""
    seen = partition(workers=4, cut_s=30)
    assert seen.found.clean, f"not exactly once: {seen}"
    assert seen.ok, seen
    assert seen.waited >= 4 * 20, seen
