"""JSON Schema of a schedule's fields, for the API and for suites alike."""

from __future__ import annotations

from typing import Any

from controller.planning.asking import LONGEST_CRON, MOST_RUNS, RECURRENCES, SHORTEST_RENEWAL_S
from controller.planning.schedule import LONGEST_INTERVAL_S, SHORTEST_INTERVAL_S
from streamswarm.windows import DAYS, MINUTES_OF_DAY, MOST_WINDOWS

_OF_A_DAY = "([01]?[0-9]|2[0-3]):[0-5][0-9]"


def _time(description: str, *, pattern: str, last_min: int) -> dict[str, Any]:
    # Whoever reads YAML has 17:30 without quotes as 1050, the minutes since midnight.
    return {
        "description": description,
        "anyOf": [
            {"type": "string", "pattern": f"^({pattern})$"},
            {"type": "integer", "minimum": 0, "maximum": last_min},
        ],
    }


def _instant(description: str) -> dict[str, Any]:
    return {
        "type": ["string", "null"],
        "format": "date-time",
        "description": f"{description} ISO 8601 with a zone.",
    }


#: One of the windows.
WINDOW: dict[str, Any] = {
    "type": "object",
    "description": "Hours in which runs are due; one that ends before it begins goes on into the next day.",
    "properties": {
        "days": {
            "description": "Days on which it begins; every day without.",
            "anyOf": [
                {"type": "null"},
                {"enum": list(DAYS)},
                {"type": "array", "minItems": 1, "items": {"enum": list(DAYS)}},
            ],
        },
        "from": _time("By the clocks of the zone: `09:00`.", pattern=_OF_A_DAY, last_min=MINUTES_OF_DAY - 1),
        "to": _time(
            "The first minute outside; `24:00` is midnight.",
            pattern=f"{_OF_A_DAY}|24:00",
            last_min=MINUTES_OF_DAY,
        ),
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}

#: Properties of a test, by name.
SCHEDULE: dict[str, dict[str, Any]] = {
    "interval_s": {
        "type": ["number", "null"],
        "minimum": SHORTEST_INTERVAL_S,
        "maximum": LONGEST_INTERVAL_S,
        "description": "Seconds between runs; with neither this nor cron, the test runs once.",
    },
    "cron": {
        "type": ["string", "null"],
        "maxLength": LONGEST_CRON,
        "description": "Minute, hour, day of the month, month, weekday, instead of an interval: `30 8 * * 1-5`.",
    },
    "zone": {
        "type": ["string", "null"],
        "maxLength": 64,
        "description": "Time zone of cron and windows by its IANA name, such as `Europe/Berlin`; `UTC` without.",
    },
    "windows": {
        "type": ["array", "null"],
        "items": WINDOW,
        "maxItems": MOST_WINDOWS,
        "description": "Hours of the week outside of which nothing is due.",
    },
    "starts_at": _instant("Not before this instant."),
    "ends_at": _instant("Not from this instant on; a new end must not lie in the past."),
    "max_runs": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MOST_RUNS,
        "description": "It ends after so many due instants, counted from its start or from when it was made.",
    },
    "recurrence": {
        "enum": list(RECURRENCES),
        "description": (
            "`new_test`: each due instant makes a test of its own, which runs once; at least "
            f"{SHORTEST_RENEWAL_S / 60:g} minutes from one run to the next."
        ),
    },
}
