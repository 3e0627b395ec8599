"""gRPC passes over options that it does not know without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled

from controller.gateway import listeners
from worker import transport

_LIBRARY = Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            name
            for options in (
                listeners._COMMON_OPTIONS,
                listeners._SESSION_OPTIONS,
                listeners._ENROLMENT_OPTIONS,
                transport._OPTIONS,
            )
            for name, _ in options
        }
    ),
)
def test_grpc_knows_the_option(name: str) -> None:
    """Its name stands in the library, so it is not a slip of ours."""
    assert name.encode() + b"\0" in _LIBRARY
