"""The distribution as its users get it: built once, and installed into an environment of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.packages import build, install


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="streamswarm-wheel-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def built(workshop: Path) -> dict[str, Path]:
    """Sdist and wheel, by their suffix."""
    return {path.suffix: path for path in build(workshop / "dist")}


@pytest.fixture(scope="session")
def wheel(built: dict[str, Path]) -> Path:
    """The wheel."""
    return built[".whl"]


@pytest.fixture(scope="session")
def controller(workshop: Path, wheel: Path) -> Path:
    """`bin` of an environment with the wheel and the controller's side."""
    return install(workshop / "controller", wheel, "controller")
