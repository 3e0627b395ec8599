"""The first schema: entities, result tables, and the tables of the task queue."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the frozen SQL as it stands, without looking for parameters in it."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    cursor.execute(SchemaManager.get_schema())
    cursor.close()
