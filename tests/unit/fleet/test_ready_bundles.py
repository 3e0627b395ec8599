"""Bundles that lie ready, by their version."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controller.fleet import archive, bundles
from controller.fleet.bundles import Bundle, BundleError, ensure_bundle
from controller.fleet.platforms import Platform

HERE = Platform.parse(python="3.11.2", architecture="x86_64", libc="glibc-2.36")
ELSEWHERE = Platform.parse(python="3.12.1", architecture="x86_64", libc="glibc-2.36")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a bundle of an older release, and one for another platform."""
    tmp_path.chmod(0o700)
    for name, version, platform in (("old", "0.9+abc", HERE), ("other", "1.0+def", ELSEWHERE)):
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(name.encode())
        bundle = Bundle(path=path, version=version, sha256=archive.file_hash(path), platform=platform)
        path.with_name(f"{name}.tar.gz.json").write_text(json.dumps(bundle.description()))
    return tmp_path


def test_a_release_that_lies_ready_is_found_by_its_version(folder: Path) -> None:
    """Nothing is built for it."""
    found = ensure_bundle(HERE, folder=folder, release="0.9+abc")
    assert (found.version, found.path) == ("0.9+abc", folder / "old.tar.gz")


def test_one_that_does_not_is_told_with_those_that_do(folder: Path) -> None:
    """Of this platform; one that was changed since is not given out."""
    with pytest.raises(BundleError, match=r"'1.0\+def' for py3.11.2.*there are: 0.9\+abc"):
        ensure_bundle(HERE, folder=folder, release="1.0+def")
    (folder / "old.tar.gz").write_bytes(b"changed")
    with pytest.raises(BundleError, match="no bundle of the version"):
        ensure_bundle(HERE, folder=folder, release="0.9+abc")


def test_bundles_that_nobody_asked_for_of_late_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another is built: of its part and platform the five stay that were given out last, others are left alone."""
    for number in range(7):
        path = folder / f"b{number}.tar.gz"
        path.write_bytes(b"x")
        bundle = Bundle(path=path, version=f"1.{number}", sha256=archive.file_hash(path), platform=HERE)
        path.with_name(f"{path.name}.json").write_text(json.dumps(bundle.description()))
        os.utime(path, (number, number))
    os.utime(folder / "old.tar.gz", (0, 0))
    ensure_bundle(HERE, folder=folder, release="1.1")

    def build(platform: Platform, source: Any, path: Path, report: Any) -> Bundle:
        path.write_bytes(b"new")
        made = Bundle(path=path, version="2.0", sha256=archive.file_hash(path), platform=platform)
        path.with_name(f"{path.name}.json").write_text(json.dumps(made.description()))
        return made

    monkeypatch.setattr(bundles, "_build", build)
    built = ensure_bundle(HERE, folder=folder)
    names = {path.name for path in folder.iterdir() if path.name != ".lock"}
    kept = {"b1.tar.gz", "b4.tar.gz", "b5.tar.gz", "b6.tar.gz", "other.tar.gz", built.path.name}
    assert names == kept | {f"{name}.json" for name in kept}
