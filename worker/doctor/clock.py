"""The host's clock against the controller's, as far as it can be known without a session.

TLS 1.3 tells no time. What the daemon was told in its last session is exact within one boot of the host; beside it
there are only the bounds that certificates set: a gateway shows none that is not yet, or no longer, good by its clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from streamswarm.findings import Finding, ok, unknown, wrong
from worker.certificates import CertificateFacts
from worker.clock import ControllerTime, SystemClock
from worker.facts import boot_id
from worker.instants import shown_instant
from worker.spool.peek import Waiting

#: Results of a clock that is further off are flagged by the controller.
_LIMIT_MS = 5000.0
_MEND = "set the clock, and have it kept by NTP (`timedatectl set-ntp true`)"
_NAME = "clock"


def compare(waiting: Waiting | None, shown: Sequence[CertificateFacts]) -> Finding:
    """Say how far the clock is off: by what the daemon kept, else by the certificates that gateways show now."""
    offset_ms = _told_offset_ms(waiting.kept_time) if waiting is not None else None
    if offset_ms is not None:
        text = f"{abs(offset_ms) / 1000:.3f} s {'ahead of' if offset_ms >= 0 else 'behind'} the controller's, as the last session told"
        return wrong(_NAME, text, _MEND) if abs(offset_ms) > _LIMIT_MS else ok(_NAME, text)
    seen_us = _seen_us(waiting.kept_time) if waiting is not None else None
    if seen_us is not None and seen_us / 1e6 > time.time() + _LIMIT_MS / 1000:
        return wrong(
            _NAME,
            f"behind: it was {shown_instant(seen_us)} already by the controller's clock before this host was booted",
            _MEND,
        )
    return _by_certificates(shown)


def _by_certificates(shown: Sequence[CertificateFacts]) -> Finding:
    now = time.time()
    early = [each for each in shown if now < each.not_before.timestamp()]
    late = [each for each in shown if now > each.not_after.timestamp()]
    if early:
        begin = min(each.not_before for each in early)
        return wrong(
            _NAME,
            f"behind: a gateway's certificate is good from {begin:%Y-%m-%d %H:%M} UTC on only, by this clock not yet",
            _MEND,
        )
    if late:
        end = max(each.not_after for each in late)
        return unknown(
            _NAME,
            f"a gateway's certificate was good until {end:%Y-%m-%d %H:%M} UTC: this clock is ahead, or the gateway does "
            "not renew its certificate",
            f"compare `date -u` here and on the controller; {_MEND}",
        )
    if not shown:
        return unknown(_NAME, "neither a session nor a gateway's certificate has told anything of the time")
    begin, end = max(each.not_before for each in shown), min(each.not_after for each in shown)
    return unknown(
        _NAME,
        f"no session has told the time since this host was booted; the gateways' certificates only say that it lies between "
        f"{begin:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC",
    )


def _told_offset_ms(kept: str) -> float | None:
    return ControllerTime(SystemClock(), boot_id=boot_id(), kept=kept).offset_ms()


def _seen_us(kept: str) -> int | None:
    try:
        return int(json.loads(kept)["seen_us"])
    except (ValueError, TypeError, KeyError):
        return None  # nothing was kept, or it is damaged: then nothing is known
