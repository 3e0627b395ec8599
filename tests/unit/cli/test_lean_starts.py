"""What a start does not load: on a small machine each of these costs a tenth of a second and more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_SEEN = "import sys, json; import {module}; print(json.dumps(sorted(sys.modules)))"
_TABLES = (
    "import controller.gateway.server, controller.keeper.app, web.serve; from controller.store.entities import Base; "
    "print(sum(name.startswith('rollup_') for name in Base.metadata.tables))"
)


def _said(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.mark.parametrize(
    ("module", "lacks"),
    [
        ("controller.cli.local", {"alembic", "sqlalchemy", "grpc", "numpy", "controller.local.supervisor"}),
        ("controller.local.supervisor", {"alembic"}),
        ("controller.gateway.server", {"alembic"}),
        ("controller.keeper.app", {"alembic"}),
        ("web.serve", {"alembic", "grpc", "numpy"}),
    ],
)
def test_a_start_loads_no_more_than_it_needs(module: str, lacks: set[str]) -> None:
    """Only an upgrade of the schema needs Alembic, and only `up` the supervisor."""
    assert lacks & set(json.loads(_said(_SEEN.format(module=module)))) == set()


def test_roll_up_tables_are_described_when_they_are_asked_for() -> None:
    """They have thousands of columns."""
    assert int(_said(_TABLES)) <= 1
