"""Python's garbage collector, set for a process that makes many small values and keeps what it was started with."""

from __future__ import annotations

import gc

#: Values that are made before a look at the youngest, looks before one at the older ones, and those before one at all.
#: Python's own 700, 10 and 10 cost a busy worker a tenth of its time, a gateway to which thousands connect a fifth, up to
#: half a second at once, and planning for thousands of workers a third: nearly all that they make is freed without the
#: collector. A look takes the longer the more it looks at, and everything waits for it: 2 ms after so many young ones,
#: 0.2 s where 10,000 runs are under way and the older ones are looked at as well.
_THRESHOLDS = (5_000, 400, 5)


def set_aside() -> None:
    """Leave what has been loaded, modules and descriptors, out of all later looks."""
    gc.collect()
    gc.freeze()


def settle() -> None:
    """Set aside what has been loaded and look seldom. Call it when everything has been loaded.

    It is not for a process whose work leaves rings of values behind, as answers of a web server do: they would gather.
    """
    set_aside()
    gc.set_threshold(*_THRESHOLDS)
