"""Conditions on JSON: comparisons of RFC 9535 with singular queries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamswarm import contract
from worker.http import conditions, demands
from worker.http.conditions import ConditionError
from worker.wire.http_body import Body
from worker.wire.http_exchange import Exchange

DOCUMENT = {
    "status": "ok",
    "count": 3,
    "ratio": 0.5,
    "up": True,
    "nothing": None,
    "items": [{"name": "a"}, {"name": "b c", "deep": {"er": [1, 2]}}],
    "odd name": 'with "quotes"',
    "it's": 1,
    "größe": 7,
}


def problems(text: str) -> list[str]:
    """Return what the document does not fulfil."""
    return [problem for one in conditions.parse(text) if (problem := one.problem(DOCUMENT))]


@pytest.mark.parametrize(
    "text",
    [
        '$.status == "ok"',
        "$.status=='ok'",
        "$.count >= 3 && $.count<4&&$.count != 2",
        "$.ratio == 0.5",
        "$.ratio <= 5e-1 && $.ratio > 0",
        "$.up == true",
        "$.nothing == null",
        "$.nothing",
        "$.nothing != false",
        '$.items[1].name == "b c"',
        "$.items[-1].deep.er[0] == 1",
        "$['items'][0][\"name\"] == 'a'",
        "$['odd name'] == 'with \"quotes\"'",
        "$['it\\'s'] == 1",
        "$.größe == 7",
        '$.missing != "x"',
        '$.count != "3"',
        '$.status < "oz"',
        "$ != 1",
        "$.up != 1",
        "$.count == 3.0",
    ],
)
def test_what_holds(text: str) -> None:
    """No problem is told."""
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('$.status == "down"', '`$.status` is "ok"; the test wants == "down"'),
        ("$.count > 3", "`$.count` is 3; the test wants > 3"),
        ("$.missing", "`$.missing` is not there"),
        ("$.missing == 1", "`$.missing` is not there; the test wants == 1"),
        ("$.items[2].name", "`$.items[2].name` is not there"),
        ("$.items.name", "`$.items.name` is not there"),
        ("$.status[0]", "`$.status[0]` is not there"),
        ('$.count > "2"', "the test wants"),
        ("$.up > false", "the test wants"),
        ("$.up == 1", "the test wants"),
        ("$.nothing == 0", "the test wants"),
    ],
)
def test_what_does_not(text: str, words: str) -> None:
    """The sentence says what is there and what is wanted; different types are unequal and in no order."""
    [problem] = problems(text)
    assert words in problem


def test_each_condition_is_told_by_itself() -> None:
    """Two that do not hold, one that does."""
    assert len(problems("$.count == 4 && $.up && $.status == 'x'")) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with `$`"),
        ("status == 1", "column 1"),
        ("$.a ==", "wants a value"),
        ("$.a = 1", "column 5"),
        ("$.a == 1 $.b", "expected `&&`"),
        ("$.a == 1 &&", "begins with `$`"),
        ("$.a == ok", "column 8"),
        ("$..a", "column 2"),
        ("$.a[*]", "column 4"),
        ("$.a[?@.b]", "column 4"),
        ('$.a == "\\x"', "is no text"),
        ("$.a == 01", "expected `&&`"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, words: str) -> None:
    """With the column, before anything is sent."""
    with pytest.raises(ConditionError) as caught:
        conditions.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="$.ab[0-1]'\"=!<>& &1te", max_size=40))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    """And what is one can be evaluated on anything."""
    try:
        parsed = conditions.parse(text)
    except ConditionError:
        return
    for document in (DOCUMENT, [1], "x", None, 3):
        for one in parsed:
            assert one.problem(document).isprintable()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_a_value_equals_itself(value: object) -> None:
    """Written as JSON, where it is a literal."""
    text = json.dumps(value)
    if isinstance(value, list):
        return
    [one] = conditions.parse(f"$.v == {text}")
    assert one.problem({"v": value}) == ""


def test_a_value_nested_too_deeply_is_not_shown() -> None:
    """It still differs from what the test wants."""
    document: object = 1
    for _ in range(100_000):
        document = [document]
    (condition,) = conditions.parse("$.a == 1")
    assert "nested too deeply" in condition.problem({"a": document})


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
async def test_what_json_has_no_number_for_is_no_json(name: str) -> None:
    """Python's reader takes them (RFC 8259, section 6): wherever they stand, the body is not JSON."""
    body = Body(longest=100, keep=True)
    body.begin("")
    await body.feed(f'{{"a": 1, "b": [{name}]}}'.encode())
    demanded = demands.demands(contract.make_spec("http", {"json_matches": "$.a == 1"}).http)
    (unmet,) = await demands.unmet_on_examination(demanded, Exchange(), body)
    assert unmet.text == f"has a body that is not JSON: {name} is no number of JSON"
