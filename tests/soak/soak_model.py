"""Two thousand sequences of fifty steps each through spool, sessions, gateways and PostgreSQL: about half an hour.

SOAK_SEQUENCES and SOAK_STEPS set other numbers. What fails is shrunk to a short sequence, which is printed.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from support.exactly_once import stage
from support.installation import installation


def measure() -> dict[str, Any]:
    """Run the sequences; raises what a failed one has found."""
    sequences = int(os.environ.get("SOAK_SEQUENCES", "2000"))
    steps = int(os.environ.get("SOAK_STEPS", "50"))
    logging.disable(logging.CRITICAL)  # broken connections are what this is about
    long = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    with installation(gateways=1) as made, stage(made.settings) as model:
        run_state_machine_as_test(model, settings=long)
    return {"sequences": sequences, "steps": steps, "violations": 0, "ok": True}
