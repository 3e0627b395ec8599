"""Errors of the controller, classified by what to do about them.

The command line prints an error's text and nothing else; so the text says what happened, where, and what to do.
"""

from __future__ import annotations


class StreamSwarmError(Exception):
    """Something went wrong that a person can mend. `mend` says how."""

    #: Exit code of the command line.
    exit_code = 1

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.mend}" if self.mend else self.message


class ConfigurationError(StreamSwarmError):
    """A setting is missing or wrong."""

    exit_code = 2


class DatabaseUnavailableError(StreamSwarmError):
    """PostgreSQL cannot be reached now; trying again later may help."""


class DatabaseBusyError(StreamSwarmError):
    """Others hold in PostgreSQL what is needed; trying again when they have ended helps."""


class UnsafeDatabaseError(StreamSwarmError):
    """PostgreSQL runs with settings under which acknowledged results could be lost."""


class SchemaError(StreamSwarmError):
    """The schema of the database is not the one that this release works with."""


class ForeignRootError(StreamSwarmError):
    """The certificate authority in the data folder is not this installation's, so workers would refuse it."""


class PortInUseError(StreamSwarmError):
    """A port that a process must listen on is taken."""


class NotFoundError(StreamSwarmError):
    """There is no such object."""


class ConflictError(StreamSwarmError):
    """The object is not in a state in which this can be done, or the name is taken."""


class ChangedError(ConflictError):
    """Somebody else has changed the object since it was read."""
