"""Templates keep to the content security policy: no inline scripts, styles or handlers, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[3] / "web"
TEMPLATES = sorted((WEB / "templates").rglob("*.html"))
OWN = sorted([*(WEB / "static" / "js").rglob("*.js"), *(WEB / "static" / "css").rglob("*.css")])
FORBIDDEN = {
    "an inline style": re.compile(r"\sstyle\s*=|<style", re.IGNORECASE),
    "an inline script": re.compile(r"<script(?![^>]*\ssrc=)", re.IGNORECASE),
    "an inline handler": re.compile(r"\son(?!ly=)[a-z]+\s*=\s*[\"']", re.IGNORECASE),
    "evaluated htmx": re.compile(r"hx-on|hx-vals=[\"']js:|hx-vars", re.IGNORECASE),
    "an address elsewhere": re.compile(r"(?:src|href|action)=[\"']https?:", re.IGNORECASE),
    "unescaped output": re.compile(r"\|\s*safe\b"),
}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.relative_to(WEB).as_posix())
def test_a_template_holds_nothing_that_the_policy_forbids(template: Path) -> None:
    """What the policy forbids is found here, before a browser refuses it."""
    text = template.read_text(encoding="utf-8")
    assert [what for what, pattern in FORBIDDEN.items() if pattern.search(text)] == []


@pytest.mark.parametrize("file", OWN, ids=lambda path: path.relative_to(WEB).as_posix())
def test_own_assets_load_nothing_from_elsewhere(file: Path) -> None:
    """Scripts and styles name no other host and make no code from text."""
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", text)


def test_the_rules_catch_what_they_are_for() -> None:
    """Each rule finds an example of what it forbids."""
    examples = [
        '<p style="color:red">',
        "<script>alert(1)</script>",
        '<a onclick="x()">',
        '<a hx-on:click="x()">',
        '<a href="https://example.org/">',
        "{{ text|safe }}",
    ]
    for example, pattern in zip(examples, FORBIDDEN.values(), strict=True):
        assert pattern.search(example), example
