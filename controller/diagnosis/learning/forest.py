"""The batch model that must agree before an anomaly is called: an Isolation Forest in a process of its own.

    python -m controller.diagnosis.learning.forest      questions as JSON on stdin, answers as JSON on stdout

The keeper asks about all its suspicions at once, and only when it has some: the library costs a hundred megabytes
and a second, which end with the process. The seed is fixed, so the same question always has the same answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.errors import StreamSwarmError
from controller.programs import end_with_parent, module_command

#: Quiet runs that a forest is trained on, at most.
SAMPLE = 300
#: Suspicions that one process answers.
QUESTIONS = 50
_TREES = 100
_SEED = 20_261_120
#: The suspect runs must be lonelier than all but this share of the quiet ones.
_LONELY = 0.05
_LARGEST = 1e30
_LONGEST_S = 120.0


class ForestError(StreamSwarmError):
    """The process of the batch model failed; suspicions stay suspicions."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Are these runs unlike the quiet ones? A row is one run, a column one watched metric."""

    quiet: Sequence[Sequence[float | None]]
    suspect: Sequence[Sequence[float | None]]


def ask(questions: Sequence[Question]) -> list[bool]:
    """Answer each question in a child process; raises ForestError when it fails or takes too long."""
    if not questions:
        return []
    asked = json.dumps([{"quiet": one.quiet, "suspect": one.suspect} for one in questions])
    # One thread each: the keeper's host has other things to do.
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            module_command("controller.diagnosis.learning.forest", str(os.getpid())),
            input=asked,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            env=surroundings,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ForestError(f"the batch model could not be asked: {error}") from error
    if done.returncode != 0:
        raise ForestError(
            f"the batch model ended with code {done.returncode}: {done.stderr.strip()[-500:]}",
            mend="see that scikit-learn can be imported: python -c 'import sklearn.ensemble'",
        )
    answers = json.loads(done.stdout)
    return [bool(answer) for answer in answers]


def agrees(question: Question) -> bool:
    """Train a forest on the quiet runs and one suspect, and tell whether the suspect ones are the lonely ones.

    With a suspect, because a forest cannot see a change in a metric that never changed; with one alone, because many
    of a kind would keep each other company.
    """
    import numpy as np
    from sklearn.ensemble import IsolationForest

    # The forest's own numbers are of single precision.
    rows = np.clip(np.array([*question.quiet, *question.suspect], dtype=float), -_LARGEST, _LARGEST)
    count = len(question.quiet)
    measured = ~np.isnan(rows[:count]).all(axis=0)
    rows = rows[:, measured]
    if not count or not question.suspect or not rows.shape[1]:
        return False
    rows = np.where(np.isnan(rows), np.nanmedian(rows[:count], axis=0), rows)
    forest = IsolationForest(n_estimators=_TREES, max_samples=min(256, count + 1), random_state=_SEED)
    scores = forest.fit(rows[: count + 1]).score_samples(rows)
    return bool(np.median(scores[count:]) < np.quantile(scores[:count], _LONELY))


def main() -> None:
    """Answer the questions on stdin; for nobody when the parent, whose number is given, has ended."""
    end_with_parent()
    if os.getppid() != int(sys.argv[1]):
        return
    os.nice(10)
    questions: list[dict[str, Any]] = json.load(sys.stdin)
    answers = [agrees(Question(quiet=one["quiet"], suspect=one["suspect"])) for one in questions]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
