"""Counts, for each job, the runs that were missed while the spool took no results, until there is room to tell."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from streamswarm.v1 import probe_pb2
from worker.instants import shown_instant
from worker.spool.records import Entry, Gap


class Gaps:
    """The gaps of one spool. They cannot overflow: a job has one, however many runs it missed."""

    def __init__(self) -> None:
        self._of_job: dict[int, Gap] = {}
        self._unsaved: set[int] = set()

    def load(self, gaps: Iterable[Gap]) -> None:
        """Take over what the file holds."""
        self._of_job = {gap.job_id: gap for gap in gaps}
        self._unsaved.clear()

    def count(self, missed: probe_pb2.Result) -> None:
        """Count a run that did not start."""
        gap = self._of_job.get(missed.job_id)
        if gap is None:
            gap = Gap(missed.job_id, 1, missed.scheduled_at_us, missed.SerializeToString())
        else:
            gap = replace(gap, count=gap.count + 1, last_us=max(gap.last_us, missed.scheduled_at_us))
        self._of_job[gap.job_id] = gap
        self._unsaved.add(gap.job_id)

    def unsaved(self) -> list[Gap]:
        """Return the gaps that the file does not hold as they are now."""
        return [self._of_job[job_id] for job_id in self._unsaved]

    def saved(self, gaps: Iterable[Gap]) -> None:
        """Note that the file holds these; one that has grown meanwhile stays unsaved."""
        self._unsaved -= {gap.job_id for gap in gaps if self._of_job.get(gap.job_id) == gap}

    def unsave(self) -> None:
        """Note that the file holds none of them."""
        self._unsaved = set(self._of_job)

    @property
    def empty(self) -> bool:
        """Whether there are none."""
        return not self._of_job

    @property
    def can_be_told(self) -> bool:
        """Whether there are any and the file holds them all."""
        return bool(self._of_job) and not self._unsaved

    def take(self) -> list[Gap]:
        """Hand all gaps out to be told; what is missed from now on begins gaps of its own."""
        gaps, self._of_job = list(self._of_job.values()), {}
        return gaps

    def put_back(self, gaps: Iterable[Gap]) -> None:
        """Take back gaps that could not be told, with what was missed meanwhile."""
        for gap in gaps:
            since = self._of_job.get(gap.job_id)
            if since is not None:
                gap = replace(gap, count=gap.count + since.count, last_us=max(gap.last_us, since.last_us))
            self._of_job[gap.job_id] = gap


def telling(gap: Gap) -> Entry:
    """Return the record that stands for all missed runs of a gap, at the first of their instants."""
    result = probe_pb2.Result.FromString(gap.body)
    if gap.count > 1:
        until = shown_instant(gap.last_us)
        result.error = f"{gap.count} runs until {until} were not started; the first because: {result.error}"
        result.detail_json = json.dumps({"missed_runs": gap.count, "missed_until_us": gap.last_us})
    return Entry(body=result.SerializeToString())
