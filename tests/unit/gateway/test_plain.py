"""What is made fit for PostgreSQL's `jsonb` stays JSON and keeps its meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.gateway.plain import storable_json, without_nul

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a\\u0\0"\ud800é')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from("a\\u0\0")), inner),
)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a": "x\\u0000"}, {"a": "x\\u0000"}),
        ({"a": "x\0y", "b\0": ["\0"]}, {"a": "xy", "b": [""]}),
        ({"a": "\\\0"}, {"a": "\\"}),
        ({"a": "\ud800"}, {"a": "?"}),
    ],
)
def test_only_nul_and_half_pairs_go(value: dict[str, Any], kept: dict[str, Any]) -> None:
    r"""The character NUL goes, the text `\u0000` stays."""
    assert json.loads(storable_json(value)) == kept


@given(st.dictionaries(st.text(), VALUES))
def test_whatever_comes_stays_json(value: dict[str, Any]) -> None:
    """Any value can be read back, has no NUL and can be written as UTF-8."""
    text = storable_json(value)
    text.encode()
    assert without_nul(json.loads(text)) == json.loads(text)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    """PostgreSQL would not take them."""
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            storable_json({"a": number})
