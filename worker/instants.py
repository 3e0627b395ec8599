"""How instants are shown."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def shown_instant(instant_us: int) -> str:
    """Return an instant as people and machines read it; far-off ones as the number they are."""
    try:
        moment = _EPOCH + timedelta(microseconds=instant_us)
    except OverflowError:
        return f"{instant_us} µs since 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
