"""Python's garbage collector, set for a process that makes many small values and keeps what it was started with."""

from __future__ import annotations

import gc

#: Values that are made before a look at the youngest, and looks before one at the older ones. Python's own 700 and 10
#: and 10 cost a busy worker a tenth of its time, a gateway to which thousands connect a fifth, up to half a second at
#: once, and planning for thousands of workers a third: nearly all that they make is freed without the collector.
_THRESHOLDS = (20_000, 20, 20)


def settle() -> None:
    """Leave modules and descriptors out of all later looks. Call it when everything has been loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
