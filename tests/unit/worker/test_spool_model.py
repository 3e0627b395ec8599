"""The spool's file against a model: whatever is written, acknowledged, closed or cut off, in any order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.spool.file import SpoolFile
from worker.spool.records import Entry, Gap
from worker.used import Used


class SpoolModel(RuleBasedStateMachine):
    """Keeps beside the file what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.path = self.folder / "spool.sqlite"
        self.file = SpoolFile.open(self.path)
        self.spool_ids = {self.file.spool_id}
        self.records: dict[int, bytes] = {}
        self.used: dict[int, Used] = {}
        self.gaps: dict[int, Gap] = {}
        self.highest = 0
        self.written = 0

    @rule(count=st.integers(0, 5), delete=st.integers(0, 40), job=st.integers(1, 3))
    def commit(self, count: int, delete: int, job: int) -> None:
        entries = []
        for _ in range(count):
            self.written += 1
            self.used[job] = Used(((-self.written, -1), (1, self.written))[-1 - self.written % 2 :])
            entries.append(Entry(body=b"%d" % self.written, job_id=job, used=self.used[job]))
        delete_to = min(delete, self.highest)
        seqs = self.file.commit(entries, delete_to=delete_to)
        self.records = {seq: body for seq, body in self.records.items() if seq > delete_to}
        assert seqs == list(range(self.highest + 1, self.highest + 1 + count))
        self.highest += count
        self.records.update(zip(seqs, (entry.body for entry in entries), strict=True))

    @rule(job=st.integers(1, 3), count=st.integers(1, 9))
    def miss(self, job: int, count: int) -> None:
        self.gaps[job] = Gap(job, count, count * 10, b"gap")
        self.file.commit([], [self.gaps[job]])

    @rule()
    def settle(self) -> None:
        seqs = self.file.settle_gaps([Entry(body=b"settled %d" % job) for job in sorted(self.gaps)])
        self.records.update(
            {seq: b"settled %d" % job for seq, job in zip(seqs, sorted(self.gaps), strict=True)}
        )
        self.highest += len(self.gaps)
        self.gaps.clear()

    @rule()
    def stop_and_start(self) -> None:
        self.file.close()
        self.open_again()

    @rule()
    def be_cut_off(self) -> None:
        """What a kill leaves: the files as they are now, without an orderly end."""
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        contents = {file: file.read_bytes() for file in files if file.exists()}
        self.file.close()
        for file, content in contents.items():
            file.write_bytes(content)
        self.open_again()

    @rule()
    def become_another(self) -> None:
        self.file.renew_id()
        self.is_another()

    def open_again(self) -> None:
        self.file = SpoolFile.open(self.path)
        self.is_another()

    def is_another(self) -> None:
        assert self.file.spool_id not in self.spool_ids
        self.spool_ids.add(self.file.spool_id)

    @invariant()
    def file_and_model_agree(self) -> None:
        assert {
            record.seq: record.body for record in self.file.read(0, limit=10_000, max_bytes=10**9)
        } == self.records
        assert self.file.next_seq == self.highest + 1
        assert self.file.used() == self.used
        assert {gap.job_id: gap for gap in self.file.gaps()} == self.gaps
        assert self.file.damage == ""
        assert self.file.spool_id in self.spool_ids

    def teardown(self) -> None:
        self.file.close()
        shutil.rmtree(self.folder)


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
