"""How many tasks a playbook of ours has for each host, so that a run of it can be shown as far as it has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

#: What a role's tasks are checked for before they run (`argument_specs`) is a task too, without an entry of its own.
VALIDATION = "Validating arguments against arg spec"
FACTS = "Gathering Facts"


@lru_cache(maxsize=32)
def count(playbook: Path) -> int:
    """Return how many tasks a host goes through when all is well; handlers are not among them, nor what mends a failure."""
    return sum(1 for _ in names(playbook))


def names(playbook: Path) -> Iterator[str]:
    """Yield the names of those tasks, in order. Follows imports, which are all that our playbooks use."""
    for play in _read(playbook):
        other = _argument(play, "import_playbook")
        if other is not None:
            yield from names(playbook.parent / str(other))
            continue
        roles = playbook.parent / "roles"
        if play.get("gather_facts", True):
            yield FACTS
        yield from _tasks(play.get("pre_tasks", ()), roles, roles)
        for role in play.get("roles", ()):
            yield from _role(roles, str(role if isinstance(role, str) else role["role"]), "main")
        yield from _tasks(play.get("tasks", ()), roles, roles)
        yield from _tasks(play.get("post_tasks", ()), roles, roles)


def _tasks(tasks: Sequence[Mapping[str, Any]], beside: Path, roles: Path) -> Iterator[str]:
    """Yield the names of a list of tasks whose imports lie `beside` it."""
    for task in tasks:
        file, role = _argument(task, "import_tasks"), _argument(task, "import_role")
        if file is not None:
            yield from _tasks(_read(beside / str(file)), beside, roles)
        elif role is not None:
            yield from _role(roles, str(role["name"]), str(role.get("tasks_from", "main")))
        elif "block" in task:
            yield from _tasks(task["block"], beside, roles)
            yield from _tasks(task.get("always", ()), beside, roles)
        elif _argument(task, "meta") is None:
            yield str(task["name"])


def _role(roles: Path, name: str, entry: str) -> Iterator[str]:
    folder = roles / name
    checked = _read(folder / "meta" / "argument_specs.yml")["argument_specs"]
    if entry in checked:
        yield f"{VALIDATION} '{entry}'"
    tasks = folder / "tasks"
    yield from _tasks(_read(tasks / f"{entry}.yml"), tasks, roles)


def _argument(task: Mapping[str, Any], module: str) -> Any:
    """Return what a task of Ansible's own module is told; None when it is another."""
    return task.get(f"ansible.builtin.{module}")


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8")) or []
