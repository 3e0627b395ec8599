"""How instants, icons and plain values are written on pages; `controller.quantities` writes numbers and units."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flask import g, has_request_context, request, url_for
from markupsafe import Markup, escape

from controller import quantities
from controller.planning.schedule_words import schedule_words
from controller.quantities import NOTHING, SPACE, SPANS
from controller.store.queries.users import NUMBER_FORMS
from streamswarm import zones
from streamswarm.contract import Parameter
from streamswarm.zones import to_microseconds

__all__ = [
    "NOTHING",
    "ago",
    "clock",
    "exact",
    "fact",
    "filters",
    "icon",
    "marked",
    "number",
    "parameter_value",
    "plural",
    "quantity",
    "shown",
    "span",
    "time_tag",
]

#: Instants after the year 2099 are none, microseconds since 1970.
_LATEST_US = 4_102_444_800_000_000
_CODE = re.compile(r"`([^`]+)`")


def localized(text: str) -> str:
    """Return a number, or a quantity, in the form that the visitor likes; it comes in the usual one."""
    form = _prefers("number_form")
    if not form:
        return text
    thousands, decimals = NUMBER_FORMS[form]
    return text.translate({ord(quantities.THIN): thousands, ord("."): decimals})


def number(value: float) -> str:
    """Return a number as `controller.quantities` writes it, in the visitor's form."""
    return localized(quantities.number(value))


def quantity(value: float | bool | None, unit: str = "1") -> str:
    """Return a value with its unit as `controller.quantities` writes it, in the visitor's form."""
    return localized(quantities.quantity(value, unit))


def span(seconds: float) -> str:
    """Return a length of time as `controller.quantities` writes it, in the visitor's form."""
    return localized(quantities.span(seconds))


def plural(count: int, word: str, words: str = "") -> str:
    """Return `1 test`, `3 tests`, in the visitor's form."""
    figure, _, noun = quantities.plural(count, word, words).partition(SPACE)
    return f"{localized(figure)}{SPACE}{noun}"


def zone_name() -> str:
    """Return the zone in which instants are written: the visitor's, or UTC."""
    return _prefers("zone") or "UTC"


def clock(instant: dt.datetime) -> str:
    """Return an instant to the minute, by the clocks of `zone_name()`."""
    return f"{instant.astimezone(zones.load(zone_name())):%Y-%m-%d %H:%M}"


def _prefers(name: str) -> str:
    viewer = g.get("principal") if has_request_context() else None
    return getattr(viewer, name, "")


def ago(instant: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """Return an instant as seen from now: `12 s ago`, `in 3 min`."""
    if instant is None:
        return "never"
    seconds = ((now or dt.datetime.now(dt.UTC)) - instant).total_seconds()
    if abs(seconds) < 1.5:
        return "now"
    size = abs(seconds)
    if size < 60:
        text = f"{size:.0f}{SPACE}s"
    else:
        length, word = next(pair for pair in SPANS if size >= pair[0])
        text = f"{size / length:.0f}{SPACE}{word}"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def exact(instant: dt.datetime) -> str:
    """Return an instant to the millisecond, by the clocks of `zone_name()`, for titles."""
    name = zone_name()
    text = instant.astimezone(zones.load(name)).isoformat(sep=" ", timespec="milliseconds")
    return text.replace("+00:00", " UTC") if name == "UTC" else f"{text} {name}"


def time_tag(instant: dt.datetime | None, *, empty: str = "never") -> Markup:
    """Return a `<time>` with the relative time as text and the exact one as title; the page keeps it current."""
    if instant is None:
        return Markup('<span class="faint">{}</span>').format(empty)
    return Markup('<time datetime="{}" title="{}" data-relative>{}</time>').format(
        instant.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        exact(instant),
        ago(instant),
    )


def fact(key: str, value: Any) -> Any:
    """Return a fact of a worker's as people read it, by the unit in its name; a limit of 0 is none."""
    if key in ("memory_max_bytes", "tasks_max", "open_files_max") and not value:
        return "no limit"
    if key.endswith("_us") and isinstance(value, int) and 0 < value < _LATEST_US:
        return time_tag(dt.datetime.fromtimestamp(value / 1_000_000, dt.UTC))
    return quantity(value, "By") if key.endswith("_bytes") else shown(value)


def icon(name: str, css: str = "") -> Markup:
    """Return an icon of the sprite, hidden from screen readers: words stand beside it."""
    return _icon(request.script_root, name, css)


# A page has hundreds of a few, and each would ask anew where the sprite is: below `root`, where the application is mounted.
@lru_cache(maxsize=1024)
def _icon(root: str, name: str, css: str) -> Markup:
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


def marked(text: str) -> Markup:
    """Return a message with what stands in backticks as code, and nothing else of it as markup."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before


def filters() -> dict[str, Any]:
    """Return what templates call as filters."""
    return {
        "marked": marked,
        "quantity": quantity,
        "number": number,
        "clock": clock,
        "span": span,
        "ago": ago,
        "plural": plural,
        "shown": shown,
        "parameter": parameter_value,
        "schedule": schedule_words,
        "microseconds": to_microseconds,
    }
