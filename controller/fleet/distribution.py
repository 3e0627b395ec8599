"""What a worker's bundle is made from: our own packages as they are imported here, and their requirements.

The one source of the requirements is the metadata of the installed distribution: it is there for a wheel and for
an editable checkout alike.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path, PurePosixPath

from controller.errors import ConfigurationError

NAME = "streamswarm"
#: Our packages that run on hosts.
PACKAGES = ("worker", "streamswarm")

#: Requirements of the base installation that only the command line needs: a third of its code.
OF_THE_COMMAND_LINE = ("httpx", "rich")

_OF_AN_EXTRA = re.compile(r";.*\bextra\s*==")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One release's own code and what it needs."""

    version: str
    #: The requirements of a worker, sorted.
    requirements: Sequence[str]
    #: Path below `lib/` and the file, sorted.
    files: Sequence[tuple[str, Path]]


def installed() -> Source:
    """Return the release that is installed here."""
    return Source(version=version(), requirements=worker_requirements(), files=list(own_files()))


@contextmanager
def of_wheel(path: Path) -> Iterator[Source]:
    """Return the release that a wheel of ours holds, unpacked for the duration of a `with` block."""
    with tempfile.TemporaryDirectory(prefix="sw-wheel-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as content:
                content.extractall(folder)
            [said] = [
                HeaderParser().parsestr(found.read_text(encoding="utf-8"))
                for found in folder.glob("*.dist-info/METADATA")
            ]
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise ConfigurationError(
                f"{path} cannot be read as a wheel: {error}", mend="name a wheel that `make dist` made"
            ) from error
        packages = [folder / package for package in PACKAGES]
        if said["Name"] != NAME or not said["Version"] or not all(each.is_dir() for each in packages):
            raise ConfigurationError(
                f"{path} is no wheel of {NAME}", mend="name a wheel that `make dist` made"
            )
        yield Source(
            version=said["Version"],
            requirements=_of_worker(_of_base(said.get_all("Requires-Dist") or [])),
            files=[found for package in sorted(packages) for found in _files(package.name, package)],
        )


def version() -> str:
    """Return the version of the installed distribution."""
    return _distribution().version


def base_requirements() -> list[str]:
    """Return the requirements of the base installation, sorted: those that belong to no extra."""
    return _of_base(_distribution().requires or [])


def worker_requirements() -> list[str]:
    """Return those of them that a worker needs."""
    return _of_worker(base_requirements())


def own_files() -> Iterator[tuple[str, Path]]:
    """Return the files of our packages that a host needs, as (path below `lib/`, file here), sorted."""
    for package in sorted(PACKAGES):
        yield from _files(package, _package_folder(package))


def _files(package: str, root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        below = PurePosixPath(path.relative_to(root).as_posix())
        hidden = any(part.startswith(".") or part == "__pycache__" for part in below.parts)
        if path.is_file() and not hidden and path.suffix not in (".pyc", ".pyi", ".proto"):
            yield f"{package}/{below}", path


def _of_base(requirements: Sequence[str]) -> list[str]:
    return sorted(line for line in requirements if not _OF_AN_EXTRA.search(line))


def _of_worker(requirements: Sequence[str]) -> list[str]:
    names = re.compile(rf"({'|'.join(OF_THE_COMMAND_LINE)})(?![A-Za-z0-9._-])", re.IGNORECASE)
    return [line for line in requirements if not names.match(line)]


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution(NAME)
    except metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            f"the distribution {NAME} is not installed in this Python, so a bundle's requirements are unknown",
            mend="install it (`make up` does), or `pip install -e .` in the checkout",
        ) from error


def _package_folder(package: str) -> Path:
    """Find a package without importing it: the controller knows nothing of the worker's code."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"the package `{package}`, which every bundle contains, is not there",
            mend="install StreamSwarm again",
        )
    return Path(next(iter(spec.submodule_search_locations)))
