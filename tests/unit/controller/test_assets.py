"""Where an installation's own commands are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from controller import assets


def test_an_environment_has_its_commands_beside_its_python() -> None:
    """This one is no unpacked bundle."""
    assert assets.release() is None
    assert assets.programs() == Path(sys.executable).parent


def test_a_bundle_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's Python lies elsewhere, and Ansible beside it would be somebody else's."""
    package = tmp_path / "lib" / "controller"
    monkeypatch.setattr(assets, "_PACKAGE", package)
    assert assets.release() is None
    (tmp_path / "release.json").write_text("{}")
    assert assets.release() == tmp_path
    assert assets.programs() == tmp_path / "bin"
