"""The queue of results on disk that are not yet acknowledged."""

from worker.spool.room import Limits
from worker.spool.spool import ImpossibleAckError, Spool

__all__ = ["ImpossibleAckError", "Limits", "Spool"]
