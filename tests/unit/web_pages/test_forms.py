"""Forms from the contract: every kind's parameters become fields, and fields become the same parameters again."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import MultiDict

from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, Problem
from web.forms import Field, field_id, group_problems, parameter_fields, read_parameters

KINDS = list(contract.kinds().values())


def sent(fields: tuple[Field, ...]) -> MultiDict[str, str]:
    """Return what a browser sends for a form that is left as it is."""
    values: MultiDict[str, str] = MultiDict()
    for field in fields:
        if field.control == "checkbox":
            if field.value:
                values.add(field.path, "true")
        elif field.control == "checkboxes":
            for value in field.values:
                values.add(field.path, value)
        else:
            values.add(field.path, field.value)
    return values


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_parameter_is_a_field_with_its_limits(kind: Kind) -> None:
    """Label, limits, choices and folding of each field are those of the contract."""
    fields = parameter_fields(kind)
    assert [field.path for field in fields] == [f"spec.{parameter.name}" for parameter in kind.parameters]
    for field, parameter in zip(fields, kind.parameters, strict=True):
        assert field.label == parameter.label
        assert parameter.description in field.help
        assert field.advanced == parameter.advanced
        assert field.choices == parameter.choices
        if field.control == "number":
            assert field.min == ("" if parameter.min is None else f"{parameter.min:.15g}")
            assert field.max == ("" if parameter.max is None else f"{parameter.max:.15g}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_untouched_form_gives_the_defaults(kind: Kind) -> None:
    """What a browser sends for the drawn defaults makes the same spec as no values at all."""
    values = read_parameters(kind, sent(parameter_fields(kind)))
    assert contract.make_spec(kind.name, values) == contract.make_spec(kind.name, {})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_stored_values_survive_a_round_trip(kind: Kind) -> None:
    """Values that differ from the defaults come back from the form as they were stored."""
    changed = {}
    for parameter in kind.parameters:
        if parameter.type == "boolean":
            changed[parameter.name] = not parameter.default
        elif parameter.choices:
            last = parameter.choices[-1]
            changed[parameter.name] = [last] if parameter.repeated else last
        elif parameter.type == "integer":
            number = int(parameter.max or 7)
            changed[parameter.name] = [number] if parameter.repeated else number
    spec = contract.make_spec(kind.name, changed)
    stored = contract.spec_values(spec)
    again = read_parameters(kind, sent(parameter_fields(kind, stored)))
    assert contract.make_spec(kind.name, again) == spec


def test_problems_stand_at_their_fields() -> None:
    """Each fault that the contract finds is shown at the field with its path, list entries at their list."""
    http = contract.kind("http")
    typed = MultiDict({"spec.timeout_ms": "1", "spec.valid_status": "200, 9000", "spec.method": "BREW"})
    with pytest.raises(InvalidInputError) as found:
        contract.make_spec("http", read_parameters(http, typed))
    fields = {field.path: field for field in parameter_fields(http, {}, found.value.problems)}
    assert "below the smallest value" in fields["spec.timeout_ms"].problems[0]
    assert "above the largest value" in fields["spec.valid_status"].problems[0]
    assert "not one of" in fields["spec.method"].problems[0]
    assert fields["spec.max_redirects"].problems == ()


def test_what_was_typed_wrong_is_shown_again() -> None:
    """A value that is no number stays in its field, so that it can be mended."""
    ping = contract.kind("ping")
    values = read_parameters(ping, MultiDict({"spec.count": "many"}))
    assert (
        next(field for field in parameter_fields(ping, values) if field.path == "spec.count").value == "many"
    )


def test_problems_of_a_list_belong_to_the_list() -> None:
    """`destinations[3]` is shown at `destinations`, and several messages of one field stay together."""
    problems = [
        Problem(path="destinations[3]", message="a"),
        Problem(path="name", message="b"),
        Problem(path="destinations", message="c"),
    ]
    assert group_problems(problems) == {"destinations": ("a", "c"), "name": ("b",)}


def test_ids_can_stand_in_a_selector() -> None:
    """A path with dots and brackets becomes an id of letters, digits and hyphens."""
    assert field_id("spec.valid_status[2]") == "field-spec-valid-status-2"
