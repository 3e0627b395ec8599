"""Validation names every fault by its path, fills defaults in, and survives any input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamswarm import contract
from streamswarm.contract import InvalidInputError, UnknownKindError
from streamswarm.values import shown_number

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def problems(kind: str, values: dict[str, object]) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        contract.make_spec(kind, values)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_the_first_kinds_are_there() -> None:
    """All kinds, each with a headline metric, every metric with label and unit."""
    assert list(contract.kinds()) == [
        "ping",
        "tcp",
        "dns",
        "http",
        "system",
        "traceroute",
        "tls",
        "tcp_window",
        "qos",
        "mtu",
    ]
    for kind in contract.kinds().values():
        assert kind.headline.label
        groups = [kind.metrics, *(child.metrics for child in kind.children)]
        assert all(
            metric.label and metric.unit and metric.description and metric.group
            for group in groups
            for metric in group
        )
        assert all(parameter.label and parameter.description for parameter in kind.parameters)


def test_units_stand_in_names() -> None:
    """A metric whose unit has a dimension says so in its name."""
    suffixes = {
        "ms": "_ms",
        "%": "_pct",
        "By": "bytes",
        "By/s": "bytes_per_s",
        "/s": "_per_s",
        "s": "_s",
        "Cel": "_cel",
        "d": "days_left",
        "km": "_km",
        "deg": "_deg",
    }
    for kind in contract.kinds().values():
        for group in [kind.metrics, *(child.metrics for child in kind.children)]:
            for metric in group:
                if metric.unit != "1":
                    named = metric.name.endswith(suffixes[metric.unit]) or (
                        metric.unit == "By" and "bytes" in metric.name
                    )
                    assert named, f"{kind.name}.{metric.name} is in {metric.unit}"


def test_defaults_are_filled_in() -> None:
    """A specification without values has every default."""
    values = contract.spec_values(contract.make_spec("ping", {}))
    assert values["count"] == 3
    assert values["size_bytes"] == 56
    assert values["address_family"] == "any"


def test_every_fault_is_named_by_its_path() -> None:
    """Unknown fields, values out of range and wrong types are all reported at once."""
    found = problems(
        "ping", {"count": 0, "dscp": "64", "size_bytes": "many", "colour": "red", "address_family": "ipv5"}
    )
    assert found["spec.count"] == "0 is below the smallest value, 1"
    assert found["spec.dscp"] == "64 is above the largest value, 63"
    assert found["spec.size_bytes"] == "`many` is not a whole number of By"
    assert "has no such parameter" in found["spec.colour"]
    assert found["spec.address_family"] == "`ipv5` is not one of any, ipv4, ipv6"


def test_lists_are_read_from_text_and_checked_item_by_item() -> None:
    """A form sends `200, 301`; a fault names the item."""
    assert contract.spec_values(contract.make_spec("http", {"valid_status": "200, 301"}))["valid_status"] == [
        200,
        301,
    ]
    assert list(problems("http", {"valid_status": [200, 999]})) == ["spec.valid_status[1]"]


@pytest.mark.parametrize("value", [True, 1.5, "1e3", "", " ", "٣", float("nan"), 2**40, [1], {}, "0x10"])
def test_only_whole_numbers_pass_for_whole_numbers(value: object) -> None:
    """Booleans, fractions, other scripts' digits and the like are refused; an empty field takes the default."""
    if value == "":
        assert contract.spec_values(contract.make_spec("ping", {"count": value}))["count"] == 3
    else:
        assert list(problems("ping", {"count": value})) == ["spec.count"]


@pytest.mark.parametrize(("value", "expected"), [("on", True), ("false", False), (True, True), ("", True)])
def test_booleans_as_forms_send_them(value: object, expected: bool) -> None:
    """`on` and `false` are read; an empty field takes the default."""
    assert contract.spec_values(contract.make_spec("http", {"verify_tls": value}))["verify_tls"] is expected


def test_unknown_kinds_are_named_with_those_that_exist() -> None:
    """The message helps to mend a typing error."""
    with pytest.raises(
        UnknownKindError, match="`pnig` is not a probe kind; there are ping, tcp, dns, http, system"
    ):
        contract.make_spec("pnig", {})


@given(
    st.sampled_from(list(contract.kinds())),
    st.dictionaries(st.text(max_size=10), ANYTHING, max_size=4),
    st.data(),
)
def test_any_input_is_either_taken_or_refused_by_path(
    kind: str, noise: dict[str, object], data: st.DataObject
) -> None:
    """No input crashes validation, and what it takes it takes again."""
    names = [parameter.name for parameter in contract.kind(kind).parameters]
    values = {**noise, data.draw(st.sampled_from(names)): data.draw(ANYTHING)}
    try:
        spec = contract.make_spec(kind, values)
    except InvalidInputError as error:
        assert error.problems
        assert all(problem.path.startswith("spec") for problem in error.problems)
    else:
        contract.check_spec(spec)
        assert contract.make_spec(kind, contract.spec_values(spec)) == spec


def test_a_specification_from_the_wire_is_checked_again() -> None:
    """A worker refuses what a controller should not have sent."""
    spec = contract.make_spec("ping", {})
    spec.ping.count = 5000
    with pytest.raises(InvalidInputError, match=r"spec\.count: 5000 is above the largest value, 1000"):
        contract.check_spec(spec)


def test_messages_show_numbers_exactly() -> None:
    """A refused value never looks smaller than the limit that it exceeds."""
    assert problems("http", {"max_body_bytes": 1073741825})["spec.max_body_bytes"] == (
        "1073741825 By is above the largest value, 1073741824 By"
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_shown_number_reads_back_the_same(number: float) -> None:
    """No digit is lost between a page and the form that comes back from it."""
    assert float(shown_number(number)) == number


def test_every_kind_has_a_metric_whose_layer_tells_where_a_fault_lies() -> None:
    """Diagnosis would be blind for a kind none of whose metrics speaks of a part of a run's way."""
    for kind in contract.kinds().values():
        layered = [metric for metric in kind.metrics if metric.layer != "none"]
        assert layered, kind.name
        assert all(metric.better != "neither" and metric.type != "boolean" for metric in layered), kind.name


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        ("http", {"body_pattern": "(a{1000}){1000}"}, "body_pattern"),
        ("http", {"body_pattern": "(unfinished"}, "body_pattern"),
        ("dns", {"pattern_syntax": "regex", "unwanted_pattern": "(a{1000}){1000}"}, "unwanted_pattern"),
    ],
)
def test_regular_expressions_that_workers_refuse_are_refused(
    kind: str, values: dict[str, object], name: str
) -> None:
    """Where they are regular expressions: the same text is fine where it is looked for as it stands."""
    found = problems(kind, values)
    assert list(found) == [f"spec.{name}"]
    assert found[f"spec.{name}"].startswith("no regular expression: ")
    assert contract.make_spec("dns", {"unwanted_pattern": "(a{1000}){1000}"}).dns.unwanted_pattern
