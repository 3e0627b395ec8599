"""How numbers, units and instants are written on pages: three significant digits, exact values in titles."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

from flask import url_for
from markupsafe import Markup

from streamswarm.contract import Parameter

#: What a value that was not measured looks like.
NOTHING = "\N{EN DASH}"
_THIN = "\N{NARROW NO-BREAK SPACE}"
_SPACE = "\N{NO-BREAK SPACE}"
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def quantity(value: float | bool | None, unit: str = "1") -> str:
    """Return a measured value with its UCUM unit as people write it, to three significant digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if unit in ("By", "By/s"):
        return _binary(float(value)) + ("/s" if unit == "By/s" else "")
    if unit == "ms":
        return _milliseconds(float(value))
    if unit == "s":
        return span(float(value))
    words = {"1": "", "Cel": f"{_SPACE}°C", "%": f"{_SPACE}%", "/s": "/s", "d": f"{_SPACE}d"}
    return number(value) + words.get(unit, f"{_SPACE}{unit}" if unit else "")


def number(value: float) -> str:
    """Return a number to three significant digits, thousands set apart; whole numbers stay whole."""
    size = abs(value)
    decimals = 0
    if not float(value).is_integer():
        decimals = min(4, max(0, 2 - math.floor(math.log10(size)))) if size >= 1e-3 else 4
    text = f"{size:,.{decimals}f}".replace(",", _THIN)
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    size = abs(seconds)
    sign = "\N{MINUS SIGN}" if seconds < 0 else ""
    if size < 60:
        return f"{sign}{number(round(size, 3))}{_SPACE}s"
    for index, (length, word) in enumerate(_SPANS):
        if size >= length:
            whole = int(size // length)
            smaller, smaller_word = (*_SPANS[index + 1 :], (1.0, "s"))[0]
            rest = int(size % length // smaller)
            first = f"{sign}{whole}{_SPACE}{word}"
            return f"{first} {rest}{_SPACE}{smaller_word}" if rest else first
    return f"{sign}{number(size)}{_SPACE}s"


def ago(instant: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """Return an instant as seen from now: `12 s ago`, `in 3 min`."""
    if instant is None:
        return "never"
    seconds = ((now or dt.datetime.now(dt.UTC)) - instant).total_seconds()
    if abs(seconds) < 1.5:
        return "now"
    size = abs(seconds)
    if size < 60:
        text = f"{size:.0f}{_SPACE}s"
    else:
        length, word = next(pair for pair in _SPANS if size >= pair[0])
        text = f"{size / length:.0f}{_SPACE}{word}"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def exact(instant: dt.datetime) -> str:
    """Return an instant in UTC to the millisecond, for titles."""
    return instant.astimezone(dt.UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")


def time_tag(instant: dt.datetime | None, *, empty: str = "never") -> Markup:
    """Return a `<time>` with the relative time as text and the exact one as title; the page keeps it current."""
    if instant is None:
        return Markup('<span class="faint">{}</span>').format(empty)
    return Markup('<time datetime="{}" title="{}" data-relative>{}</time>').format(
        instant.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        exact(instant),
        ago(instant),
    )


def plural(count: int, word: str, words: str = "") -> str:
    """Return `1 test`, `3 tests`."""
    return f"{count:,}".replace(",", _THIN) + _SPACE + (word if count == 1 else words or word + "s")


def icon(name: str, css: str = "") -> Markup:
    """Return an icon of the sprite, hidden from screen readers: words stand beside it."""
    return Markup(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>'
    ).format(css, url_for("static", filename="img/icons.svg"), name)


def shown(value: Any) -> str:
    """Return a plain value of a worker's facts or policy as people read it."""
    if value is None or value == "" or value == []:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(shown(inner) for inner in value)
    if isinstance(value, int | float):
        return number(value)
    return str(value)


def parameter_value(value: Any, parameter: Parameter) -> str:
    """Return a parameter of a test with its unit."""
    if isinstance(value, bool | list | str):
        return shown(value)
    return quantity(value, parameter.unit or "1")


def filters() -> dict[str, Any]:
    """Return what templates call as filters."""
    return {
        "quantity": quantity,
        "number": number,
        "span": span,
        "ago": ago,
        "plural": plural,
        "shown": shown,
        "parameter": parameter_value,
    }


def _binary(value: float) -> str:
    size = abs(value)
    power = 0
    while size >= 1024 and power < len(_BYTES) - 1:
        size /= 1024
        power += 1
    shown = number(value / 1024**power) if power else number(value)
    return f"{shown}{_SPACE}{_BYTES[power]}"


def _milliseconds(value: float) -> str:
    size = abs(value)
    if size >= 10_000:
        return span(value / 1000)
    if 0 < size < 0.1:
        return f"{number(round(value * 1000, 1))}{_SPACE}µs"
    return f"{number(value)}{_SPACE}ms"
