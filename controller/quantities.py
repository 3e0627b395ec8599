"""How numbers and units are written for people, on pages and in reports: three significant digits."""

from __future__ import annotations

import math
from decimal import Decimal

#: What a value that was not measured looks like.
NOTHING = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
SPACE = "\N{NO-BREAK SPACE}"
#: Seconds and word of the units of time, the largest first.
SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
#: What is larger is written with its power of ten, also whole numbers that no double holds.
_READABLE = 1e100
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


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
    words = {"1": "", "Cel": f"{SPACE}°C", "%": f"{SPACE}%", "/s": "/s", "d": f"{SPACE}d"}
    return number(value) + words.get(unit, f"{SPACE}{unit}" if unit else "")


def number(value: float) -> str:
    """Return a number to three significant digits, thousands set apart; whole numbers stay whole."""
    size = abs(value)
    if size > _READABLE:
        return f"{Decimal(value):.2e}"
    decimals = 0
    if not float(value).is_integer():
        decimals = min(4, max(0, 2 - math.floor(math.log10(size)))) if size >= 1e-3 else 4
    text = f"{size:,.{decimals}f}".replace(",", THIN)
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    size = abs(seconds)
    sign = "\N{MINUS SIGN}" if seconds < 0 else ""
    if size < 60:
        return f"{sign}{number(round(size, 3))}{SPACE}s"
    for index, (length, word) in enumerate(SPANS):
        if size >= length:
            whole = int(size // length)
            smaller, smaller_word = (*SPANS[index + 1 :], (1.0, "s"))[0]
            rest = int(size % length // smaller)
            first = f"{sign}{whole}{SPACE}{word}"
            return f"{first} {rest}{SPACE}{smaller_word}" if rest else first
    return f"{sign}{number(size)}{SPACE}s"


def plural(count: int, word: str, words: str = "") -> str:
    """Return `1 test`, `3 tests`."""
    return f"{count:,}".replace(",", THIN) + SPACE + (word if count == 1 else words or word + "s")


def share(part: int, whole: int) -> str:
    """Return a percentage that says 100 % and 0 % only when it is exactly that."""
    if not whole:
        return quantity(None)
    percent = 100 * part / whole
    for decimals in (1, 2, 3):
        text = f"{percent:.{decimals}f}"
        if 0 < float(text) < 100 or part in (0, whole):
            return f"{text.rstrip('0').rstrip('.')}\N{NO-BREAK SPACE}%"
    return ("more than 99.999" if percent > 50 else "less than 0.001") + "\N{NO-BREAK SPACE}%"


def _binary(value: float) -> str:
    size = abs(value)
    power = 0
    while size >= 1024 and power < len(_BYTES) - 1:
        size /= 1024
        power += 1
    shown = number(value / 1024**power) if power else number(value)
    return f"{shown}{SPACE}{_BYTES[power]}"


def _milliseconds(value: float) -> str:
    size = abs(value)
    if size >= 10_000:
        return span(value / 1000)
    if 0 < size < 0.1:
        return f"{number(round(value * 1000, 1))}{SPACE}µs"
    return f"{number(value)}{SPACE}ms"
