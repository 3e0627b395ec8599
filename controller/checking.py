"""Reads plain values as they come from a form or from JSON, field by field, collecting every fault with its path.

Nothing is coerced silently: an unknown field is refused, text is trimmed and must be storable, an instant must
carry its zone.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from streamswarm.contract import InvalidInputError, Problem
from streamswarm.targets import shown
from streamswarm.values import shown_number
from streamswarm.zones import read_instant

_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:/-]{0,61}[A-Za-z0-9])?\Z")
MAX_TAGS = 32
MAX_ID = 2**63 - 1
#: Instants outside of these years are slips of the pen.
_YEARS = range(2000, 2200)


class Checker:
    """One mapping under check. Readers return a usable value even on a fault; `done` raises what was found."""

    def __init__(self, values: Mapping[str, Any], known: Sequence[str]) -> None:
        self.problems: list[Problem] = []
        if not isinstance(values, Mapping):
            raise InvalidInputError([Problem(path="", message="must be a mapping of fields to values")])
        self._values = values
        for name in values:
            if name not in known:
                self.add(shown(str(name)), f"there is no such field; there are {', '.join(known)}")

    def add(self, path: str, message: str) -> None:
        """Note a fault."""
        self.problems.append(Problem(path=path, message=message))

    def done(self) -> None:
        """Raise InvalidInputError when anything was found."""
        if self.problems:
            raise InvalidInputError(self.problems)

    def given(self, name: str) -> bool:
        """Whether the field is there at all."""
        return name in self._values

    def value(self, name: str) -> Any:
        """Return the raw value, None when absent."""
        return self._values.get(name)

    def text(self, name: str, *, longest: int, required: bool = False, lines: bool = False) -> str:
        """Return trimmed text; `lines` allows line breaks."""
        value = self.value(name)
        if value is None:
            value = ""
        faults = len(self.problems)
        sent = self._storable(name, value, lines=lines)
        text = sent.strip()
        if len(self.problems) > faults:
            return text
        if required and not text:
            self.add(name, "must not be empty")
        elif len(sent) > longest:
            self.add(name, f"has {len(sent)} characters; {longest} is the most")
        return text

    def name(self, name: str = "name") -> str:
        """Return the name of an object: one line of 1 to 100 characters."""
        return self.text(name, longest=100, required=True)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of a few words."""
        value = self.value(name)
        if value not in choices:
            self.add(name, f"must be one of {', '.join(choices)}")
            return choices[0]
        return str(value)

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        value = self.value(name)
        if not isinstance(value, bool):
            self.add(name, "must be true or false")
        return bool(value)

    def number(self, name: str, *, smallest: float, largest: float, unit: str = "") -> float | None:
        """Return a number within bounds, or None when absent, null or empty text."""
        value = self.value(name)
        if value is None or value == "":
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (ValueError, TypeError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self.add(name, "must be a number")
            return None
        if not smallest <= number <= largest:
            limits = f"{shown_number(smallest)} and {shown_number(largest)}{' ' + unit if unit else ''}"
            self.add(name, f"must lie between {limits}")
            return None
        return number

    def instant(self, name: str) -> dt.datetime | None:
        """Return an instant in UTC from a datetime or ISO text, or None when absent or null."""
        value = self.value(name)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                value = read_instant(value)
            except ValueError:
                value = None
        if not isinstance(value, dt.datetime):
            self.add(name, "must be an instant such as `2030-01-31T08:00:00Z`")
            return None
        if value.tzinfo is None:
            self.add(name, "lacks its zone; end it in `Z` or in an offset such as `+01:00`")
            return None
        if value.year not in _YEARS:
            self.add(name, f"must lie between the years {_YEARS.start} and {_YEARS.stop - 1}")
            return None
        return value.astimezone(dt.timezone.utc)

    def words(self, name: str, *, most: int = MAX_TAGS) -> list[str]:
        """Return a list of short words (tags, groups, sites) without repetitions, in the order given."""
        return self.words_of(name, self.value(name), most=most)

    def words_of(self, path: str, value: Any, *, most: int = MAX_TAGS) -> list[str]:
        """Check a value that lies deeper than a field."""
        result: list[str] = []
        for index, item in enumerate(self.items(path, value, most=most)):
            if not isinstance(item, str) or not _WORD.match(item):
                self.add(f"{path}[{index}]", f"`{shown(str(item))}` {_WORD_RULE}")
            elif item not in result:
                result.append(item)
        return result

    def labels(self, name: str) -> dict[str, str]:
        """Return labels: short words mapped to short words."""
        return self.labels_of(name, self.value(name))

    def labels_of(self, path: str, value: Any) -> dict[str, str]:
        """Check labels that lie deeper than a field."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.add(path, "must be a mapping of labels to values")
            return {}
        if len(value) > MAX_TAGS:
            self.add(path, f"has {len(value)} labels; {MAX_TAGS} is the most")
            return {}
        result: dict[str, str] = {}
        for key, inner in value.items():
            if not isinstance(key, str) or not _WORD.match(key):
                self.add(f"{path}.{shown(str(key))}", f"the label {_WORD_RULE}")
            elif not isinstance(inner, str) or not _WORD.match(inner):
                self.add(f"{path}.{key}", f"`{shown(str(inner))}` {_WORD_RULE}")
            else:
                result[key] = inner
        return result

    def items(self, path: str, value: Any, *, most: int) -> list[Any]:
        """Return a list of any items, no longer than `most`."""
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            self.add(path, "must be a list")
            return []
        if len(value) > most:
            self.add(path, f"has {len(value)} entries; {most} is the most")
            return []
        return list(value)

    def id(self, name: str) -> int | None:
        """Return the id of an entity, or None when absent or null."""
        value = self.value(name)
        if value is None or _is_id(value):
            return value
        self.add(name, "must be an id, a whole number")
        return None

    def ids(self, name: str, *, most: int) -> list[int]:
        """Return the ids of entities; the index in the list is kept by noting faults at once."""
        result: list[int] = []
        for index, item in enumerate(self.items(name, self.value(name), most=most)):
            if not _is_id(item):
                self.add(f"{name}[{index}]", "must be an id, a whole number")
            elif item in result:
                self.add(f"{name}[{index}]", f"{item} is there twice")
            else:
                result.append(item)
        return result

    def uuids_of(self, path: str, value: Any, *, most: int) -> list[uuid.UUID]:
        """Return UUIDs given as such or as text."""
        result: list[uuid.UUID] = []
        for index, item in enumerate(self.items(path, value, most=most)):
            try:
                found = item if isinstance(item, uuid.UUID) else uuid.UUID(item)
            except (ValueError, TypeError, AttributeError):
                self.add(f"{path}[{index}]", f"`{shown(str(item))}` is not a worker's id")
                continue
            if found not in result:
                result.append(found)
        return result

    def _storable(self, path: str, value: Any, *, lines: bool) -> str:
        if not isinstance(value, str):
            self.add(path, "must be text")
            return ""
        allowed = "\n\r\t" if lines else ""
        for character in value:
            if not character.isprintable() and character not in allowed and not character.isspace():
                self.add(path, f"has the control character {character!r}, which cannot be stored or shown")
                return ""
            if not lines and character in "\n\r\t\v\f\x1c\x1d\x1e\x85\u2028\u2029":
                self.add(path, "must be one line")
                return ""
        return value.replace("\r\n", "\n")


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID


#: Ways in which a selection names workers, beside `all`.
SELECTORS = ("workers", "sites", "groups", "labels")


def read_selection(checker: Checker, read_workers: Callable[[Any], list[str]]) -> dict[str, Any]:
    """Return the field `selection`: `{"all": True}`, or those of `SELECTORS` that name something.

    `read_workers` checks what stands under `workers`, ids or names, and notes its own faults.
    """
    value = checker.value("selection")
    if not isinstance(value, Mapping):
        checker.add("selection", f'must be `{{"all": true}}` or a mapping of {", ".join(SELECTORS)}')
        return {}
    for name in value:
        if name != "all" and name not in SELECTORS:
            checker.add(
                f"selection.{shown(str(name))}",
                f"there is no such way to select; there are {', '.join(SELECTORS)}",
            )
    if value.get("all"):
        if value["all"] is not True:
            checker.add("selection.all", "must be true or left out")
        if len(value) > 1:
            checker.add("selection", "takes either all workers or those that are named, not both")
        return {"all": True}
    selection = {
        "workers": read_workers(value.get("workers")),
        "sites": checker.words_of("selection.sites", value.get("sites"), most=1000),
        "groups": checker.words_of("selection.groups", value.get("groups"), most=1000),
        "labels": checker.labels_of("selection.labels", value.get("labels")),
    }
    named = {name: chosen for name, chosen in selection.items() if chosen}
    if not named and not any(problem.path.startswith("selection") for problem in checker.problems):
        checker.add("selection", "names no worker; select all, or name workers, sites, groups or labels")
    return named


_WORD_RULE = (
    "must be 1 to 63 letters, digits or any of `_ . : / -`, beginning and ending with a letter or digit"
)
