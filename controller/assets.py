"""Finds the files that travel beside the code: migrations, playbooks and the example inventory.

In a checkout they stand in the root folder; in an installed wheel they lie in `controller/_assets`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from controller.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent


def migrations() -> Path:
    """Return the folder of the database migrations."""
    return _find("migrations")


def playbooks() -> Path:
    """Return the folder of the Ansible playbooks and roles."""
    return _find("playbooks")


def inventory() -> Path:
    """Return the folder of the example inventory."""
    return _find("inventory")


def static() -> Path:
    """Return the folder of the dashboard's static files: reports take fonts and mark from there."""
    folder = _PACKAGE.parent / "web" / "static"
    if not folder.is_dir():
        raise ConfigurationError(
            f"the folder {folder}, which belongs to the product, is missing",
            mend="install the package again",
        )
    return folder


def programs() -> Path:
    """Return the folder of the commands that belong to this installation, Ansible's among them."""
    of_bundle = release()
    return Path(sys.executable).parent if of_bundle is None else of_bundle / "bin"


def release() -> Path | None:
    """Return the folder of the unpacked bundle that this code runs from, or None for an environment of Python's own."""
    root = _PACKAGE.parent.parent
    return root if (root / "release.json").is_file() and _PACKAGE.parent.name == "lib" else None


def checkout() -> Path | None:
    """Return the root of the checkout that this code runs from, or None when it is installed."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "migrations").is_dir() else None


def _find(name: str) -> Path:
    root = checkout()
    folder = root / name if root is not None else _PACKAGE / "_assets" / name
    if not folder.is_dir():
        raise ConfigurationError(
            f"the folder {folder}, which belongs to the product, is missing",
            mend="install the package again",
        )
    return folder
