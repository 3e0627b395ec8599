"""Turns a worker bundle into a release on this host: checked, unpacked, compiled, and only then given its name.

Runs on the host, with the Python that will run the worker, and needs nothing but its standard library.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import json
import os
import platform
import py_compile
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

#: The list of a release's files in the form of sha256sum(1). `release.json` comes last, so that a list that was cut off shows.
LIST = "files.sha256"
#: What a release may be called; it becomes the name of a folder.
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+_-]{0,80}")


class UnpackError(Exception):
    """The bundle cannot become a release; the message says why and what to do."""


def unpack(
    archive: Path, sha256: str, releases: Path, keep: int, version: str, *, compiled: bool = True
) -> Path:
    """Unpack `archive` below `releases` and return the release's folder; the archive is removed, also after a failure.

    A bundle that was not compiled where it was built is compiled here, and its files are listed, by which damage shows
    later; both pay off (`compiled`) for a release that is started more than once.
    """
    try:
        return _unpacked(archive, sha256, releases, keep, version, compiled=compiled)
    finally:
        archive.unlink(missing_ok=True)


def _unpacked(archive: Path, sha256: str, releases: Path, keep: int, version: str, *, compiled: bool) -> Path:
    releases.mkdir(mode=0o755, exist_ok=True)
    check_hash(archive, sha256)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=releases))
    try:
        extract(archive, partial)
        described = json.loads((partial / "release.json").read_text(encoding="utf-8"))
        check_version(described, version)
        check_platform(described)
        name_interpreter(partial / "bin")
        if compiled and described.get("compiled") != sys.implementation.cache_tag:
            # Never checked again against the sources: those never change within a release.
            compileall.compile_dir(
                str(partial / "lib"),
                quiet=2,
                stripdir=str(partial),
                prependdir=str(releases / version),
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        if compiled:
            list_files(partial)
        partial.chmod(0o755)
        release = releases / version
        # A release that has its name is whole, also after the power went.
        os.sync()
        if release.exists():
            # Whatever ends this here, `current` leads nowhere for a moment only; pruning removes what is aside.
            release.rename(Path(tempfile.mkdtemp(prefix=".partial-", dir=releases)) / version)
        partial.rename(release)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    prune(releases, release, keep)
    return release


def list_files(release: Path) -> None:
    """Write the list of a release's files into it."""
    names = sorted(path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file())
    names.remove("release.json")
    lines = [f"{file_hash(release / name)}  {name}\n" for name in [*names, "release.json"]]
    (release / LIST).write_text("".join(lines), encoding="utf-8")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of one file, in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def check_hash(archive: Path, sha256: str) -> None:
    """Raise UnpackError unless the archive is the one that was meant."""
    found = file_hash(archive)
    if found != sha256:
        raise UnpackError(
            f"the bundle that arrived has the SHA-256 {found}, not {sha256}: it was changed or cut off "
            "on its way. Provision the host again; if this repeats, remove the bundle on the controller."
        )


def check_version(described: dict[str, str], version: str) -> None:
    """Raise UnpackError unless the bundle is of the version that was meant, and that can be a folder's name."""
    if not _VERSION.fullmatch(version):
        raise UnpackError(
            f"{version!r} is no version of a release: digits, letters and `.+_-`, a digit first. Build the bundle "
            "again on the controller."
        )
    found = described.get("version")
    if found != version:
        raise UnpackError(
            f"the bundle holds version {found!r}, but its description says {version!r}: they do not belong together. "
            "Remove both on the controller, so that the bundle is built again."
        )


def check_platform(described: dict[str, str]) -> None:
    """Raise UnpackError unless the bundle was built for this Python and machine."""
    built = (described["python"].split(".")[:2], described["architecture"])
    here = ([str(part) for part in sys.version_info[:2]], platform.machine())
    if built != here:
        raise UnpackError(
            f"the bundle was built for Python {'.'.join(built[0])} on {built[1]}, but this host has Python "
            f"{'.'.join(here[0])} on {here[1]}. Give the host a bundle of its own platform, or none, so that it is "
            "built."
        )


def extract(archive: Path, target: Path) -> None:
    """Unpack regular files only, with plain relative names and plain modes."""
    with tarfile.open(archive, "r:gz") as content:
        for member in content:
            name = PurePosixPath(member.name)
            source = content.extractfile(member) if member.isfile() else None
            if source is None or name.is_absolute() or ".." in name.parts:
                raise UnpackError(
                    f"the bundle contains `{member.name}`, which no worker bundle has; it is not used."
                )
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            path.chmod(0o755 if member.mode & 0o100 else 0o644)


def name_interpreter(programs: Path) -> None:
    """Name this Python in the first line of the programs, so that they can be called by their own names."""
    for path in programs.glob("*"):
        content = path.read_bytes()
        if not content.startswith(b"#!"):
            path.write_bytes(f"#!{sys.executable}\n".encode() + content)


def prune(releases: Path, release: Path, keep: int) -> None:
    """Remove all but the newest `keep` releases beside this one, and what others left half-made.

    Those stay that the host may go back to: the one in use, the one before, and that of an upgrade which was cut off.
    """
    home = releases.parent
    begun = home / "switching"
    names = [(home / name).resolve().name for name in ("current", "previous")]
    names += [begun.read_text(encoding="utf-8", errors="replace").strip()] if begun.is_file() else []
    stays = {release.resolve(), *(path.resolve() for path in releases.iterdir() if path.name in names)}
    others = [path for path in releases.iterdir() if path.resolve() not in stays]
    whole = [path for path in others if not path.name.startswith(".")]
    whole.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    spare = max(0, keep - len(stays) + 1)
    for path in [*whole[spare:], *(path for path in others if path.name.startswith("."))]:
        shutil.rmtree(path)


def main() -> int:
    """Read the arguments, unpack, and print the release's folder."""
    parser = argparse.ArgumentParser(description="Turn a worker bundle into a release.")
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--releases", type=Path, required=True)
    parser.add_argument("--keep", type=int, required=True)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    os.umask(0o022)
    try:
        release = unpack(
            arguments.archive,
            arguments.sha256,
            arguments.releases,
            arguments.keep,
            arguments.version,
            compiled=not arguments.no_compile,
        )
    except UnpackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"The bundle could not be unpacked below {arguments.releases}: {error}\n")
        return 1
    sys.stdout.write(f"{release}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
