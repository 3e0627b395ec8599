"""Finds the files that travel beside the code: migrations, playbooks and the example inventory.

In a checkout they stand in the root folder; in an installed wheel they lie in `controller/_assets`.
"""

from __future__ import annotations

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
