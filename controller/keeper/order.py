"""An operation that a keeper has taken up, with what it needs to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Engine

from controller.fleet.events import HostRecap
from controller.fleet.operations import PlaybookRequest
from controller.settings import Settings
from controller.store.commands.audit import Actor
from controller.store.commands.operations import Claim
from controller.store.queries.operations import OperationRecord


@dataclass(frozen=True, kw_only=True)
class Order:
    """An operation under way."""

    engine: Engine
    settings: Settings
    asked: OperationRecord
    claim: Claim
    request: PlaybookRequest
    #: Writes down how hosts came out of it while others are still to come.
    settle: Callable[[Iterable[HostRecap]], None]

    @property
    def actor(self) -> Actor:
        """On whose behalf it is done."""
        return Actor(name=self.asked.made_by)
