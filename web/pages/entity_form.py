"""A form as a page draws it: the values typed, and each problem at the field that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.errors import ConflictError
from streamswarm.contract import InvalidInputError, Problem
from web.forms import field_id, group_problems


@dataclass(frozen=True, kw_only=True)
class EntityForm:
    """Values, labels and problems of a form."""

    #: Label by path, for the list of problems above the form.
    labels: Mapping[str, str]
    #: Text by path, as typed or as stored.
    values: Mapping[str, Any]
    all_problems: tuple[Problem, ...] = ()
    #: Version of the entity that is being changed; None for a new one.
    version: int | None = None
    _grouped: dict[str, tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_grouped", group_problems(self.all_problems))

    def value(self, path: str) -> Any:
        """Return what the control shows."""
        return self.values.get(path, "")

    def problems(self, path: str) -> tuple[str, ...]:
        """Return what is wrong with a field."""
        return self._grouped.get(path, ())

    def within(self, path: str) -> tuple[str, ...]:
        """Return what is wrong with a field or anything below it."""
        return tuple(
            message
            for found, messages in self._grouped.items()
            if found == path or found.startswith(f"{path}.")
            for message in messages
        )

    def has(self, path: str) -> bool:
        """Whether the form has a control for a problem's path."""
        return self._owner(path) is not None

    def label(self, path: str) -> str:
        """Return the label of the field that a problem belongs to."""
        owner = self._owner(path)
        return self.labels[owner] if owner is not None else path

    def id(self, path: str) -> str:
        """Return the id of the control that a problem belongs to."""
        return field_id(self._owner(path) or path)

    def _owner(self, path: str) -> str | None:
        plain = path.partition("[")[0]
        while plain:
            if plain in self.labels:
                return plain
            plain = plain.rpartition(".")[0]
        return None


def problems_of(error: InvalidInputError | ConflictError) -> tuple[Problem, ...]:
    """Return what a refused change found wrong; a conflict of names belongs to the name."""
    if isinstance(error, InvalidInputError):
        return error.problems
    text = f"{error.message}; {error.mend}" if error.mend else error.message
    path = "name" if "named" in error.message else ""
    return (Problem(path=path, message=text),)


def split_words(text: str) -> list[str]:
    """Return the words of a field of tags: separated by commas or white space."""
    return [word for word in text.replace(",", " ").split() if word]


def first(values: Iterable[str], default: str = "") -> str:
    """Return the first value, or the default."""
    return next(iter(values), default)


def number(text: str) -> int | float | str:
    """Return the number typed; what is none goes on as it is and is refused with its path."""
    for convert in (int, float):
        try:
            return convert(text.strip())
        except ValueError:
            continue
    return text
