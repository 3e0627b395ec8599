"""The rotation of the root in one go: a step, a renewal on every host, the next step."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.fleet.operations import Recap
from controller.gateway.rotation import NOTICED, NotYetError, Stage

#: A worker that has renewed is connected with its new certificate within this time, seconds.
_BACK_S = 20.0


def rotate_root(
    *,
    at: Stage,
    step: Callable[[], Stage],
    renew: Callable[[], Recap],
    cancelled: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Recap:
    """Replace the root while everything runs, from the stage `at` on; returns how the last renewal ended.

    Ends early when a host has not renewed, or when `cancelled`; calling it again goes on there. Raises NotYetError when
    workers that are not among the hosts still need the old root.
    """
    recap = renew() if at is not Stage.SINGLE else None
    while recap is None or (recap.succeeded and not cancelled()):
        at = _stepped(step, sleep) if recap is not None else step()
        if at is Stage.SINGLE and recap is not None:
            return recap
        sleep(NOTICED.total_seconds() + 1)
        recap = renew()
    return recap


def _stepped(step: Callable[[], Stage], sleep: Callable[[float], None]) -> Stage:
    """Take a step once all workers are back with their new certificates."""
    left_s = _BACK_S
    while True:
        try:
            return step()
        except NotYetError:
            if left_s <= 0:
                raise
        sleep(1.0)
        left_s -= 1.0
