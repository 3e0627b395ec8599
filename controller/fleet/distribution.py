"""What a bundle is made from: our own packages as they are imported here, and their requirements.

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

from controller import assets
from controller.errors import ConfigurationError
from controller.fleet.parts import WORKER, Part

NAME = "streamswarm"

_OF_AN_EXTRA = re.compile(r";.*\bextra\s*==")
#: The extra of a requirement, and what else its marker says.
_EXTRA = re.compile(
    r"(?P<requirement>[^;]+?)\s*;\s*(?:(?P<marker>.+?)\s+and\s+)?extra\s*==\s*['\"](?P<extra>[A-Za-z0-9._-]+)['\"]"
)
#: Of the example inventory only what is ours: people keep their own hosts and secrets beside it.
_EXAMPLES = ("README.md", "example.ini", "example.yml", "group_vars/workers.yml", "streamswarm.yml")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One part of a release: its own code and what it needs."""

    part: Part
    version: str
    #: The requirements of the part, sorted.
    requirements: Sequence[str]
    #: All requirements of the distribution, those of the extras too, as its metadata has them.
    declared: Sequence[str]
    #: Path below `lib/` and the file, sorted.
    files: Sequence[tuple[str, Path]]


def installed(part: Part = WORKER) -> Source:
    """Return a part of the release that is installed here."""
    declared = _distribution().requires or []
    return Source(
        part=part,
        version=version(),
        requirements=_of_part(part, declared),
        declared=declared,
        files=list(own_files(part)),
    )


@contextmanager
def of_wheel(path: Path, part: Part = WORKER) -> Iterator[Source]:
    """Return a part of the release that a wheel of ours holds, unpacked for the duration of a `with` block."""
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
        packages = [folder / package for package in part.packages]
        if said["Name"] != NAME or not said["Version"] or not all(each.is_dir() for each in packages):
            raise ConfigurationError(
                f"{path} is no wheel of {NAME}", mend="name a wheel that `make dist` made"
            )
        declared = said.get_all("Requires-Dist") or []
        yield Source(
            part=part,
            version=said["Version"],
            requirements=_of_part(part, declared),
            declared=declared,
            files=[found for package in sorted(packages) for found in _files(package.name, package)],
        )


def version() -> str:
    """Return the version of the installed distribution, without the hash of the bundle that it may run from."""
    return _distribution().version.partition("+")[0]


def base_requirements() -> list[str]:
    """Return the requirements of the base installation, sorted: those that belong to no extra."""
    return _of_base(_distribution().requires or [])


def own_files(part: Part = WORKER) -> Iterator[tuple[str, Path]]:
    """Return the files of our packages that a part needs, as (path below `lib/`, file here), sorted."""
    for package in sorted(part.packages):
        yield from _files(package, _package_folder(package))
    if part.assets and assets.checkout() is not None:  # installed, they lie in a package
        folder = "controller/_assets"
        for name in _EXAMPLES:
            yield f"{folder}/inventory/{name}", assets.inventory() / name
        yield from _files(f"{folder}/migrations", assets.migrations())
        yield from _files(f"{folder}/playbooks", assets.playbooks())


def _files(package: str, root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        below = PurePosixPath(path.relative_to(root).as_posix())
        hidden = any(part.startswith(".") or part == "__pycache__" for part in below.parts)
        if path.is_file() and not hidden and path.suffix not in (".pyc", ".pyi", ".proto"):
            yield f"{package}/{below}", path


def _of_part(part: Part, declared: Sequence[str]) -> list[str]:
    found = sorted([*_of_base(declared), *of_extra(part.extra, declared)])
    return [line for line in found if re.split(r"[^A-Za-z0-9._-]", line)[0].lower() not in part.without]


def _of_base(requirements: Sequence[str]) -> list[str]:
    return sorted(line for line in requirements if not _OF_AN_EXTRA.search(line))


def of_extra(extra: str, requirements: Sequence[str]) -> Iterator[str]:
    """Yield the requirements of an extra, without the part of the marker that says so."""
    for line in requirements:
        found = _EXTRA.fullmatch(line.strip())
        if found is not None and found["extra"] == extra:
            marker = found["marker"]
            yield f"{found['requirement']}; {marker}" if marker else found["requirement"]


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
