"""What can go wrong in the laboratory itself, as opposed to in what is tested there."""

from __future__ import annotations


class LabError(RuntimeError):
    """The laboratory could not do what it was asked; the message says what, where and what to do."""
