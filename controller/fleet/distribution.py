"""What a worker's bundle is made from: our own packages as they are imported here, and their requirements.

The one source of the requirements is the metadata of the installed distribution: it is there for a wheel and for
an editable checkout alike.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from controller.errors import ConfigurationError

NAME = "streamswarm"
#: Our packages that run on hosts.
PACKAGES = ("worker", "streamswarm")

#: Requirements of the base installation that only the command line needs: a third of its code.
OF_THE_COMMAND_LINE = ("httpx", "rich")

_OF_AN_EXTRA = re.compile(r";.*\bextra\s*==")


def version() -> str:
    """Return the version of the installed distribution."""
    return _distribution().version


def base_requirements() -> list[str]:
    """Return the requirements of the base installation, sorted: those that belong to no extra."""
    return sorted(line for line in _distribution().requires or [] if not _OF_AN_EXTRA.search(line))


def worker_requirements() -> list[str]:
    """Return those of them that a worker needs."""
    names = re.compile(rf"({'|'.join(OF_THE_COMMAND_LINE)})(?![A-Za-z0-9._-])", re.IGNORECASE)
    return [line for line in base_requirements() if not names.match(line)]


def own_files() -> Iterator[tuple[str, Path]]:
    """Return the files of our packages that a host needs, as (path below `lib/`, file here), sorted."""
    for package in sorted(PACKAGES):
        root = _package_folder(package)
        for path in sorted(root.rglob("*")):
            below = path.relative_to(root)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in below.parts)
            if path.is_file() and not hidden and path.suffix not in (".pyc", ".pyi", ".proto"):
                yield f"{package}/{below.as_posix()}", path


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
