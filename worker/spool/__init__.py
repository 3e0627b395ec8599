"""The queue of results on disk that are not yet acknowledged."""

from worker.spool.spool import ImpossibleAckError, Limits, Spool

__all__ = ["ImpossibleAckError", "Limits", "Spool"]
