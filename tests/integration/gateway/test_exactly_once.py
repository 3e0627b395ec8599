"""The model of exactly once in its short form; `make soak NAME=model` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from support.exactly_once import stage

from controller.settings import Settings

SHORT = settings(
    max_examples=100,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.mark.timeout(300)
def test_whatever_happens_in_whatever_order_each_result_is_stored_once(
    postgres_url: str, tmp_path: Path
) -> None:
    """Cut, held up and half-open streams, late acknowledgements, killed daemons, restored disks, broken transactions."""
    with stage(Settings(database_url=postgres_url, data_dir=tmp_path / "data")) as model:
        run_state_machine_as_test(model, settings=SHORT)


def test_numbers_that_a_restored_disk_gives_out_again_swallow_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    """Though the daemon was restarted before it said Hello, so that its own memory of what it has sent is gone."""
    with stage(Settings(database_url=postgres_url, data_dir=tmp_path / "data")) as model:
        steps = model()
        steps.begin()
        steps.spool_results(5)
        steps.keep_a_copy()
        steps.spool_results(5)
        steps.connect(gateway=0, half_open=False, hold_acks=False)
        steps.let_time_pass()
        steps.be_set_back(copy=0)
        steps.spool_results(10)
        steps.be_killed()
        steps.teardown()
