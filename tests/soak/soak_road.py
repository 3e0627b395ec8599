"""The whole road with real hosts, with 200 kills of its gateway and workers over SSH instead of six: about 15 minutes.

SOAK_KILLS sets another number.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def measure() -> dict[str, Any]:
    """Run the acceptance test; what it says goes to stderr."""
    kills = int(os.environ.get("SOAK_KILLS", "200"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/acceptance/test_road.py", "--timeout", "3600"],
        cwd=ROOT,
        env={**os.environ, "ACCEPTANCE_KILLS": str(kills)},
        stdout=sys.stderr,
        check=False,
    )
    return {"kills": kills, "exit_code": done.returncode, "ok": done.returncode == 0}
