"""Writes an operation down in the database, for whoever runs it in a keeper."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from controller.keeper.transactions import transaction
from controller.store.commands import operation_progress as progress
from controller.store.commands.operations import Claim
from controller.store.operation_notes import Figure, HostNote, Standing, TaskNote


class StoreLedger:
    """Writes an operation down in the database."""

    def __init__(self, engine: Engine, claim: Claim) -> None:
        self._engine = engine
        self._claim = claim

    def record(self, notes: Sequence[TaskNote], outcomes: Sequence[HostNote]) -> Standing:
        """Write what happened."""
        with transaction(self._engine) as session:
            return progress.record(session, self._claim, notes, outcomes)

    def finish(self, state: str, *, error: str, mend: str, figures: Sequence[Figure] = ()) -> None:
        """Write how it ended."""
        with transaction(self._engine) as session:
            progress.finish(session, self._claim, state=state, error=error, mend=mend, figures=figures)
