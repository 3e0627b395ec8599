"""The real worker on the real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy.orm import Session
from support.surroundings import free_port

from controller.gateway import rotation
from controller.gateway.server import running
from controller.settings import Settings
from controller.store.commands.enrolment import revoke_worker
from worker.clock import SystemClock
from worker.config import WorkerConfig
from worker.daemon import Daemon


@pytest.fixture
def gateway_settings(settings: Settings) -> Settings:
    """Fixed ports, so that a gateway that comes back is found where it was."""
    return dataclasses.replace(
        settings,
        gateway_listen=f"127.0.0.1:{free_port()}",
        enrolment_listen=f"127.0.0.1:{free_port()}",
    )


@contextlib.asynccontextmanager
async def _working(
    deployment: Any, folder: Path, *, clock: SystemClock | None = None
) -> AsyncIterator[Daemon]:
    """Run the worker of `host-a`, enrolled with a token as any other."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(deployment.gateway.authority.bundle_pem)
    if not (folder / "token").exists() and not (folder / "data").exists():
        (folder / "token").write_text(deployment.token("host-a"))
    (folder / "policy.yaml").write_text("allow_loopback: true\n")
    config = WorkerConfig(
        enrolment=deployment.settings.enrolment_listen,
        ca_file=folder / "ca.pem",
        token_file=folder / "token",
        host_name="host-a",
        data_dir=folder / "data",
        policy_file=folder / "policy.yaml",
    )
    stop = asyncio.Event()
    daemon = Daemon(config, clock=clock or SystemClock())
    running_daemon = asyncio.create_task(daemon.run(stop))
    try:
        yield daemon
    finally:
        stop.set()
        await asyncio.wait_for(running_daemon, 20)


async def _until(true: Callable[[], Any], *, within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not await asyncio.to_thread(true):
        assert time.monotonic() < end, f"not within {within_s} s"
        await asyncio.sleep(0.1)


def _plan(deployment: Any, interval_us: int = 200_000) -> int:
    """Give the worker a job: a TCP connection to the gateway's own port, five times a second."""
    ((worker_id,),) = deployment.sql("SELECT id FROM workers")
    job = deployment.job(worker_id, "tcp")
    deployment.sql(
        "WITH a AS (UPDATE jobs SET target = %s, interval_us = %s WHERE id = %s) "
        "UPDATE workers SET jobs_revision = jobs_revision + 1",
        deployment.settings.gateway_listen,
        interval_us,
        job,
    )
    return int(job)


def _all_spooled_is_stored(deployment: Any) -> None:
    """What the worker has numbered, up to the watermark, is what the tables hold."""
    ((acked,),) = deployment.sql("SELECT acked_seq FROM workers")
    ((stored, distinct),) = deployment.sql(
        "SELECT count(*), count(DISTINCT (job_id, scheduled_at)) FROM result_tcp"
    )
    assert stored == distinct == acked
    assert deployment.sql("SELECT reason FROM quarantine") == []


async def test_a_worker_enrols_measures_and_delivers(deployment: Any, tmp_path: Path) -> None:
    """From the token to rows in the table; the set of jobs in force is reported back."""
    async with _working(deployment, tmp_path / "worker"):
        await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
        _plan(deployment)
        await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp OFFSET 10"))
        await _until(
            lambda: deployment.sql(
                "SELECT 1 FROM workers WHERE jobs_applied = jobs_revision AND kinds ? 'ping'"
            )
        )
    statuses = dict(deployment.sql("SELECT status, count(*) FROM result_tcp GROUP BY status"))
    assert set(statuses) <= {1, 4}  # a busy machine may miss a start, which is told as such
    assert statuses[1] > 5
    _all_spooled_is_stored(deployment)


async def test_a_certificate_is_renewed_over_the_stream(
    gateway_settings: Settings, engine: Any, tools: Any, tmp_path: Path
) -> None:
    """With certificates of 8 seconds the worker renews again and again, and no result is lost or doubled."""
    short = dataclasses.replace(gateway_settings, certificate_hours=8 / 3600)
    async with running(short, interval_s=0.2) as gateway:
        deployment = tools.Deployment(gateway, short, engine)
        async with _working(deployment, tmp_path / "worker"):
            await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
            _plan(deployment)
            await _until(
                lambda: deployment.sql("SELECT 1 FROM certificates WHERE first_used_at IS NOT NULL OFFSET 2"),
                within_s=60,
            )
            seen = deployment.sql("SELECT count(*) FROM result_tcp")[0][0]
            await _until(lambda: deployment.sql("SELECT count(*) FROM result_tcp")[0][0] > seen + 5)
        good = deployment.sql("SELECT count(*) FROM certificates WHERE superseded_at IS NULL")
        assert good[0][0] <= 2
        _all_spooled_is_stored(deployment)


async def test_the_root_is_replaced_under_a_worker_that_measures(
    deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusted, switched, dropped, with a renewal asked for in between: no result is lost, and no step goes too far."""
    monkeypatch.setattr(rotation, "NOTICED", dt.timedelta(0))
    monkeypatch.setattr("controller.gateway.listeners._LOOK_S", 0.0)
    settings, first = deployment.settings, deployment.gateway.authority.bundle_pem
    identity = tmp_path / "worker" / "data" / "identity" / "identity.json"

    def step() -> rotation.Stage:
        with Session(deployment.engine) as session:
            return rotation.advance(session, settings)

    async def renew(daemon: Daemon) -> None:
        """Ask for a renewal and wait until the worker is back with the new certificate."""
        used = "SELECT count(*) FROM certificates WHERE first_used_at IS NOT NULL"
        [(count,)] = deployment.sql(used)
        before = identity.read_bytes()
        daemon.renew()
        await _until(lambda: deployment.sql(used) == [(count + 1,)])
        assert identity.read_bytes() != before

    async with _working(deployment, tmp_path / "worker") as daemon:
        await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
        _plan(deployment)
        await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp OFFSET 3"))
        assert step() is rotation.Stage.TRUSTED
        for reached in (rotation.Stage.SWITCHED, rotation.Stage.SINGLE):
            with pytest.raises(rotation.NotYetError, match=r"1 workers have no certificate yet.*host-a"):
                step()
            await renew(daemon)
            assert step() is reached
        # The old root is gone: only a chain under the new one is heard and believed.
        await renew(daemon)
        seen = deployment.sql("SELECT count(*) FROM result_tcp")[0][0]
        await _until(lambda: deployment.sql("SELECT count(*) FROM result_tcp")[0][0] > seen + 3)
        assert json.loads(identity.read_text())["ca"].encode() == deployment.gateway.authority.bundle_pem
    _all_spooled_is_stored(deployment)
    roots = x509.load_pem_x509_certificates(deployment.gateway.authority.bundle_pem)
    assert len(roots) == 1
    assert roots != x509.load_pem_x509_certificates(first)
    folder = settings.data_dir / "ca"
    assert not [path.name for path in folder.iterdir() if path.name.startswith(("next", "root-"))]


async def test_a_gateway_that_goes_away_and_comes_back_gets_everything(
    gateway_settings: Settings, engine: Any, tools: Any, tmp_path: Path
) -> None:
    """The worker measures on meanwhile; afterwards there is no gap on its grid and nothing twice."""
    async with contextlib.AsyncExitStack() as stack:
        async with running(gateway_settings, interval_s=0.2) as gateway:
            deployment = tools.Deployment(gateway, gateway_settings, engine)
            await stack.enter_async_context(_working(deployment, tmp_path / "worker"))
            await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
            _plan(deployment)
            await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp"))
        gone = dt.datetime.now(dt.UTC)
        await asyncio.sleep(3)
        async with running(gateway_settings, interval_s=0.2) as gateway:
            deployment = tools.Deployment(gateway, gateway_settings, engine)
            await _until(
                lambda: deployment.sql(
                    "SELECT 1 FROM result_tcp WHERE scheduled_at > %s", gone + dt.timedelta(seconds=6)
                )
            )
            await stack.aclose()
        _all_spooled_is_stored(deployment)
        gaps = deployment.sql(
            "SELECT count(*) FROM (SELECT scheduled_at - lag(scheduled_at) OVER (ORDER BY scheduled_at) AS step "
            "FROM result_tcp) s WHERE step > interval '200 ms'"
        )
        assert gaps == [(0,)]


async def test_a_revoked_worker_is_silent_and_comes_back_by_a_new_token(
    deployment: Any, tmp_path: Path
) -> None:
    """After a revocation nothing more arrives; enrolling the host anew brings the same worker back with its spool."""
    folder = tmp_path / "worker"
    async with _working(deployment, folder):
        await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
        _plan(deployment)
        await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp"))
        with Session(deployment.engine) as session, session.begin():
            revoke_worker(session, "host-a")
        await asyncio.sleep(1)
        before = deployment.sql("SELECT count(*) FROM result_tcp")
        await asyncio.sleep(2)
        assert deployment.sql("SELECT count(*) FROM result_tcp") == before
    for path in (folder / "data" / "identity").iterdir():
        path.unlink()
    (folder / "token").write_text(deployment.token("host-a"))
    async with _working(deployment, folder):
        await _until(lambda: deployment.sql("SELECT count(*) FROM result_tcp")[0][0] > before[0][0] + 5)
    assert deployment.sql("SELECT count(*) FROM workers") == [(1,)]


class _SetClock(SystemClock):
    """This host's clock, with a wall clock that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self.ahead_us


def _steps(deployment: Any) -> set[int]:
    """Return the distances of neighbouring due instants, in microseconds."""
    rows = deployment.sql(
        "SELECT extract(epoch FROM scheduled_at) * 1000000 FROM result_tcp ORDER BY scheduled_at"
    )
    return {int(later) - int(earlier) for (earlier,), (later,) in itertools.pairwise(rows)}


@pytest.mark.parametrize("first_s", [3600, -3600])
async def test_a_wall_clock_that_is_set_misfiles_nothing_and_is_flagged(
    deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_s: int
) -> None:
    """An hour off, an hour to the other side, and right again: one grid without a gap, and the rows tell which."""
    monkeypatch.setattr("controller.gateway.sessions._LEAST_HEARTBEAT_S", 1)
    clock = _SetClock()
    began = dt.datetime.now(dt.UTC)
    async with _working(deployment, tmp_path / "worker", clock=clock):
        await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
        _plan(deployment)
        await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp OFFSET 5"))
        for step_s in (first_s, -first_s):
            clock.ahead_us = step_s * 1_000_000
            off = f"sign(clock_offset_ms) = {1 if step_s > 0 else -1} AND abs(clock_offset_ms) > 5000"
            await _until(lambda off=off: deployment.sql(f"SELECT 1 FROM result_tcp WHERE {off} OFFSET 5"))
            await _until(lambda off=off: deployment.sql(f"SELECT 1 FROM workers WHERE {off}"))
        clock.ahead_us = 0
        right = "abs(clock_offset_ms) < 5000"
        await _until(lambda: deployment.sql(f"SELECT 1 FROM workers WHERE {right}"))
        latest = deployment.sql("SELECT max(scheduled_at) FROM result_tcp")[0][0]
        await _until(
            lambda: deployment.sql(
                f"SELECT 1 FROM result_tcp WHERE scheduled_at > %s AND {right} OFFSET 5", latest
            )
        )
    _all_spooled_is_stored(deployment)
    assert _steps(deployment) == {200_000}
    ((first, last),) = deployment.sql("SELECT min(scheduled_at), max(scheduled_at) FROM result_tcp")
    assert began <= first < last <= dt.datetime.now(dt.UTC)
    # What is off is the worker's own reading, by an hour.
    ((least,),) = deployment.sql(
        "SELECT min(abs(extract(epoch FROM started_at - scheduled_at))) FROM result_tcp "
        "WHERE abs(clock_offset_ms) > 5000 AND status = 1"
    )
    assert 3590 < least < 3610


def _clock_ahead(deployment: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Set the controller's clock as the gateway tells it; return by how much it is ahead, in `us`."""
    clock, ahead = deployment.gateway.clock, {"us": 0}
    really = clock.now_us
    monkeypatch.setattr(clock, "now_us", lambda: really() + ahead["us"])
    return ahead


@pytest.mark.parametrize("step_s", [3600, -3600])
async def test_a_controllers_clock_that_is_set_repeats_nothing(
    deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    """Workers follow it on one grid: back, over instants that nobody has used; forward, with the jump told as missed."""
    monkeypatch.setattr("controller.gateway.sessions._LEAST_HEARTBEAT_S", 1)
    ahead = _clock_ahead(deployment, monkeypatch)
    async with _working(deployment, tmp_path / "worker"):
        await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
        _plan(deployment)
        await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp WHERE status = 1 OFFSET 5"))
        ahead["us"] = step_s * 1_000_000
        beyond = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=step_s)
        where = "scheduled_at > %s" if step_s > 0 else "scheduled_at < %s"
        reach = beyond + dt.timedelta(seconds=0 if step_s > 0 else 60)
        await _until(
            lambda: deployment.sql(f"SELECT 1 FROM result_tcp WHERE status = 1 AND {where} OFFSET 10", reach)
        )
    _all_spooled_is_stored(deployment)
    steps = _steps(deployment)
    assert all(step % 200_000 == 0 for step in steps)
    measured = deployment.sql(
        f"SELECT scheduled_at FROM result_tcp WHERE status = 1 AND {where} ORDER BY 1", reach
    )
    distances = {later - earlier for (earlier,), (later,) in itertools.pairwise(measured)}
    assert min(distances) == dt.timedelta(milliseconds=200)
    told = deployment.sql(
        "SELECT scheduled_at FROM result_tcp WHERE status = 4 AND error LIKE 'nothing could start%%' ORDER BY 1"
    )
    # Run by run, as far as there was time for it.
    assert len(told) > 20 if step_s > 0 else not told
    assert {later - earlier for (earlier,), (later,) in itertools.pairwise(told)} <= {
        dt.timedelta(milliseconds=200)
    }


async def test_what_a_jump_of_the_controllers_clock_has_passed_over_is_measured_once_it_is_repaired(
    deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen seconds ahead, told as missed, and back: only what went by until the repair stays missed."""
    monkeypatch.setattr("controller.gateway.sessions._LEAST_HEARTBEAT_S", 1)
    monkeypatch.setattr("worker.clock._SAMPLES", 1)  # the worker believes the latest answer
    ahead = _clock_ahead(deployment, monkeypatch)
    missed = "SELECT scheduled_at FROM result_tcp WHERE status = 4 ORDER BY 1"
    async with _working(deployment, tmp_path / "worker"):
        await _until(lambda: deployment.sql("SELECT 1 FROM workers WHERE connected_at IS NOT NULL"))
        _plan(deployment)
        await _until(lambda: deployment.sql("SELECT 1 FROM result_tcp WHERE status = 1 OFFSET 5"))
        ahead["us"] = 15_000_000
        await _until(lambda: len(deployment.sql(missed)) > 60)
        told = [at for (at,) in deployment.sql(missed)]
        ahead["us"] = 0
        # Beyond everything that ran ahead of time before the worker heard of it.
        beyond = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=28)
        await _until(
            lambda: deployment.sql("SELECT 1 FROM result_tcp WHERE status = 1 AND scheduled_at > %s", beyond),
            within_s=60,
        )
    assert _steps(deployment) == {200_000}
    ended = dict(
        deployment.sql("SELECT scheduled_at, status FROM result_tcp WHERE scheduled_at = ANY(%s)", told)
    )
    again = [ended[at] for at in told]
    again = again[again.index(1) :]
    # A machine that stands still for a moment misses one or the other anew.
    assert again.count(1) > max(20, 0.8 * len(again))
