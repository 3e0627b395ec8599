"""Keepers in tests: a small world to plan for, and keepers as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.keepers import Keepers, World

from controller.settings import Settings


@pytest.fixture
def world(engine: Engine) -> World:
    """An empty world on a fresh database."""
    return World(engine)


@pytest.fixture
def keepers(settings: Settings, tmp_path: Path) -> Iterator[Keepers]:
    """Keeper processes on the fresh database."""
    keepers = Keepers(settings, tmp_path / "keepers.log")
    yield keepers
    keepers.end()
