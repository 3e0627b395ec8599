"""Bytes written as text in parameters."""

from __future__ import annotations

import pytest

from streamswarm import contract
from streamswarm.contract import InvalidInputError
from worker import escapes


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("220 ", b"220 "),
        (r"PING\r\n", b"PING\r\n"),
        (r"\x00\xff\\n", b"\x00\xff\\n"),
        ("é", "é".encode()),
        (r"a\tb", b"a\tb"),
    ],
)
def test_escapes_stand_for_single_bytes(text: str, data: bytes) -> None:
    """Everything else is UTF-8."""
    assert escapes.to_bytes(text) == data
    assert contract.spec_values(contract.make_spec("tcp", {"expect": text}))["expect"] == text


@pytest.mark.parametrize("text", ["\\", r"\q", r"\x1", r"\xzz", "a\\"])
def test_other_escapes_are_refused_by_the_contract(text: str) -> None:
    """Before a worker sees them."""
    with pytest.raises(InvalidInputError, match=r"spec\.send"):
        contract.make_spec("tcp", {"send": text})
