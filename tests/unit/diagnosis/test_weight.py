"""What costs memory is loaded by nobody who does not need it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("river", "sklearn", "scipy", "numpy", "pandas", "joblib")
_TELL = """
import importlib, json, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(*modules: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after importing these modules."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL, ",".join(modules)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("modules", "needed"),
    [
        (("web", "web.serve", "web.api.diagnosis", "web.pages.diagnosis"), set()),
        (
            ("controller.gateway.__main__", "controller.gateway.server"),
            {"numpy"},
        ),  # ingest packs rows with it
        (("controller.keeper.__main__", "controller.keeper.tasks"), set()),
        (("controller.cli.main",), set()),
        (("worker.daemon",), set()),
    ],
    ids=["web", "gateway", "keeper at its start", "command line", "worker"],
)
def test_processes_start_without_the_libraries_of_learning(
    modules: tuple[str, ...], needed: set[str]
) -> None:
    """Dashboard, gateway, command line and worker never load them, a keeper not before its first round."""
    assert loaded_by(*modules) & set(HEAVY) == needed


def test_a_quiet_keeper_has_no_batch_model() -> None:
    """Scoring loads River and what it needs; scikit-learn lives in the process of the forest alone."""
    loaded = loaded_by("controller.keeper.diagnose")
    assert "river" in loaded
    assert loaded & {"sklearn", "joblib", "pandas"} == set()
