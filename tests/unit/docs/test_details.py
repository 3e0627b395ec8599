"""Each kind's page names what a run's detail may have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamswarm import contract

WORKER = Path(__file__).parents[3] / "worker"
#: Where a kind fills its detail beside its own module, and entries whose names are not written there.
ELSEWHERE = {
    "dns": ["evaluation/dns_answers.py"],
    "http": ["http/summary.py"],
    "ping": ["evaluation/sweeps.py"],
    "qos": ["marking.py"],
}
BY_VARIABLE = {
    "dns": {"wrong_answers", "unanswered", "not_sent"},
    "http": {"hops"},
    "ping": {"answering", "silent"},
    "system": {"disks_without_answer"},
    "tcp": {"failures", "not_tried"},
}


def entries(path: Path) -> Iterator[str]:
    """Yield the names that a module gives to entries of a detail."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: ast.expr | None = None
        if isinstance(node, ast.Subscript) and is_detail(node.value):
            found = node.slice
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_detail(node.func.value)
        ):
            found = node.args[0] if node.args and node.func.attr == "setdefault" else None
        elif isinstance(node, ast.AnnAssign) and is_detail(node.target) and isinstance(node.value, ast.Dict):
            yield from (key.value for key in node.value.keys if isinstance(key, ast.Constant))
        if isinstance(found, ast.Constant):
            yield str(found.value)


def is_detail(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_") == "detail"


@pytest.mark.parametrize("kind", contract.kinds())
def test_every_entry_of_a_detail_is_told(kind: str) -> None:
    """In the text above the kind's parameters."""
    paths = [WORKER / f"probes/{kind}.py", *(WORKER / name for name in ELSEWHERE.get(kind, ()))]
    names = {name for path in paths for name in entries(path)} | BY_VARIABLE.get(kind, set())
    assert names, "each kind has one"
    text = contract.kind(kind).manual
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_entries_are_found(tmp_path: Path) -> None:
    """However they are written."""
    (tmp_path / "kind.py").write_text(
        'detail: dict[str, int] = {"one": 1}\ndetail["two"] = 2\nself._detail["three"] = 3\n'
        'self._detail.setdefault("four", {})\ndetail[name] = 5\nother["six"] = 6\n'
    )
    assert sorted(entries(tmp_path / "kind.py")) == ["four", "one", "three", "two"]
