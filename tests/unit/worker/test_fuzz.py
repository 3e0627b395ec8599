"""Whatever stands in the worker's files or comes from its controller: it is read, or refused in words, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.clock import ControllerTime
from worker.concurrency import cancel
from worker.config import WorkerConfig
from worker.errors import ConfigurationError, IdentityError
from worker.identity import IdentityStore
from worker.jobs import JobStore
from worker.once import EXIT_BAD_INPUT, run_lines
from worker.policy import Policy
from worker.scheduler import Scheduler

_KEYS = st.sampled_from(
    ["allow", "deny", "ports", "kinds", "allow_loopback", "packets_per_second", "bytes_per_day"]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
_TEXTS = st.text(max_size=200) | st.dictionaries(_KEYS, _VALUES, max_size=5).map(
    lambda values: json.dumps(values, default=str)
)
_DEEP = "[" * 2_000
_INSTANTS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4_000_000_000_000_000)


_folders: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where all files of this module lie, each in a folder of its own."""
    _folders[:] = [tmp_path_factory.mktemp("fuzz")]


def _file(content: bytes) -> Path:
    path = Path(tempfile.mkdtemp(dir=_folders[0])) / "file"
    path.write_bytes(content)
    return path


@settings(deadline=None)
@given(_TEXTS.map(str.encode) | st.binary(max_size=100))
@example(_DEEP.encode())
@example(b"allow: 2001-13-45")
def test_any_policy_is_kept_to_or_forbids_everything(content: bytes) -> None:
    """And says why, in one printable line."""
    policy = Policy.load(_file(content), required=True)
    if policy.broken:
        assert "cannot be read" in policy.broken or "forbids everything" in policy.broken


@settings(deadline=None)
@given(_TEXTS.map(str.encode) | st.binary(max_size=100))
@example(_DEEP.encode())
@example(b"allow: 2001-13-45")
@example(b"gateways: [a, b]")
def test_any_configuration_is_taken_or_refused(content: bytes) -> None:
    """With what to mend."""
    try:
        WorkerConfig.load(_file(content))
    except ConfigurationError as error:
        assert error.mend


@settings(deadline=None)
@given(st.binary(max_size=200) | _TEXTS.map(str.encode))
@example(b"[" * 100_000)
@example(b'{"key": "", "chain": "", "ca": "", "gateways": 5}')
def test_any_identity_is_taken_or_refused(content: bytes) -> None:
    """With what to mend."""
    path = _file(content)
    path.rename(path.with_name("identity.json"))
    path.with_name("identity.json").chmod(0o600)
    with pytest.raises(IdentityError) as refused:
        IdentityStore(path.parent).load()
    assert refused.value.mend


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_file_of_jobs_is_read_or_set_aside(content: bytes) -> None:
    """There are no jobs then; the controller sends them."""
    store = JobStore(_file(content))
    store.load()
    assert store.jobs == {}


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_no_message_or_one_that_is_understood(data: bytes) -> None:
    """The decoder says so by its own error and by no other."""
    for kind in (gateway_pb2.GatewayMessage, gateway_pb2.WorkerMessage, gateway_pb2.EnrolReply):
        with contextlib.suppress(DecodeError):
            kind.FromString(data).ByteSize()


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            probe_pb2.Job,
            job_id=st.integers(-5, 5),
            version=st.integers(-(2**31), 2**31 - 1),
            target=st.text(max_size=20),
            paused=st.booleans(),
            expires_at_us=st.none() | _INSTANTS,
            schedule=st.none()
            | st.builds(
                probe_pb2.Schedule,
                interval_us=_INSTANTS | st.integers(-2, 5_000_000),
                anchor_us=_INSTANTS,
                starts_at_us=st.none() | _INSTANTS,
                ends_at_us=st.none() | _INSTANTS,
                cron=st.text(alphabet="0123456789*/,- ", max_size=20) | st.just("*/5 * * * *"),
                zone=st.text(max_size=10) | st.sampled_from(["", "Europe/Berlin", "../etc/passwd", "UTC"]),
            ),
        ),
        max_size=4,
    )
)
def test_no_set_of_jobs_stops_the_schedule(jobs: list[probe_pb2.Job]) -> None:
    """Odd instants, intervals, expressions and zones: such a job does not run; the others do."""
    asyncio.run(_schedule(jobs))


async def _schedule(jobs: list[probe_pb2.Job]) -> None:
    good = probe_pb2.Job(
        job_id=99, version=1, schedule=probe_pb2.Schedule(interval_us=1_000_000, anchor_us=_Clock.wall)
    )
    clock = _Clock()
    ran: list[int] = []

    async def execute(job: probe_pb2.Job, due_us: int) -> probe_pb2.Result:
        ran.append(job.job_id)
        return probe_pb2.Result(job_id=job.job_id, scheduled_at_us=due_us)

    async def deliver(_result: Any, _used: Any) -> None:
        return None

    scheduler = Scheduler(
        clock=clock,
        controller_time=ControllerTime(clock),
        execute=execute,
        deliver=deliver,
        miss=lambda _result: None,
        refusal=lambda: "",
        used={},
    )
    scheduler.set_jobs([*jobs, good])
    running = asyncio.ensure_future(scheduler.run())
    for _ in range(200):
        await asyncio.sleep(0)
        if running.done():
            running.result()
        if 99 in ran:
            break
    await cancel(running)
    await scheduler.stop(grace_s=0)
    assert 99 in ran


class _Clock:
    """A clock in which sleeping takes no time."""

    wall = 1_893_456_000_000_000

    def __init__(self) -> None:
        self._passed_us = 0

    def wall_us(self) -> int:
        return self.wall + self._passed_us

    def steady_us(self) -> int:
        return 1_000_000 + self._passed_us

    async def sleep(self, seconds: float) -> None:
        self._passed_us += round(max(0.0, seconds) * 1e6)
        await asyncio.sleep(0)


@settings(deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_characters="\n\r"), min_size=1, max_size=60),
        min_size=1,
        max_size=3,
    )
)
@example([_DEEP])
def test_lines_that_are_no_jobs_are_refused(lines: list[str]) -> None:
    """`--once` tells which and runs nothing."""
    output = io.StringIO()
    code = run_lines(
        [line + "\n" for line in lines], output, policy=Policy(), all_or_none=True
    )  # fmt: skip
    blank = all(not line.strip() for line in lines)
    assert (code == EXIT_BAD_INPUT) != blank
    assert output.getvalue() == ""
