"""The one registry of probe kinds: the contract's name of a kind is the name of its module here.

A module is imported when its kind is first needed, so that a worker pays only for what it runs, and a missing
library makes one kind unavailable rather than the worker.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from streamswarm import contract
from streamswarm.targets import Target
from worker.probing import Availability, Outcome, ProbeContext


class ProbeModule(Protocol):
    """What every module of this package offers."""

    async def run(self, target: Target, spec: Any, context: ProbeContext) -> Outcome:
        """Measure once. `spec` is the kind's own spec message."""

    def availability(self) -> Availability:
        """Say whether this host can run the kind."""


class NoSuchProbeError(LookupError):
    """The contract has the kind, but this worker cannot load a module for it."""


def load(kind_name: str) -> ProbeModule:
    """Return the module of a kind; raises contract.UnknownKindError or NoSuchProbeError."""
    name = contract.kind(kind_name).name
    module_name = f"{__name__}.{name}"
    try:
        return cast("ProbeModule", importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        if error.name == module_name:
            raise NoSuchProbeError(f"this worker has no module for kind `{name}`") from error
        raise NoSuchProbeError(f"kind `{name}` needs the Python package `{error.name}`") from error
    except ImportError as error:
        raise NoSuchProbeError(f"the module for kind `{name}` could not be loaded: {error}") from error


def availability() -> dict[str, Availability]:
    """Return for every kind of the contract whether this host can run it, and if not why."""
    return {name: _availability_of(name) for name in contract.kinds()}


def _availability_of(name: str) -> Availability:
    try:
        module = load(name)
    except NoSuchProbeError as error:
        return Availability(available=False, reason=str(error), mend="install this worker's release again")
    return module.availability()
