"""The page of benchmarks and soaks names what there is, and every field that a line of JSON can have."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/benchmarks.md").read_text(encoding="utf-8")
SHARED_FIELDS = {
    "bench": {"name", "value", "unit", "peer", "peer_value", "ratio", "goal", "ok"},
    "soak": {"name", "took_s", "ok"},
}
BENCHMARKS, SOAKS = PAGE.split("## Soaks\n")
MODULES = [path for sort in SHARED_FIELDS for path in sorted((ROOT / "tests" / sort).glob(f"{sort}_*.py"))]


def _rows(sort: str) -> dict[str, str]:
    """Rows of the table of what there is, by name; the table of shared fields has fewer columns."""
    part = {"bench": BENCHMARKS, "soak": SOAKS}[sort]
    found = re.findall(r"^\| `([a-z-]+)` \| (.+ \| .+ \| .*) \|$", part, re.MULTILINE)
    return dict(found)


def _fields(path: Path) -> set[str]:
    """The fields that a module writes out in the line it returns, which is the dictionary that has `ok`."""
    lines = [
        {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
    ]
    (fields,) = (line for line in lines if "ok" in line)
    return fields


@pytest.mark.parametrize("sort", SHARED_FIELDS)
def test_the_page_names_what_there_is(sort: str) -> None:
    """One row for each module, one module for each row, in order."""
    there = [
        path.stem.removeprefix(f"{sort}_").replace("_", "-") for path in MODULES if path.parent.name == sort
    ]
    assert list(_rows(sort)) == there


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_page_explains_every_field(path: Path) -> None:
    """A row speaks of every field of its line but those that all lines share."""
    sort = path.parent.name
    row = _rows(sort)[path.stem.removeprefix(f"{sort}_").replace("_", "-")]
    assert _fields(path) - SHARED_FIELDS[sort] - set(re.findall(r"`([a-z0-9_]+)`", row)) == set()
