"""The whole daemon against a gateway over TLS: enrolment, sessions, delivery, renewal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import itertools
import json
import socket
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker import daemon, jobs
from worker.clock import SystemClock
from worker.errors import StorageError
from worker.wire.far_end import far_end
from worker.wire.source import BY_ROUTES


def _spooled(configuration: dict[str, Any]) -> list[int]:
    path = Path(configuration["data_dir"]) / "spool.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM record ORDER BY seq")]


def _distances(instants: list[int]) -> set[int]:
    return {later - earlier for earlier, later in itertools.pairwise(instants)}


def _ok(results: Any) -> list[probe_pb2.Result]:
    return [result for result in results if result.status == probe_pb2.STATUS_OK]


async def test_a_new_worker_enrols_and_delivers(
    gateway: Any, run_worker: Any, configuration: dict[str, Any], make_job: Any, until: Any
) -> None:
    """A token becomes an identity, jobs come down, results on the grid come up, and the token is gone."""
    gateway.jobs = [make_job(7)]
    async with run_worker():
        await until(lambda: len(gateway.stored) >= 5)
    assert not Path(configuration["token_file"]).exists()
    identity = Path(configuration["data_dir"]) / "identity" / "identity.json"
    assert identity.stat().st_mode & 0o777 == 0o600
    results = list(gateway.stored.values())
    assert all((result.scheduled_at_us - 7) % 200_000 == 0 for result in results)
    assert len(_ok(results)) >= 4
    measured = _ok(results)[0]
    assert measured.tcp.connect_ms > 0
    assert measured.HasField("clock_offset_ms")
    assert abs(measured.clock_offset_ms) < 500
    hello = gateway.hellos[0]
    assert {kind.kind for kind in hello.kinds} >= {"ping", "tcp", "dns", "http", "system"}
    assert json.loads(hello.policy_json) == {"allow_loopback": True}
    assert hello.facts.host_name == "host-1"


async def test_a_worker_tells_others_how_their_packets_come(
    gateway: Any, run_worker: Any, configuration: dict[str, Any], until: Any
) -> None:
    """On the port that its policy names, to whom has the key; the policy that it shows says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    policy = Path(configuration["policy_file"])
    policy.write_text(f"{policy.read_text()}\nresponder: {port}\n")
    configuration["responder_key"] = "a text that both ends have in their files"
    here = ipaddress.ip_address("127.0.0.1")
    async with run_worker():
        await until(lambda: gateway.hellos)
        keys = (configuration["responder_key"],)
        with far_end(here, port, responder_keys=keys, source=BY_ROUTES, timeout_s=5) as end:
            await end.find()
            assert await end.octets(46 << 2 | 1) == [46 << 2 | 1] * 3
    assert json.loads(gateway.hellos[0].policy_json)["responder"] == port


async def test_results_come_again_after_a_lost_acknowledgement(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """Streams that break between commit and acknowledgement lose nothing, and no number is used twice."""
    gateway.jobs = [make_job(job_id, interval_s=0.1) for job_id in range(1, 6)]
    gateway.break_after_keeping = 3
    async with run_worker():
        await until(lambda: len(gateway.hellos) >= 4 and len(gateway.stored) >= 60, timeout_s=30)
    numbers = {(spool_id, seq) for spool_id, seq, _ in gateway.deliveries}
    results = {(spool_id, seq): result for spool_id, seq, result in gateway.deliveries}
    keys = Counter((result.job_id, result.scheduled_at_us) for result in results.values())
    assert max(keys.values()) == 1, "one run was spooled twice"
    (spool_id,) = {spool_id for spool_id, _ in numbers}
    assert {seq for _, seq in numbers} == set(range(1, gateway.acked[spool_id] + 1)), "a number is missing"
    for job_id in range(1, 6):
        instants = sorted(instant for job, instant in gateway.stored if job == job_id)
        assert _distances(instants) == {100_000}


async def test_nothing_is_deleted_before_it_is_acknowledged(
    gateway: Any, run_worker: Any, configuration: dict[str, Any], make_job: Any, until: Any
) -> None:
    """Delivered results stay in the spool until the acknowledgement has come."""
    gateway.jobs = [make_job(interval_s=0.1)]
    gateway.hold_acks = True
    async with run_worker():
        await until(lambda: len(gateway.stored) >= 10)
        delivered = {seq for _, seq, _ in gateway.deliveries}
        assert delivered <= set(_spooled(configuration))
        assert _spooled(configuration)[0] == 1
        gateway.release_acks()
        await until(lambda: _spooled(configuration)[:1] != [1])
        await until(lambda: not delivered & set(_spooled(configuration)))


async def test_credit_is_kept_to(gateway: Any, run_worker: Any, make_job: Any, until: Any) -> None:
    """No more results than the credit are on the way, however many wait."""
    gateway.jobs = [make_job(job_id, interval_s=0.1) for job_id in range(1, 9)]
    gateway.credit_results = 7
    gateway.hold_acks = True
    async with run_worker():
        await until(lambda: len(gateway.deliveries) == 7)
        await until(lambda: gateway.heartbeats[-1].spool_records > 20)
        assert len(gateway.deliveries) == 7
        gateway.release_acks()
        await until(lambda: len(gateway.deliveries) > 40)
    assert gateway.most_unacked <= 7


async def test_measuring_goes_on_without_a_gateway_and_over_a_restart(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """With the gateway gone the worker measures on, restarts with its jobs, and delivers everything later."""
    gateway.jobs = [make_job(interval_s=0.2)]
    port = gateway.port
    async with run_worker():
        await until(lambda: gateway.stored)
        await gateway.stop()
        before = len(gateway.stored)
        await asyncio.sleep(1.0)
    gateway.hellos.clear()
    async with run_worker() as daemon:
        await until(lambda: daemon._spool.records >= 8)
        await gateway.start(port)
        await until(lambda: gateway.hellos, timeout_s=30)
        assert gateway.hellos[0].next_seq - gateway.hellos[0].first_unacked_seq >= 8
        await until(lambda: daemon._spool.first_unacked_seq == 0)
    assert len(gateway.stored) >= before + 8
    spools = {spool_id for spool_id, _, _ in gateway.deliveries}
    assert len(spools) == 2, "each start of the daemon names its spool anew"
    assert len({hello.instance_id for hello in gateway.hellos}) == 1


async def test_superseded_and_draining_lead_to_a_new_session(
    gateway: Any, run_worker: Any, until: Any
) -> None:
    """After Goodbye the worker dials again, not before the time that the gateway asked for."""
    gateway.goodbyes = [
        gateway_pb2.Goodbye(reason=gateway_pb2.Goodbye.REASON_SUPERSEDED),
        gateway_pb2.Goodbye(reason=gateway_pb2.Goodbye.REASON_DRAINING, reconnect_after_ms=1500),
    ]
    loop = asyncio.get_running_loop()
    async with run_worker():
        await until(lambda: len(gateway.hellos) == 2)
        drained = loop.time()
        await until(lambda: gateway.sessions == 1)
        assert loop.time() - drained >= 1.4


async def test_a_session_that_is_over_leaves_no_connection(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """Nor does it wait for Python's collector: the gateway would keep what a session costs for minutes, for each worker."""

    def connections() -> int:
        return sum(
            each.status == psutil.CONN_ESTABLISHED and each.raddr.port == gateway.port
            for each in psutil.Process().net_connections("tcp")
            if each.raddr
        )

    gateway.jobs = [make_job()]
    gateway.credit_results = 1
    async with run_worker():
        await until(lambda: len(gateway.stored) > 3)
        gc.collect()
        gc.disable()
        try:
            for number in range(2, 5):
                gateway.send_all(gateway_pb2.GatewayMessage(goodbye=gateway_pb2.Goodbye()))
                await until(lambda: len(gateway.hellos) == number and gateway.sessions == 1)  # noqa: B023
            await until(lambda: connections() == 1)
        finally:
            gc.enable()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
async def test_a_refused_worker_dials_slowly_and_measures_on(
    gateway: Any, run_worker: Any, make_job: Any, until: Any, code: grpc.StatusCode
) -> None:
    """A clear refusal is not hammered at; the results wait."""
    gateway.jobs = [make_job(interval_s=0.1)]
    async with run_worker() as daemon:
        await until(lambda: gateway.stored)
        gateway.refuse = (code, "no such worker")
        port = gateway.port
        await gateway.stop()
        await gateway.start(port)
        await until(lambda: len(gateway.hellos) == 2, timeout_s=20)
        waiting = daemon._spool.records
        await asyncio.sleep(1.5)
        assert len(gateway.hellos) == 2
        assert daemon._spool.records > waiting


async def test_a_revoked_worker_starts_no_run(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """After a revocation no probe is sent any more, and what was due is told as missed."""
    gateway.jobs = [make_job(interval_s=0.1)]
    async with run_worker() as daemon:
        await until(lambda: gateway.stored)
        gateway.send_all(
            gateway_pb2.GatewayMessage(goodbye=gateway_pb2.Goodbye(reason=gateway_pb2.Goodbye.REASON_REVOKED))
        )
        await until(lambda: gateway.sessions == 0)
        await asyncio.sleep(0.6)
        records = await daemon._spool.read(0, limit=500, max_bytes=1_000_000)
        results = [probe_pb2.Result.FromString(record.body) for record in records]
        assert [result.status for result in results[-4:]] == [probe_pb2.STATUS_MISSED] * 4
        assert "revoked" in results[-1].error


async def test_the_certificate_is_renewed_at_half_its_life(gateway: Any, run_worker: Any, until: Any) -> None:
    """Renewal goes over the stream, and the next session uses the new certificate."""
    gateway.certificate_life_s = 6.0
    async with run_worker() as daemon:
        await until(lambda: len(gateway.serials) >= 2, timeout_s=20)
        await until(lambda: gateway.sessions == 1)
        assert gateway.renewals == 1
        assert gateway.serials[0] != gateway.serials[-1]
        identity = daemon._identities.load()
        assert identity is not None
        assert identity.worker_id == gateway.worker_id


async def test_a_silent_gateway_is_given_up(gateway: Any, run_worker: Any, until: Any) -> None:
    """A stream on which nothing comes any more is taken for dead and replaced."""
    async with run_worker():
        await until(lambda: gateway.heartbeats)
        gateway.mute = True
        await until(lambda: len(gateway.hellos) >= 2, timeout_s=15)


async def test_an_acknowledgement_of_what_was_never_sent_is_not_believed(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """The spool then takes another number, and everything is delivered under it."""
    gateway.jobs = [make_job(interval_s=0.1)]
    gateway.ack_too_far = 1000
    async with run_worker():
        await until(lambda: len(gateway.hellos) >= 2)
        gateway.ack_too_far = 0
        await until(lambda: len({hello.spool_id for hello in gateway.hellos}) >= 2)
        await until(lambda: len(gateway.stored) >= 10)
    instants = sorted(instant for _, instant in gateway.stored)
    assert _distances(instants) == {100_000}


async def test_a_gateway_of_another_authority_hears_nothing(
    gateway: Any, run_worker: Any, configuration: dict[str, Any], tmp_path: Path
) -> None:
    """A worker whose CA did not sign the listener does not even send its token."""
    other = type(gateway.authority)()
    Path(configuration["ca_file"]).write_bytes(other.pem)
    async with run_worker():
        await asyncio.sleep(1.0)
    assert gateway.token == "the-token"
    assert gateway.hellos == []
    assert Path(configuration["token_file"]).exists()


class _SetClock(SystemClock):
    """This host's clock, with a wall clock that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self.ahead_us


@pytest.mark.parametrize("step_s", [3600, -3600])
async def test_a_wall_clock_that_is_set_moves_no_run(
    gateway: Any, run_worker: Any, make_job: Any, until: Any, step_s: int
) -> None:
    """Instants stay in the controller's time, none comes twice, and the results tell how wrong the clock is."""
    clock = _SetClock()
    gateway.jobs = [make_job(interval_s=0.1)]
    async with run_worker(clock=clock):
        await until(lambda: len(gateway.stored) >= 5)
        clock.ahead_us = step_s * 1_000_000
        count = len(gateway.stored)
        await until(lambda: len(gateway.stored) >= count + 15)
    instants = sorted(instant for _, instant in gateway.stored)
    assert _distances(instants) == {100_000}
    # On a busy machine a run may take longer than the interval, and the next instant is then missed.
    measured = [
        gateway.stored[1, instant]
        for instant in instants[count:]
        if gateway.stored[1, instant].status == probe_pb2.STATUS_OK
    ]
    assert measured[-1].clock_offset_ms == pytest.approx(step_s * 1000, abs=200)


async def test_a_worker_that_starts_with_a_wrong_clock_keeps_the_controllers_time(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """With its wall clock an hour ahead from the start, nothing is filed in the future."""
    clock = _SetClock()
    clock.ahead_us = 3_600_000_000
    gateway.jobs = [make_job(interval_s=0.1)]
    # The new certificate would be expired by the wrong clock if that were believed.
    gateway.certificate_life_s = 1800.0
    async with run_worker(clock=clock):
        await until(lambda: len(_ok(gateway.stored.values())) >= 10)
    now_us = SystemClock().wall_us()
    assert all(instant <= now_us for _, instant in gateway.stored)
    assert all(result.clock_offset_ms > 3_500_000 for result in _ok(gateway.stored.values()))


async def test_a_gateway_that_is_late_with_its_welcome_moves_no_run(
    gateway: Any, run_worker: Any, make_job: Any, until: Any
) -> None:
    """Neither at the first contact nor at the next: many come back to a gateway at once, and some have to wait."""
    gateway.jobs = [make_job(interval_s=0.5)]
    gateway.heartbeat_s = 60
    gateway.welcome_late_s = 3.0
    async with run_worker():
        await until(lambda: len(gateway.stored) >= 3)
        await gateway.stop()
        await gateway.start(gateway.port)
        await until(lambda: len(gateway.hellos) == 2 and gateway.sessions)
        count = len(gateway.stored)
        await until(lambda: len(gateway.stored) >= count + 10)
    results = gateway.stored.values()
    assert _ok(results) == list(results)
    assert all(abs(result.clock_offset_ms) < 500 for result in results)
    assert all(result.started_at_us - result.scheduled_at_us > -500_000 for result in results)


async def test_jobs_that_a_full_disk_did_not_take_are_written_without_a_new_session(
    gateway: Any,
    run_worker: Any,
    configuration: dict[str, Any],
    make_job: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker looks for room itself: sessions may hold for an hour, and jobs stay the same for months."""

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    gateway.jobs = [make_job()]
    monkeypatch.setattr(daemon, "_KEEP_TIME_S", 0.2)
    written = Path(configuration["data_dir"]) / "jobs.bin"
    async with run_worker():
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "replace_file", full)
            await until(lambda: gateway.stored)
            assert not written.exists()
        await until(written.exists)
    assert len(gateway.hellos) == 1
