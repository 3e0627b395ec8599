"""Tells what is wrong with a worker on its host, and how to mend it; changes nothing and disturbs no daemon."""

from worker.doctor.examination import examine

__all__ = ["examine"]
