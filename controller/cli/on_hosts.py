"""What all commands that work on hosts share: which inventory, which variables, and being stopped in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controller import assets
from controller.errors import ConfigurationError
from controller.settings import Settings

#: The command was stopped before its end, as a shell says it.
STOPPED = 130


def usual_inventories(given: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the inventories to use: those given, else the setting's, else the first usual place that is there."""
    given = given or Settings.load().inventory
    if given:
        return given
    usual = [Path("inventory/hosts.ini"), Path("inventory/hosts.yml")]
    root = assets.checkout()
    if root is not None:
        usual += [root / path for path in list(usual)]
    for path in usual:
        if path.is_file():
            return (path,)
    raise ConfigurationError(
        "no inventory was named and there is none in the usual places (inventory/hosts.ini, inventory/hosts.yml)",
        mend=f"copy {assets.inventory() / 'example.ini'} to inventory/hosts.ini and edit it, or name one with --inventory",
    )


def variables_of(files: tuple[Path, ...]) -> dict[str, Any]:
    """Read the variables' files; later ones win."""
    variables: dict[str, Any] = {}
    for path in files:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"the variables in {path} cannot be read: {error}", mend="mend the file"
            ) from error
        if not isinstance(content, dict):
            raise ConfigurationError(f"{path} must hold `variable: value` lines", mend="mend the file")
        variables |= content
    return variables


@contextmanager
def stop_by_signal() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that a playbook is ended in order; a second one ends at once."""
    stopped = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stopped.is_set():
            os._exit(STOPPED)
        stopped.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
