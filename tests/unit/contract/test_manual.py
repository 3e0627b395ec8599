"""The pages about the kinds say what the contract says, all of it, and what is committed is what it says now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from streamswarm import contract, manual

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """The generator's module, which is no part of the product."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "proto/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_pages_are_fresh(pages: ModuleType) -> None:
    """None is missing, stale or left over."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in pages.FOLDER.glob("*.md")}
    assert committed == pages.pages(), "run `make proto`"


@pytest.mark.parametrize("kind", contract.kinds())
def test_every_parameter_and_metric_is_on_its_page(kind: str) -> None:
    """With its description, once, and what follows from its other options."""
    known = contract.kind(kind)
    page = manual.page(known)
    parameters = [row for table in page.parameters for row in table.rows]
    assert sorted(row[0] for row in parameters) == sorted(item.name for item in known.parameters)
    told = {row[0]: row[-1] for row in parameters}
    for item in known.parameters:
        assert told[item.name].startswith(item.description)
        assert ("an expression that workers cannot use" in told[item.name]) == bool(item.regular_expression)
    metrics = [row for table in page.metrics for row in table.rows]
    expected = [*known.metrics, *(metric for child in known.children for metric in child.metrics)]
    assert sorted(row[0] for row in metrics) == sorted(metric.name for metric in expected)
    for metric in expected:
        texts = [row[4] for row in metrics if row[0] == metric.name and row[4].startswith(metric.description)]
        assert texts
        assert all(("tell the event" in text) == bool(metric.event) for text in texts)
    for table in (*page.parameters, *page.metrics):
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title


@pytest.mark.parametrize("kind", contract.kinds())
def test_the_comments_in_the_sources_are_the_text(kind: str) -> None:
    """Every kind has one above its parameters, and it reaches the page."""
    text = contract.kind(kind).manual
    assert text, f"write a comment above the parameters of `{kind}`"
    for paragraph in text.split("\n\n"):
        assert paragraph in manual.page(contract.kind(kind)).paragraphs
        assert "\n" not in paragraph


def test_values_are_said_as_they_are_written() -> None:
    """Defaults, ranges, choices, lists and lengths."""
    rows = {row[0]: row for table in manual.page(contract.kind("dns")).parameters for row in table.rows}
    assert rows["timeout_ms"][2:5] == ("ms", "2000", "10 to 60000")
    assert rows["recursion_desired"][3:5] == ("true", "true or false")
    assert rows["valid_rcodes"][3:5] == (
        "NOERROR",
        "a list, of NOERROR, NXDOMAIN, SERVFAIL, REFUSED, NOTIMP, FORMERR, YXDOMAIN, NOTAUTH, BADVERS",
    )
    assert rows["address_family"][3:5] == ("any", "one of any, ipv4, ipv6")
    assert rows["source"][3:5] == ("", "up to 63 characters")


def test_tables_hold_no_bar_that_is_no_border(pages: ModuleType) -> None:
    """Formulas such as |D| would break a row apart."""
    text = pages.markdown(manual.page(contract.kind("ping")))
    assert "J += (\\|D\\| - J) / 16" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}
