"""Vendored files are exactly those of the manifest, with version and licence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from web import vendor

FOLDERS = [vendor.FOLDER, Path(__file__).parents[2] / "integration" / "web" / "pages" / "vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["served", "of the tests"])
def test_files_are_those_of_the_manifest(folder: Path) -> None:
    """Nothing is missing, changed or unlisted, and each package states version and licence and brings its text."""
    assert vendor.problems(folder) == []
    for package in vendor.read_manifest(folder):
        assert package.version
        assert package.licence
        assert any(file.source == "LICENSE" for file in package.files), package.name


def test_a_changed_a_missing_and_a_foreign_file_are_told(tmp_path: Path) -> None:
    """Each way in which a folder can differ from its manifest is a sentence of its own."""
    folder = tmp_path / "vendor"
    shutil.copytree(vendor.FOLDER, folder)
    (folder / "htmx" / "htmx.min.js").write_text("changed")
    (folder / "uplot" / "uPlot.min.css").unlink()
    (folder / "stranger.js").write_text("")
    assert vendor.problems(folder) == [
        "uplot/uPlot.min.css is in the manifest and not in the folder",
        "htmx/htmx.min.js is not the file that the manifest describes",
        "stranger.js is in the folder and not in the manifest",
    ]
