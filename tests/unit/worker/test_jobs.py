"""The job set survives restarts and damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker import jobs
from worker.errors import StorageError
from worker.jobs import JobStore

MakeJob = Callable[..., probe_pb2.Job]


async def test_full_sets_replace_and_changes_change(tmp_path: Path, make_job: MakeJob) -> None:
    """And what is in force is there after a restart."""
    store = JobStore(tmp_path / "jobs.bin")
    store.load()
    assert store.revision == 0
    await store.apply(gateway_pb2.JobSet(revision=5, full=True, jobs=[make_job(1), make_job(2)]))
    changed = make_job(2, interval_s=7)
    await store.apply(gateway_pb2.JobSet(revision=6, jobs=[changed, make_job(3)], removed=[1, 99]))
    assert set(store.jobs) == {2, 3}
    again = JobStore(tmp_path / "jobs.bin")
    again.load()
    assert dict(again.jobs) == dict(store.jobs)
    assert again.jobs[2] == changed
    assert again.revision == 6
    await again.apply(gateway_pb2.JobSet(revision=7, full=True))
    assert not again.jobs


async def test_jobs_of_kinds_that_are_not_known_are_kept(tmp_path: Path) -> None:
    """A newer release of the worker may know them, from the same file."""
    # Field 999 of Spec, a message: what a kind of the future looks like.
    spec = probe_pb2.Spec.FromString(b"\xba\x3e\x02\x08\x01")
    store = JobStore(tmp_path / "jobs.bin")
    await store.apply(gateway_pb2.JobSet(revision=1, full=True, jobs=[probe_pb2.Job(job_id=1, spec=spec)]))
    again = JobStore(tmp_path / "jobs.bin")
    again.load()
    assert again.jobs[1].spec.SerializeToString() == spec.SerializeToString()
    assert again.jobs[1].spec.WhichOneof("kind") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, make_job: MakeJob, position: int, bit: int, cut: bool
) -> None:
    """A flipped bit must not change a job, and the worker starts without the set."""
    path = tmp_path / "jobs.bin"
    path.unlink(missing_ok=True)
    import asyncio

    asyncio.run(JobStore(path).apply(gateway_pb2.JobSet(revision=1, full=True, jobs=[make_job(1)])))
    content = bytearray(path.read_bytes())
    position %= len(content)
    if cut:
        del content[position:]
    else:
        content[position] ^= 1 << bit
    path.write_bytes(content)
    store = JobStore(path)
    store.load()
    assert not store.jobs
    assert not path.exists()


async def test_a_disk_that_takes_nothing_does_not_stop_the_jobs(
    tmp_path: Path, make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    """They are in force, and the log says that they would not survive."""
    (tmp_path / "file").write_text("in the way")
    store = JobStore(tmp_path / "file" / "jobs.bin")
    await store.apply(gateway_pb2.JobSet(revision=1, full=True, jobs=[make_job(1)]))
    assert set(store.jobs) == {1}
    assert "would not survive" in caplog.text


@pytest.mark.parametrize("again", ["the same set", "housekeeping"])
async def test_a_set_that_the_disk_did_not_take_is_written_when_there_is_room(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """With the next session, which brings the same set, or without."""
    store = JobStore(tmp_path / "jobs.bin")
    await store.apply(gateway_pb2.JobSet(revision=1, full=True, jobs=[make_job(1)]))
    newer = gateway_pb2.JobSet(revision=2, full=True, jobs=[make_job(1), make_job(2)])

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "replace_file", full)
        await store.apply(newer)
        await store.save()
    await (store.apply(newer) if again == "the same set" else store.save())
    after = JobStore(tmp_path / "jobs.bin")
    after.load()
    assert after.revision == 2
    assert dict(after.jobs) == dict(store.jobs)
    written = (tmp_path / "jobs.bin").stat().st_ino
    await store.apply(newer)
    assert (tmp_path / "jobs.bin").stat().st_ino == written, "what the file holds is not written again"
