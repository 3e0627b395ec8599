"""A later release whose migration adds a column to the results of `ping`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controller import assets

_MIGRATION = """
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    cursor = op.get_bind().connection.cursor()
    cursor.execute("ALTER TABLE result_ping ADD COLUMN later integer")
    cursor.close()
"""


def install_later_release(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let upgrades find one migration more than there is, which runs its SQL as the others do."""
    shutil.copytree(assets.migrations(), folder)
    before = max(script.name[:4] for script in (folder / "versions").glob("[0-9]*.py"))
    revision = f"{int(before) + 1:04}"
    (folder / "versions" / f"{revision}_later.py").write_text(
        _MIGRATION.format(revision=revision, before=before), encoding="utf-8"
    )
    monkeypatch.setattr(assets, "migrations", lambda: folder)
