"""Files of others that the dashboard serves: fetched from npm by name and version, held by a manifest.

`python -m web.vendor [FOLDER]` packs each package of `FOLDER/manifest.json` with `npm pack`, writes its listed
files and their hashes anew. `problems()` tells what in a folder differs from its manifest; a test calls it, so
nothing unlisted is ever served and nothing listed is ever changed by hand.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "static" / "vendor"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class VendoredFile:
    """One file taken from a package."""

    #: Path below the folder, `/` between its parts.
    path: str
    #: Path inside the package.
    source: str
    #: SHA-256 of the content, hexadecimal.
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package and what is taken from it."""

    name: str
    version: str
    #: SPDX identifier.
    licence: str
    files: tuple[VendoredFile, ...]


def read_manifest(folder: Path = FOLDER) -> tuple[Package, ...]:
    """Return the packages that the folder's manifest lists."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return tuple(
        Package(
            name=entry["name"],
            version=entry["version"],
            licence=entry["licence"],
            files=tuple(VendoredFile(**item) for item in entry["files"]),
        )
        for entry in content["packages"]
    )


def problems(folder: Path = FOLDER) -> list[str]:
    """Return one sentence for each file that is missing, changed or not in the manifest."""
    found: list[str] = []
    listed = {file.path: file for package in read_manifest(folder) for file in package.files}
    for path, file in listed.items():
        place = folder / path
        if not place.is_file():
            found.append(f"{path} is in the manifest and not in the folder")
        elif hashlib.sha256(place.read_bytes()).hexdigest() != file.sha256:
            found.append(f"{path} is not the file that the manifest describes")
    found.extend(
        f"{place.relative_to(folder).as_posix()} is in the folder and not in the manifest"
        for place in sorted(folder.rglob("*"))
        if place.is_file() and place.name != MANIFEST and place.relative_to(folder).as_posix() not in listed
    )
    return found


def fetch(folder: Path = FOLDER) -> None:
    """Fetch every package of the manifest, write its files, and write their hashes into the manifest."""
    entries: list[dict[str, Any]] = []
    for package in read_manifest(folder):
        contents = _pack(package)
        files = []
        for file in package.files:
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents[file.source])
            digest = hashlib.sha256(contents[file.source]).hexdigest()
            files.append({"path": file.path, "source": file.source, "sha256": digest})
        licence = json.loads(contents["package.json"])["license"]
        entries.append({"name": package.name, "version": package.version, "licence": licence, "files": files})
    text = json.dumps({"packages": entries}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _pack(package: Package) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package.name}@{package.version}"], cwd=place, check=True
        )
        (archive,) = Path(place).glob("*.tgz")
        contents: dict[str, bytes] = {}
        with tarfile.open(archive) as members:
            for member in members:
                stream = members.extractfile(member)
                if stream is not None:
                    contents[member.name.partition("/")[2]] = stream.read()
        return contents


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
