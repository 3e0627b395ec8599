"""Forms generated from the contract: a kind's parameters become fields, and fields become values again.

A field's `path` is the one that the contract's problems carry (`spec.count`), so every fault is shown where it
was made. Nothing here knows a kind by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from streamswarm.contract import Kind, Parameter, Problem

Control = Literal["number", "text", "lines", "select", "checkbox", "checkboxes"]

#: What UCUM codes are called beside a field.
UNIT_WORDS = {"By": "bytes", "By/s": "bytes/s", "Cel": "°C", "1": "", "d": "days"}


class Submitted(Protocol):
    """What was sent by a form: werkzeug's MultiDict, or any like it."""

    def getlist(self, key: str, /) -> list[str]:
        """Return every value of a field."""
        ...


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a form, ready to be drawn."""

    #: Name of the control and path of its problems: `spec.count`.
    path: str
    label: str
    #: One or two sentences, and what is allowed.
    help: str
    control: Control
    #: Text of the control; of a checkbox `true` or empty.
    value: str
    #: Values that are ticked, of `checkboxes`.
    values: tuple[str, ...]
    #: Shown behind the control.
    unit: str
    min: str
    max: str
    step: str
    pattern: str
    max_length: str
    choices: tuple[str, ...]
    #: The field may be left empty.
    optional: bool
    advanced: bool
    problems: tuple[str, ...]

    @property
    def id(self) -> str:
        """The control's id in the page."""
        return field_id(self.path)


def field_id(path: str) -> str:
    """Return the id that a control of this path has in the page: no dots, no brackets."""
    return "field-" + "".join(character if character.isalnum() else "-" for character in path).strip("-")


def parameter_fields(
    kind: Kind, values: Mapping[str, Any] | None = None, problems: Iterable[Problem] = ()
) -> tuple[Field, ...]:
    """Return a field for every parameter of a kind, filled from `values`, else from the defaults."""
    given = values or {}
    by_path = group_problems(problems)
    return tuple(
        _field(parameter, given.get(parameter.name, parameter.default), by_path)
        for parameter in kind.parameters
    )


def read_parameters(kind: Kind, submitted: Submitted) -> dict[str, Any]:
    """Return the parameters as they were sent, for `contract.make_spec`; what was left out takes its default."""
    values: dict[str, Any] = {}
    for parameter in kind.parameters:
        sent = submitted.getlist(f"spec.{parameter.name}")
        control = _control(parameter)
        if control == "checkbox":
            values[parameter.name] = bool(sent)
        elif control == "checkboxes":
            if sent:
                values[parameter.name] = sent
        elif sent and control == "lines":
            values[parameter.name] = sent[0].replace("\r\n", "\n")  # browsers send lines as mail does
        elif sent:
            values[parameter.name] = sent[0].strip() if parameter.type != "string" else sent[0]
    return values


def group_problems(problems: Iterable[Problem]) -> dict[str, tuple[str, ...]]:
    """Return the messages by the path of their field: `spec.valid_status[2]` belongs to `spec.valid_status`."""
    grouped: dict[str, tuple[str, ...]] = {}
    for problem in problems:
        path = problem.path.partition("[")[0]
        grouped[path] = (*grouped.get(path, ()), problem.message)
    return grouped


def _field(parameter: Parameter, value: Any, problems: Mapping[str, tuple[str, ...]]) -> Field:
    path = f"spec.{parameter.name}"
    control = _control(parameter)
    numeric = parameter.type in ("integer", "number")
    is_text = control in ("text", "lines") and not numeric
    return Field(
        path=path,
        label=parameter.label,
        help=_help(parameter),
        control=control,
        value=_as_text(value),
        values=tuple(str(item) for item in value or ()) if control == "checkboxes" else (),
        unit=UNIT_WORDS.get(parameter.unit, parameter.unit),
        min=_bound(parameter.min) if control == "number" else "",
        max=_bound(parameter.max) if control == "number" else "",
        step=("1" if parameter.type == "integer" else "any") if control == "number" else "",
        pattern=parameter.pattern if is_text and not parameter.repeated else "",
        max_length=_bound(parameter.max) if is_text and not parameter.repeated else "",
        choices=parameter.choices,
        optional=parameter.default is None or parameter.repeated,
        advanced=parameter.advanced,
        problems=problems.get(path, ()),
    )


def _control(parameter: Parameter) -> Control:
    if parameter.type == "boolean":
        return "checkbox"
    if parameter.choices:
        return "checkboxes" if parameter.repeated else "select"
    if parameter.multiline:
        return "lines"
    if parameter.repeated or parameter.type == "string":
        return "text"
    return "number"


def _help(parameter: Parameter) -> str:
    parts = [parameter.description]
    unit = UNIT_WORDS.get(parameter.unit, parameter.unit)
    if parameter.type in ("integer", "number") and parameter.min is not None and parameter.max is not None:
        parts.append(f"{_grouped(parameter.min)} to {_grouped(parameter.max)}{' ' + unit if unit else ''}.")
    if parameter.repeated and not parameter.choices:
        parts.append("Several are separated by commas.")
    return " ".join(parts)


def _grouped(number: float) -> str:
    return f"{number:,.15g}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _bound(number: float | None) -> str:
    return "" if number is None else f"{number:.15g}"


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)
