"""How instants are shown."""

from __future__ import annotations

from streamswarm.zones import from_microseconds


def shown_instant(instant_us: int) -> str:
    """Return an instant as people and machines read it; far-off ones as the number they are."""
    try:
        moment = from_microseconds(instant_us)
    except OverflowError:
        return f"{instant_us} µs since 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
