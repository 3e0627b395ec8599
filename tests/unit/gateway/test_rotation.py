"""The steps of a rotation on real files: every crash in the middle is mended by calling the step again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controller.errors import StreamSwarmError
from controller.gateway import rotation
from controller.gateway.authority import Authority
from controller.gateway.rotation import NotYetError, Stage
from controller.settings import Settings


class Crash(BaseException):
    """The machine stops here."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with an authority."""
    made = Settings(data_dir=tmp_path)
    Authority(made)
    return made


@pytest.fixture
def waiting() -> list[str]:
    """The workers that have not come along; none unless a test puts some there."""
    return []


@pytest.fixture
def step(settings: Settings, waiting: list[str]) -> Callable[..., Stage]:
    """Take a step."""
    return lambda **more: rotation.take_step(settings, lambda since: waiting, **more)


def _roots(settings: Settings) -> list[bytes]:
    return [
        root.tbs_certificate_bytes for root in x509.load_pem_x509_certificates(Authority(settings).bundle_pem)
    ]


def _key_fits(settings: Settings) -> bool:
    folder = settings.data_dir / "ca"
    key: Any = load_pem_private_key((folder / "root.key").read_bytes(), password=None)
    root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    return bool(key.public_key() == root.public_key())


def test_two_roots_overlap_and_change_places(settings: Settings, step: Callable[..., Stage]) -> None:
    """One, two with the old one first, two with the new one first, one; the key always fits the first."""
    [old] = _roots(settings)
    assert step() is Stage.TRUSTED
    first, new = _roots(settings)
    assert first == old != new
    assert step() is Stage.SWITCHED
    assert _roots(settings) == [new, old]
    assert step() is Stage.SINGLE
    assert _roots(settings) == [new]
    assert _key_fits(settings)
    assert {path.name for path in (settings.data_dir / "ca").glob("*root*")} == {"root.key", "root.pem"}


def test_a_gateway_that_runs_signs_by_the_new_root(settings: Settings, step: Callable[..., Stage]) -> None:
    """Without a restart; its certificate is vouched for by the root that is in force."""
    authority = Authority(settings)
    before = authority.server_identity().chain_pem
    step()
    assert authority.server_identity().chain_pem == before
    step()
    _, intermediate = x509.load_pem_x509_certificates(authority.server_identity().chain_pem)
    root, *_ = x509.load_pem_x509_certificates(authority.bundle_pem)
    intermediate.verify_directly_issued_by(root)


@pytest.mark.parametrize("at", [Stage.TRUSTED, Stage.SWITCHED])
def test_no_step_cuts_a_worker_off(
    settings: Settings, step: Callable[..., Stage], waiting: list[str], at: Stage
) -> None:
    """Workers that have not come along are named; those who are left behind on purpose are left behind."""
    while rotation.stage(settings) is not at:
        step()
    waiting += [f"host{number}" for number in range(25)]
    before = _roots(settings)
    with pytest.raises(NotYetError, match=r"25 workers .*host0, .* and 5 more"):
        step()
    assert _roots(settings) == before
    assert step(leave_behind=True) is not at


@pytest.mark.parametrize("operation", range(9))
def test_a_change_of_places_that_is_broken_off_is_completed(
    settings: Settings, step: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    """Whichever of its operations is the last: calling it again leaves the new root with its key, and both trusted."""
    step()
    old, new = _roots(settings)
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            nonlocal count
            if count == operation:
                raise Crash
            count += 1
            return real(*words)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "write_private", counted(rotation.write_private))
        patch.setattr(rotation.Path, "rename", counted(os.rename))
        patch.setattr(rotation.Path, "unlink", counted(os.unlink))
        with contextlib.suppress(Crash):
            step()
    if rotation.stage(settings) is Stage.TRUSTED:
        assert step() is Stage.SWITCHED
    assert _roots(settings) == [new, old]
    assert _key_fits(settings)


def test_a_root_whose_key_is_away_is_not_replaced(settings: Settings, step: Callable[..., Stage]) -> None:
    """The message names the file that is wanted."""
    (settings.data_dir / "ca" / "root.key").unlink()
    with pytest.raises(StreamSwarmError, match=r"root\.key is not here"):
        step()
    assert rotation.stage(settings) is Stage.SINGLE
