"""The worker as its own process: killed, stopped, started twice, on a full disk, and run once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.spool.file import SpoolFile

gateways = sys.modules["worker_test_gateways"]

_WRITER = """
import asyncio, sys
from pathlib import Path
from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.spool import Spool

async def main() -> None:
    spool = Spool(Path(sys.argv[1]), clock=SystemClock())
    await spool.open()
    async def write(job_id: int) -> None:
        number = 0
        while True:
            number += 1
            result = probe_pb2.Result(job_id=job_id, scheduled_at_us=number, detail_json="x" * 200)
            seq = await spool.append(result)
            print(seq, job_id, number, flush=True)
    await asyncio.gather(*(write(job_id) for job_id in range(8)))

asyncio.run(main())
"""


def test_what_append_has_returned_survives_a_kill(tmp_path: Path) -> None:
    """Killed ten times at any instant, the spool has every result whose number was given out, and starts again."""
    path = tmp_path / "spool.sqlite"
    told: dict[int, tuple[int, int]] = {}
    for number in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            assert writer.stderr is not None
            lines = [writer.stdout.readline()]
            threading.Timer(0.1 + number * 0.03, writer.kill).start()
            lines += writer.stdout.readlines()
            errors = writer.stderr.read()
        assert errors == ""
        for line in lines:
            if line.endswith("\n"):
                seq, job_id, instant = map(int, line.split())
                assert seq not in told, "a sequence number was given out twice"
                told[seq] = (job_id, instant)
        with contextlib.closing(SpoolFile.open(path)) as file:
            assert file.damage == ""
            kept = {
                record.seq: probe_pb2.Result.FromString(record.body)
                for record in file.read(0, limit=10**6, max_bytes=10**9)
            }
        for seq, (job_id, instant) in told.items():
            assert (kept[seq].job_id, kept[seq].scheduled_at_us) == (job_id, instant)
    assert len(told) > 100


_ONE_BY_ONE = """
import asyncio, os, sys
from pathlib import Path
from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.spool import Spool

async def main() -> None:
    spool = Spool(Path(sys.argv[1]), clock=SystemClock())
    await spool.open()
    for number in range(30):
        await spool.append(probe_pb2.Result(job_id=1, scheduled_at_us=number))
        os.write(1, b"told")
    await spool.close()

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)")
def test_append_returns_after_the_disk_has_the_result(tmp_path: Path) -> None:
    """Every number is told only after the log was written and then synchronised."""
    trace = tmp_path / "trace"
    calls = "trace=pwrite64,fdatasync,fsync,write"
    subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-e",
            calls,
            "-o",
            str(trace),
            sys.executable,
            "-c",
            _ONE_BY_ONE,
            str(tmp_path / "s"),
        ],
        check=True,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    state, told = "", 0
    for line in trace.read_text(errors="replace").splitlines():
        if "pwrite64(" in line and "-wal>" in line:
            state = "written"
        elif "sync(" in line and "-wal>" in line and state == "written":
            state = "synchronised"
        elif '"told"' in line and "write(1" in line:
            assert state == "synchronised", f"result {told} was told before it was durable"
            state, told = "", told + 1
    assert told == 30


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of two megabytes."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("needs root to mount a small file system")
        pytest.skip("needs root to mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-small-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@pytest.mark.namespaces
async def test_a_full_disk_loses_nothing(
    gateway: Any, run_worker: Any, make_job: Any, until: Any, small_disk: Path
) -> None:
    """No crash, an alarm in the heartbeats, no run that could not be kept, and everything is delivered afterwards."""
    gateway.jobs = [make_job(job_id, interval_s=0.1) for job_id in range(1, 4)]
    async with run_worker(data_dir=str(small_disk / "data")):
        await until(lambda: len(gateway.stored) > 10)
        gateway.hold_acks = True
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        await until(lambda: "disk is full" in gateway.heartbeats[-1].spool_alarm, timeout_s=30)
        filler.unlink()
        gateway.release_acks()
        await until(lambda: gateway.heartbeats[-1].spool_alarm == "", timeout_s=30)
        count = len(gateway.stored)
        await until(lambda: len(gateway.stored) > count + 20, timeout_s=20)
    results = list(gateway.stored.values())
    missed = [result for result in results if result.status == probe_pb2.STATUS_MISSED]
    assert any("disk is full" in result.error for result in missed)
    told = len(results) + sum(
        json.loads(result.detail_json)["missed_runs"] - 1 for result in missed if result.detail_json
    )
    instants = {job_id: [key[1] for key in gateway.stored if key[0] == job_id] for job_id in (1, 2, 3)}
    expected = sum((max(times) - min(times)) // 100_000 + 1 for times in instants.values())
    assert told == expected


def _start(configuration: dict[str, Any], folder: Path, **more: Any) -> subprocess.Popen[str]:
    path = folder / "worker.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "run", "--config", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.fixture
def ordinary(gateway: Any) -> Iterator[dict[str, Any]]:
    """A configuration that the current user may run: root needs to be told whom to become."""
    # Not below pytest's own folder: every other run of pytest closes that to other users.
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-worker-"))
    values = gateways.write_configuration(folder, gateway)
    if os.geteuid() == 0:
        values["user"] = "nobody"
        folder.chmod(0o777)
    yield values
    shutil.rmtree(folder)


async def test_the_process_stops_in_order(
    gateway: Any, ordinary: dict[str, Any], make_job: Any, until: Any, tmp_path: Path
) -> None:
    """SIGTERM ends it within seconds with code 0, everything delivered, the logs in single lines, nothing as root."""
    gateway.jobs = [make_job(interval_s=0.2)]
    process = _start(ordinary, tmp_path)
    try:
        await until(lambda: len(gateway.stored) >= 5, timeout_s=20)
        if os.geteuid() == 0:
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "Uid:\t0" not in status
            assert "\nCapEff:\t0000000000002000\n" in status, "not CAP_NET_RAW alone"
        second = _start(ordinary, tmp_path)
        _, errors = await asyncio.to_thread(second.communicate, timeout=20)
        assert second.returncode == 1
        assert f"process {process.pid}" in errors
        assert "data_dir" in errors
    finally:
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, errors = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 0
    assert time.monotonic() - started < 5
    assert all(line[:2] == "20" and line[23] == "Z" for line in errors.splitlines()), errors
    with contextlib.closing(sqlite3.connect(Path(ordinary["data_dir"]) / "spool.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM record").fetchone()[0] <= 1


async def test_a_killed_worker_repeats_and_loses_nothing(
    gateway: Any, ordinary: dict[str, Any], make_job: Any, until: Any, tmp_path: Path
) -> None:
    """Killed under load, again and again: what it had spooled arrives, each run once."""
    gateway.jobs = [make_job(job_id, interval_s=0.1) for job_id in range(1, 6)]
    for _ in range(4):
        count = len(gateway.stored)
        process = _start(ordinary, tmp_path)
        try:
            await until(lambda count=count: len(gateway.stored) > count + 30, timeout_s=30)
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate, timeout=20)
    path = Path(ordinary["data_dir"]) / "spool.sqlite"
    with contextlib.closing(SpoolFile.open(path)) as file:
        assert file.damage == ""
        waiting = {record.seq for record in file.read(0, limit=10**6, max_bytes=10**9)}
        newest = file.next_seq - 1
    numbers = {seq: result for _, seq, result in gateway.deliveries}
    assert all(numbers[seq] == result for _, seq, result in gateway.deliveries), (
        "a number was given out twice"
    )
    assert numbers.keys() | waiting == set(range(1, newest + 1))
    keys = [(result.job_id, result.scheduled_at_us) for result in numbers.values()]
    assert len(keys) == len(set(keys)), "one run was spooled twice"


def test_root_is_refused_without_a_user(configuration: dict[str, Any], tmp_path: Path) -> None:
    """With the setting that mends it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be refused")
    process = _start(configuration, tmp_path)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "does not run as root" in errors
    assert "`user`" in errors


def test_tls_below_1_3_is_not_spoken(gateway: Any, ordinary: dict[str, Any], tmp_path: Path) -> None:
    """A listener that speaks TLS 1.2 only gets no token; the same listener with 1.3 gets the connection."""
    key, certificate = gateway.authority.gateway()
    (tmp_path / "server.pem").write_bytes(certificate + key)
    seen: dict[str, str] = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = version
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(20)
            process = _start({**ordinary, "enrolment": f"127.0.0.1:{server.getsockname()[1]}"}, tmp_path)
            try:
                plain, _ = server.accept()
                plain.settimeout(20)
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        seen[version.name] = secure.version() or ""
                except ssl.SSLError as error:
                    seen[version.name] = error.reason
            finally:
                process.kill()
                process.communicate(timeout=20)
    assert seen["TLSv1_3"] == "TLSv1.3"
    assert seen["TLSv1_2"] in ("NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")


def _once(lines: list[str], *options: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "--once", *options],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def _line(job_id: int, target: str, **parameters: Any) -> str:
    job = probe_pb2.Job(job_id=job_id, target=target, spec=contract.make_spec("tcp", parameters))
    return json.dumps(json_format.MessageToDict(job))


def test_jobs_are_run_once(listener: int) -> None:
    """Several at a time, a result for each, code 0 even when a destination refuses."""
    code, results, errors = _once(
        [_line(1, f"127.0.0.1:{listener}"), "", _line(2, "127.0.0.1:1")], "--allow-loopback"
    )
    assert (code, errors) == (0, "")
    by_job = {result["job_id"]: result for result in results}
    assert by_job["1"]["status"] == "STATUS_OK"
    assert by_job["1"]["tcp"]["connect_ms"] > 0
    assert by_job["2"]["status"] == "STATUS_FAILED"


def test_what_cannot_be_run_once_shows_in_the_code(listener: int, tmp_path: Path) -> None:
    """Loopback without its flag, a policy that forbids, a broken policy, and lines that are no jobs."""
    job = _line(1, f"127.0.0.1:{listener}")
    code, (result,), _ = _once([job])
    assert (code, result["failure_source"]) == (1, "FAILURE_SOURCE_POLICY")
    policy = tmp_path / "policy.yaml"
    policy.write_text("allow_loopback: true\nkinds: [ping]\n")
    code, (result,), _ = _once([job], "--policy", str(policy))
    assert (code, result["failure_source"]) == (1, "FAILURE_SOURCE_POLICY")
    policy.write_text("allow_loopback: [\n")
    code, results, errors = _once([job], "--policy", str(policy))
    assert (code, results) == (2, [])
    assert str(policy) in errors
    code, results, errors = _once(["{nonsense\x1b[0m", job], "--allow-loopback")
    assert code == 2
    assert len(results) == 1
    assert "line 1 is no job" in errors
    assert "\x1b" not in errors


def test_the_check_names_every_kind(configuration: dict[str, Any], tmp_path: Path) -> None:
    """Available or not, with what mends it."""
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(configuration))
    done = subprocess.run(
        [sys.executable, "-m", "worker", "check", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines() if line[0] != " "] == list(contract.kinds())
    wrong = subprocess.run(
        [sys.executable, "-m", "worker", "check", "--config", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert wrong.returncode == 2
    assert "none.yaml" in wrong.stderr
    assert "Traceback" not in wrong.stderr
