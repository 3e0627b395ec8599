"""Every link between the documents leads somewhere, and every picture is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"""\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)="([^"]+)\"""")
MOST_BYTES = 150_000


def targets(page: Path) -> list[str]:
    """Return what a page links to or shows."""
    return [first or second for first, second in LINK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that are there."""
    broken = [
        target for target in targets(page) if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_picture_is_shown_and_small() -> None:
    """Nothing lies among the pictures that no page shows, and none makes a clone slow."""
    shown = {(page.parent / target).resolve() for page in PAGES for target in targets(page)}
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    assert [path.name for path in pictures if path not in shown] == []
    assert [path.name for path in pictures if path.stat().st_size > MOST_BYTES] == []
