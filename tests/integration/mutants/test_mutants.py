"""Mutants of the protocol: each breaks one rule of exactly once, and a test that guards the rule must notice.

A mutant is a change of sources in a copy of the tree. When the sources have moved on and its text is not found any
more, it fails loudly: then the mutant is to be written anew, for the same rule.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.surroundings import clean_environment

ROOT = Path(__file__).parents[3]
_SOURCES = ("controller", "worker", "web", "proto", "migrations", "playbooks", "tests", "pyproject.toml")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change, and who must notice it by what."""

    #: Path of the source, then pairs of what stands there, once, and what stands there instead.
    source: str
    changes: tuple[tuple[str, str], ...]
    #: The test that guards the rule.
    killer: str
    #: What the test says when it fails for the right reason.
    says: str


MUTANTS = {
    "acknowledge before commit": Mutant(
        source="controller/gateway/ingest.py",
        changes=(
            (
                "        groups = list(by_source.values())\n",
                "        groups = list(by_source.values())\n"
                "        for early in batches:\n            early.source.stored(early)\n",
            ),
        ),
        killer="tests/integration/gateway/test_ingest.py::test_nothing_is_acknowledged_before_its_commit_returns",
        says="DID NOT RAISE",
    ),
    "delete before acknowledge": Mutant(
        source="worker/session.py",
        changes=(
            (
                "        await self._send(gateway_pb2.WorkerMessage(results=batch))\n",
                "        await self._send(gateway_pb2.WorkerMessage(results=batch))\n"
                "        self._spool.acknowledge(records[-1].seq)\n",
            ),
        ),
        killer="tests/integration/worker/test_daemon.py::test_nothing_is_deleted_before_it_is_acknowledged",
        says="AssertionError",
    ),
    "spool without AUTOINCREMENT": Mutant(
        source="worker/spool/file.py",
        changes=(
            ("PRIMARY KEY AUTOINCREMENT,", "PRIMARY KEY,"),
            ("SELECT seq FROM sqlite_sequence WHERE name = 'record'", "SELECT max(seq) FROM record"),
            ("        if (row[0] if row else 0) != int(tail) or (newest or 0) > int(tail):\n", "        if False:\n"),
            ("        self.next_seq = int(tail) + 1\n", "        self.next_seq = (newest or 0) + 1\n"),
        ),
        killer="tests/unit/worker/test_spool.py::test_acknowledged_results_go_and_numbers_are_never_used_again",
        says="assert 1 == 6",
    ),
    "key by arrival": Mutant(
        source="controller/gateway/preparing.py",
        changes=(
            (
                "        wire = [text for portion in portions for text in portion.wire]\n",
                "        wire = []\n"
                "        for text in [text for portion in portions for text in portion.wire]:\n"
                "            arrived = probe_pb2.Result.FromString(text)\n"
                "            arrived.scheduled_at_us = self._now_us() + len(wire)\n"
                "            wire.append(arrived.SerializeToString())\n",
            ),
        ),
        killer="tests/integration/gateway/test_ingest.py::test_another_spool_with_the_same_runs_adds_no_rows",
        says="assert [(11,)] == [(6,)]",
    ),
    "plain swap of a partition": Mutant(
        source="controller/store/upkeep/rewriting.py",
        changes=(
            ("    while _merge_ahead(engine, day, attempt) > _FEW_LATE:\n", "    while False:\n"),
            ("        rows += _merge(connection, day)[1]\n", ""),
        ),
        killer="tests/integration/store/test_rewriting.py::test_late_rows_of_every_step_are_kept",
        says="AssertionError",
    ),
    "no epoch in the claim of a session": Mutant(
        source="controller/gateway/storing.py",
        changes=((" AND w.session_epoch = b.epoch", ""),),
        killer="tests/integration/gateway/test_ingest.py::test_a_stale_session_stores_nothing",
        says="TimeoutError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_caught(tmp_path: Path, name: str) -> None:
    """By the test that guards the rule, and by what it is there to see."""
    mutant = MUTANTS[name]
    copy_tree(tmp_path)
    mutate(tmp_path / mutant.source, mutant.changes)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", mutant.killer],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=f"{tmp_path}:{tmp_path / 'proto'}"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, f"the mutant lives:\n{done.stdout}{done.stderr}"
    assert mutant.says in done.stdout, done.stdout


def copy_tree(to: Path) -> None:
    """Copy the sources and tests."""
    forgotten = shutil.ignore_patterns("__pycache__", ".*")
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=forgotten)
        else:
            shutil.copy(ROOT / name, to / name)


def mutate(path: Path, changes: tuple[tuple[str, str], ...]) -> None:
    """Change the source; fails when it does not hold exactly one of each text."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, (
            f"{path} holds this {text.count(old)} times; write the mutant anew: {old}"
        )
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
