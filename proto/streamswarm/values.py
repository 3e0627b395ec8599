"""Values of parameters: what may be handed in, and what is said when it does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streamswarm.targets import shown

ValueType = Literal["integer", "number", "boolean", "string"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with an input."""

    #: Where: `spec.count`, `target`, `spec.valid_status[2]`.
    path: str
    #: What, and what would be right.
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidInputError(ValueError):
    """An input breaks the contract; `problems` has every fault found, each with its path."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a kind."""

    name: str
    type: ValueType
    #: True for a list of `type`.
    repeated: bool
    label: str
    description: str
    #: UCUM, or empty.
    unit: str
    #: Value used when none is given; None means that the probe does without.
    default: Any
    #: Inclusive bounds: of a number, or of the length of a string; lists: of each number, or of the list's length.
    min: float | None
    max: float | None
    pattern: str
    choices: tuple[str, ...]
    #: Folded away on forms.
    advanced: bool
    #: Text that may have several lines.
    multiline: bool = False
    #: When it is a regular expression: `always`, or `NAME=VALUE` of another parameter; empty for never.
    regular_expression: str = ""

    def is_expression(self, values: Mapping[str, Any]) -> bool:
        """Say whether it is a regular expression, given the values of all parameters."""
        name, _, wanted = self.regular_expression.partition("=")
        return name == "always" or bool(name and values.get(name) == wanted)


def shown_number(number: float) -> str:
    """Return a number as text that reads back as the same number: `1234567`, `0.5`, never `1.23457e+06`."""
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)


def check_value(parameter: Parameter, value: Any, path: str, problems: list[Problem]) -> Any:
    """Return a value as the parameter's type; faults go to `problems`, each with its path."""
    if parameter.repeated:
        return list(_check_list(parameter, value, path, problems))
    try:
        return _check_one(parameter, value)
    except ValueError as error:
        problems.append(Problem(path=path, message=str(error)))
        return None


def check_expressions(
    parameters: Iterable[Parameter], values: Mapping[str, Any], path: str
) -> Iterator[Problem]:
    """Yield what is wrong with those values that are regular expressions."""
    for parameter in parameters:
        text = values.get(parameter.name)
        if not text or not parameter.is_expression(values):
            continue
        from streamswarm import (
            patterns,  # only here: its library would be loaded by whatever reads the contract
        )

        try:
            patterns.compiled(text)
        except patterns.PatternError as error:
            yield Problem(path=f"{path}.{parameter.name}", message=f"no regular expression: {error}")


def _check_list(parameter: Parameter, value: Any, path: str, problems: list[Problem]) -> Iterator[Any]:
    items = [part for part in re.split(r"[\s,]+", value) if part] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        problems.append(Problem(path=path, message="must be a list"))
        return
    if len(items) > 100:
        problems.append(Problem(path=path, message=f"has {len(items)} entries; 100 is the most"))
        return
    for index, item in enumerate(items):
        try:
            yield _check_one(parameter, item)
        except ValueError as error:
            problems.append(Problem(path=f"{path}[{index}]", message=str(error)))


def _check_one(parameter: Parameter, value: Any) -> Any:
    unit = f" {parameter.unit}" if parameter.unit else ""
    if parameter.type == "boolean":
        return _as_boolean(value)
    if parameter.type == "string":
        return _as_string(parameter, value)
    try:
        number = _as_integer(value) if parameter.type == "integer" else _as_number(value)
    except ValueError as error:
        raise ValueError(f"{error}{f' of {parameter.unit}' if parameter.unit else ''}") from error
    if parameter.min is not None and number < parameter.min:
        raise ValueError(
            f"{shown_number(number)}{unit} is below the smallest value, {shown_number(parameter.min)}{unit}"
        )
    if parameter.max is not None and number > parameter.max:
        raise ValueError(
            f"{shown_number(number)}{unit} is above the largest value, {shown_number(parameter.max)}{unit}"
        )
    return number


def _as_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "on", "1"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "no", "off", "0", ""):
        return False
    raise ValueError(f"`{shown(str(value))}` is neither true nor false")


def _as_integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value, re.ASCII)
    ):
        number = int(value)
    else:
        raise ValueError(f"`{shown(str(value))}` is not a whole number")
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"{shown(str(number))} does not fit into 32 bits")
    return number


def _as_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"`{shown(str(value))}` is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"`{shown(str(value))}` is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"`{shown(str(value))}` is not a finite number")
    return number


def _as_string(parameter: Parameter, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{shown(str(value))}` is not text")
    if "\0" in value:
        raise ValueError("has a NUL character, which no text may have")
    if parameter.choices:
        if value not in parameter.choices:
            raise ValueError(f"`{shown(value)}` is not one of {', '.join(parameter.choices)}")
        return value
    if parameter.min is not None and len(value) < parameter.min:
        raise ValueError(f"has {len(value)} characters; {shown_number(parameter.min)} is the fewest")
    if parameter.max is not None and len(value) > parameter.max:
        raise ValueError(f"has {len(value)} characters; {shown_number(parameter.max)} is the most")
    if parameter.pattern and not re.fullmatch(parameter.pattern, value):
        raise ValueError(
            f"`{shown(value)}` has characters that are not allowed here (pattern {parameter.pattern})"
        )
    return value
