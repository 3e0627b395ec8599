"""What assistive technology finds on a page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

AXE = Path(__file__).parents[1] / "integration" / "web" / "pages" / "vendor" / "axe.min.js"


def violations(page: Page) -> list[str]:
    """Return what axe finds against WCAG 2.2 A and AA."""
    # Playwright runs it in the page's own world past the policy, as a browser's extension would.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']})"
    )
    return [
        f"{item['id']} ({item['impact']}): {[node['html'][:200] for node in item['nodes'][:3]]}"
        for item in found["violations"]
    ]
