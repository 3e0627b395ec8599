"""The pages about suites name every field of a suite and every option of `streamswarm run`, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import click

from controller.cli.run import run
from controller.suites.suite import DESTINATION_FIELDS, SUITE_FIELDS, TEST_FIELDS

DOCS = Path(__file__).parents[3] / "docs"
SUITE, TEST = (DOCS / "reference/suites.md").read_text(encoding="utf-8").split("\n## A test\n")
GUIDES = [(DOCS / f"how-to/{name}.md").read_text(encoding="utf-8") for name in ("suites", "agentless")]


def first_cells(text: str) -> list[str]:
    """Return the names in the first column of tables."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_field_of_a_suite_is_in_the_reference() -> None:
    """Of the whole, of its destinations, of its tests."""
    assert first_cells(SUITE) == list(SUITE_FIELDS)
    [row] = [line for line in SUITE.splitlines() if line.startswith("| `destinations`")]
    assert re.findall(r"`(\w+)`", row)[1:] == list(DESTINATION_FIELDS)
    assert sorted(first_cells(TEST.split("\n## ", 1)[0])) == sorted(TEST_FIELDS)


def test_every_option_of_run_is_in_a_guide() -> None:
    """And none that there is not."""
    options = {
        name
        for option in run.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }
    told = {name for text in GUIDES for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert options <= told, options - told
    tables = {cell.split()[0] for text in GUIDES for cell in first_cells(text) if cell.startswith("--")}
    assert tables <= options
