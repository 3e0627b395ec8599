"""Fifty workers are cut off from their gateway for ten minutes, their packets dropped without a word: about 13 minutes, as root.

They measure on; meanwhile they must be told as disconnected, within a minute of the cut. When it ends every worker must
have delivered within a minute what had waited, each run stored once, and the gateway must not have grown by more than what
its workers may have unacknowledged. SOAK_SECONDS sets another length of the cut.
"""

from __future__ import annotations

import os
from typing import Any

from support.partition import DRAINED_WITHIN_S, TOLD_WITHIN_S, needs, partition

WORKERS = 50


def measure() -> dict[str, Any]:
    """Cut once."""
    assert not needs(), needs()
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    seen = partition(workers=WORKERS, cut_s=seconds)
    return {
        "workers": WORKERS,
        "cut_s": seconds,
        "results": seen.found.spooled,
        "waited": seen.waited,
        "lost": len(seen.found.lost),
        "duplicate": seen.found.doubled,
        "invented": len(seen.found.invented),
        "repeated": len(seen.found.repeated),
        "quarantined": len(seen.found.quarantined),
        "told_s": round(seen.told_s, 1),
        "shown_connected": seen.shown_connected,
        "drained_s": round(seen.drained_s, 1),
        "gateway_mib": [round(size / 2**20, 1) for size in (seen.rss_before, seen.rss_most, seen.rss_bound)],
        "ended_by_themselves": seen.failures,
        "goal": f"nothing lost or doubled; told <= {TOLD_WITHIN_S:g} s, drained <= {DRAINED_WITHIN_S:g} s",
        "ok": seen.ok,
    }
