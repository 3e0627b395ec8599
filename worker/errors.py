"""Errors of the worker that a person can mend; the daemon logs or prints their text and nothing else."""

from __future__ import annotations


class WorkerError(Exception):
    """Something went wrong that a person can mend. `mend` says how."""

    #: Exit code of the command line.
    exit_code = 1

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message} → {self.mend}" if self.mend else self.message


class ConfigurationError(WorkerError):
    """A file of the worker's configuration is missing or wrong."""

    exit_code = 2


class IdentityError(WorkerError):
    """The worker's key or certificate is missing, damaged, expired or open to others."""


class EnrolmentRefusedError(WorkerError):
    """The controller refused to enrol this worker; trying the same again does not help."""


class UnavailableError(WorkerError):
    """Something that the worker needs cannot be reached or used now; trying again later may help."""


class StorageError(UnavailableError):
    """The disk does not take what has to be kept: full, read-only, forbidden."""
