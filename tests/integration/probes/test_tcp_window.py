"""Transfers over paths that are full, lossy, unsteady or held up by an end: figures beside `ss -ti`, and the right class."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.peers import Namespace, Path3, Probe, RecordingGuard, namespaces
from integration.probes.transfers import TransferServer, serving
from integration.probes.webserver import make_certificate
from support import forwarder
from support.priority import before_all_others

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.probing import Outcome, ProbeFailure
from worker.reaching import reached
from worker.wire import tcp_info

FAR = "10.91.2.2"


@pytest.fixture
def server() -> Iterator[TransferServer]:
    with serving("127.0.0.1") as here:
        yield here


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection before its answer was complete"),
    ],
)
@pytest.mark.parametrize("direction", ["download", "upload"])
async def test_a_server_that_hangs_up_is_told_as_such(
    probe: Probe, said: bytes, words: str, direction: str
) -> None:
    """It broke off: what it said was no bad HTTP."""

    def serve() -> None:
        connection, _address = listener.accept()
        with connection:
            received = b""
            while b"\r\n\r\n" not in received or (direction == "upload" and len(received) < 20_000):
                received += connection.recv(65_536)
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        try:
            with pytest.raises(ProbeFailure, match=words) as caught:
                await probe("tcp_window", url, direction=direction, max_bytes=40_000)
        finally:
            serving.join(5)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_BROKEN_OFF
    assert said or not caught.value.metrics.HasField("ttfb_ms"), "no byte came"


def test_the_further_fields_are_read_as_ss_reads_them() -> None:
    """A connection at rest, after data in both directions: every number that ss shows too."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
    ):
        accepted, _address = listener.accept()
        with accepted:
            for _ in range(30):
                sock.sendall(b"x" * 50_000)
                accepted.recv(50_000, socket.MSG_WAITALL)
                accepted.sendall(b"y" * 20_000)
                sock.recv(20_000, socket.MSG_WAITALL)
            time.sleep(0.1)  # the last acknowledgement may be delayed
            ports = f"( sport = :{sock.getsockname()[1]} and dport = :{listener.getsockname()[1]} )"
            text = subprocess.run(["ss", "-tinoH", ports], capture_output=True, text=True, check=True).stdout
            info = tcp_info.read(sock)
    assert info is not None
    words = text.split("\n", 1)[1].split()
    shown = dict(re.findall(r"(\w+):(\S+)", text.split("\n", 1)[1]))
    same = {
        "cwnd": info.snd_cwnd, "bytes_sent": info.bytes_sent, "bytes_acked": info.bytes_acked,
        "bytes_received": info.bytes_received, "data_segs_out": info.data_segs_out, "data_segs_in": info.data_segs_in,
        "rcvmss": info.rcv_mss, "snd_wnd": info.snd_wnd, "rcv_wnd": info.rcv_wnd,
    }  # fmt: skip
    assert {name: int(shown[name]) for name in same if name in shown} == {
        name: value for name, value in same.items() if name in shown
    }
    assert {"cwnd", "bytes_sent", "bytes_acked", "bytes_received", "data_segs_out", "rcvmss"} <= shown.keys()
    assert shown["wscale"] == f"{info.snd_wscale},{info.rcv_wscale}"
    assert float(shown["rcv_rtt"]) == pytest.approx((info.rcv_rtt_us or 0) / 1000, abs=0.001)
    assert int(shown.get("busy", "0ms").removesuffix("ms")) == pytest.approx(
        (info.busy_time_us or 0) / 1000, abs=1
    )
    for name, value in (("pacing_rate", info.pacing_rate), ("delivery_rate", info.delivery_rate)):
        bits = float(words[words.index(name) + 1].removesuffix("bps"))
        assert bits == pytest.approx(8 * (value or 0), rel=0.01)
    assert ("ts" in words, "sack" in words) == (info.timestamps, info.selective_acks)
    assert (info.bytes_retrans, info.dsack_dups, info.rcv_ooopack, info.unacked) == (0, 0, 0, 0)


@contextlib.contextmanager
def across(path: Path3) -> Iterator[TransferServer]:
    """Serve at the far end of a path whose packets travel one by one, and be at its near end meanwhile."""
    for namespace, device in (
        (path.near, "sw1a"),
        (path.router, "sw1b"),
        (path.router, "sw2a"),
        (path.far, "sw2b"),
    ):
        namespace.run("ip", "link", "set", device, "gso_max_segs", "1")
        namespace.run("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
    with contextlib.ExitStack() as stack:
        with path.far.entered():
            server = stack.enter_context(serving(FAR))
        stack.enter_context(path.near.entered())
        yield server


only_once = pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)


async def test_a_download_that_ends_by_itself(server: TransferServer, probe: Probe, no_leak: None) -> None:
    """What the sender knows stays unset; the rest is measured."""
    outcome = await probe("tcp_window", server.url("/3000000"), sample_ms=5)
    result = outcome.metrics
    assert (result.status, result.body_bytes) == (200, 3_000_000)
    assert result.bytes_received > 3_000_000
    assert result.goodput_bytes_per_s > 1_000_000
    assert result.window_scaling
    assert 0 < result.rtt_min_ms <= result.connect_ms + 0.1
    assert outcome.detail["ended"] == "by itself"
    for name in ("cwnd_max", "retransmits", "busy_pct", "pacing_rate_avg_bytes_per_s"):
        assert not result.HasField(name)


async def test_an_upload_that_ends_by_itself(server: TransferServer, probe: Probe, no_leak: None) -> None:
    """Every byte of the body was read by the server and acknowledged."""
    outcome = await probe("tcp_window", server.url("/"), direction="upload", max_bytes=3_000_000, sample_ms=5)
    result = outcome.metrics
    assert server.bodies == [3_000_000]
    assert (result.status, result.body_bytes) == (200, 3_000_000)
    assert result.bytes_sent > 3_000_000
    answer = len("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert result.bytes_received == answer, "without the FIN that came with it or after it"
    assert result.cwnd_max >= result.cwnd_avg >= result.cwnd_min > 0
    assert (result.retransmits, result.retransmitted_pct, result.tcp_efficiency_pct) == (0, 0, 100)
    assert not result.HasField("out_of_order_pct")


async def test_interim_answers_do_not_end_an_upload(
    server: TransferServer, probe: Probe, no_leak: None
) -> None:
    """A server that says 100 and 103 is read on by, and its answer is the one that comes after the body."""
    outcome = await probe(
        "tcp_window", server.url("/continue"), direction="upload", max_bytes=8_000_000, sample_ms=5
    )
    result = outcome.metrics
    assert server.bodies == [8_000_000]
    assert (result.status, result.body_bytes) == (200, 8_000_000)
    assert outcome.detail["ended"] == "by itself"
    outcome = await probe(
        "tcp_window", server.url("/continue"), direction="upload", max_bytes=1_000_000_000, duration_ms=300
    )
    assert outcome.detail["ended"] == "by a limit"
    assert not outcome.metrics.HasField("status"), "there was no answer yet"


async def test_a_limit_ends_a_transfer(server: TransferServer, probe: Probe) -> None:
    """By bytes, or by time; both are good runs."""
    outcome = await probe("tcp_window", server.url("/50000000"), max_bytes=1_000_000)
    assert 1_000_000 <= outcome.metrics.body_bytes < 1_200_000
    assert outcome.detail["ended"] == "by a limit"
    started = time.monotonic()
    outcome = await probe("tcp_window", server.url("/pauses/50000000"), duration_ms=1000)
    assert 0.9 < time.monotonic() - started < 2
    assert 900 < outcome.metrics.transfer_ms < 1200
    assert outcome.metrics.status == 200


async def test_too_little_says_nothing_about_limits(server: TransferServer, probe: Probe) -> None:
    """Unset, not optimal."""
    outcome = await probe("tcp_window", server.url("/20000"))
    assert not outcome.metrics.HasField("bottleneck")
    assert not outcome.metrics.HasField("efficiency_score")
    assert outcome.detail["why"] == "the transfer was too short to say what limited it"


async def test_a_server_that_pauses_is_the_limit(server: TransferServer, probe: Probe) -> None:
    """200 ms between pieces of 16 kB."""
    outcome = await probe("tcp_window", server.url("/pauses/50000000"), duration_ms=2500)
    assert outcome.metrics.pause_pct > 80
    assert outcome.detail["bottleneck"] == "server_limited"
    assert outcome.metrics.bottleneck == 5


async def test_a_server_that_reads_slowly_is_the_limit(server: TransferServer, probe: Probe) -> None:
    """Its window is full: tcpi_rwnd_limited says so."""
    outcome = await probe("tcp_window", server.url("/slow"), direction="upload", duration_ms=2000)
    assert outcome.metrics.window_limited_pct > 50
    assert outcome.detail["bottleneck"] == "server_limited"
    assert not outcome.metrics.HasField("status"), "there was no answer yet"


@pytest.mark.parametrize("direction", ["download", "upload"])
async def test_a_transfer_over_tls(probe: Probe, tmp_path: Path, direction: str, no_leak: None) -> None:
    """What a server sends of its own accord after the handshake is no answer to an upload."""
    _certificate, context = make_certificate(tmp_path, days=30)
    with serving("127.0.0.1", context) as server:
        path, most = ("/", 3_000_000) if direction == "upload" else ("/3000000", 5_000_000)
        outcome = await probe(
            "tcp_window", server.url(path), direction=direction, max_bytes=most, verify_tls=False, sample_ms=5
        )
        with pytest.raises(ProbeFailure, match=r"certificate of .* is not valid") as caught:
            await probe("tcp_window", server.url(path), direction=direction)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_BAD_CERTIFICATE
    assert (outcome.metrics.status, outcome.metrics.body_bytes) == (200, 3_000_000)
    assert outcome.metrics.tls_ms > 0
    assert outcome.detail["ended"] == "by itself"
    assert server.bodies == ([3_000_000] if direction == "upload" else [])


async def test_answers_that_are_no_good_are_failures(
    server: TransferServer, probe: Probe, no_leak: None
) -> None:
    """A redirect, a refusal of the body, an answer that is cut short: each says what happened."""
    with pytest.raises(
        ProbeFailure, match=r"status 302; .* follows no redirects: name `http://192.0.2.1/`"
    ) as caught:
        await probe("tcp_window", server.url("/moved"))
    assert caught.value.reason == probe_pb2.FAILURE_REASON_WRONG_STATUS
    with pytest.raises(ProbeFailure, match="answered with status 413") as caught:
        await probe("tcp_window", server.url("/refused"), direction="upload", max_bytes=50_000_000)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.reason == probe_pb2.FAILURE_REASON_WRONG_STATUS
    assert caught.value.metrics.body_bytes < 50_000_000
    assert caught.value.detail["ended"] == "by the far end, before it was complete"
    with pytest.raises(ProbeFailure, match="without sending complete message body") as caught:
        await probe("tcp_window", server.url("/cut/2000000"))
    assert caught.value.reason == probe_pb2.FAILURE_REASON_BROKEN_OFF
    assert caught.value.metrics.body_bytes == 1_000_000
    assert caught.value.detail["ended"] == "by the far end, before it was complete"


async def test_a_server_that_sends_back_what_it_is_sent_is_named_as_that(
    server: TransferServer, probe: Probe
) -> None:
    """It takes no more until its answer is read: told at once, not measured as a slow receiver until the limit of time."""
    began_s = time.monotonic()
    with pytest.raises(ProbeFailure, match="use a destination that takes what it is sent") as caught:
        await probe(
            "tcp_window", server.url("/echo"), direction="upload", max_bytes=50_000_000, duration_ms=8000
        )
    assert time.monotonic() - began_s < 6
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TOO_MUCH
    assert 0 < caught.value.metrics.body_bytes < 50_000_000


async def test_a_transfer_that_stands_still_is_a_failure(server: TransferServer, probe: Probe) -> None:
    """The head came, the body never did: nothing moved, which is no good run."""
    with pytest.raises(ProbeFailure, match="no byte of the body within 300 ms") as caught:
        await probe("tcp_window", server.url("/stalled/1000000"), duration_ms=300)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
    metrics = caught.value.metrics
    assert metrics.HasField("goodput_bytes_per_s")
    assert (metrics.status, metrics.body_bytes, metrics.goodput_bytes_per_s) == (200, 0, 0)
    assert caught.value.detail["ended"] == "by a limit"


async def test_a_server_that_accepts_and_keeps_silent_was_reached(probe: Probe) -> None:
    """No firewall kept the packets out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ProbeFailure, match="no answer came") as caught:
            await probe("tcp_window", url, timeout_ms=200)
    assert caught.value.metrics.connect_ms > 0
    assert reached(contract.kind("tcp_window"), caught.value)


async def test_the_policy_comes_before_the_connection(
    server: TransferServer, probe: Probe, guard: RecordingGuard
) -> None:
    """With the port that the URL names."""
    guard.denied.add(f"127.0.0.1:{server.port}")
    with pytest.raises(ProbeFailure, match="denied"):
        await probe("tcp_window", server.url("/1000"))


@pytest.mark.namespaces
@only_once
async def test_a_full_link_is_congestion(path3: Path3, probe: Probe) -> None:
    """20 Mbit/s with a deep queue before it: goodput is the link's rate, and the queue shows in the round-trip time."""
    path3.router.limit("sw2a", "20mbit")
    with across(path3) as server:
        outcome = await probe(
            "tcp_window", server.url("/"), direction="upload", max_bytes=100_000_000, duration_ms=3000
        )
    result = outcome.metrics
    assert result.goodput_bytes_per_s == pytest.approx(2_400_000, rel=0.1)
    assert result.rtt_max_ms > 100
    assert outcome.detail["bottleneck"] == "network_congestion", outcome.detail["why"]
    assert result.efficiency_score < 80


@pytest.mark.namespaces
@only_once
async def test_a_full_link_is_congestion_for_the_receiver_too(path3: Path3, probe: Probe) -> None:
    """By the receiver's own estimate of the round-trip time."""
    path3.router.limit("sw1b", "20mbit")
    with across(path3) as server:
        outcome = await probe("tcp_window", server.url("/100000000"), max_bytes=100_000_000, duration_ms=3000)
    assert outcome.metrics.goodput_bytes_per_s == pytest.approx(2_400_000, rel=0.1)
    assert outcome.metrics.buffer_delay_pct > 100
    assert outcome.detail["bottleneck"] == "network_congestion", outcome.detail["why"]


@pytest.mark.namespaces
@only_once
@pytest.mark.parametrize("direction", ["upload", "download"])
async def test_losses_without_a_queue_are_packet_loss(path3: Path3, probe: Probe, direction: str) -> None:
    """Every fortieth data segment is lost: 2.5 % of them, which the sender counts exactly."""
    path3.router.firewall("forward", "tcp sport != 0 ip length > 1000 numgen inc mod 40 == 0 drop")
    with across(path3) as server:
        path = "/" if direction == "upload" else "/500000000"
        outcome = await probe(
            "tcp_window", server.url(path), direction=direction, max_bytes=500_000_000, duration_ms=1000
        )
    assert outcome.detail["bottleneck"] == "packet_loss", outcome.detail["why"]
    if direction == "upload":
        assert outcome.metrics.retransmitted_pct == pytest.approx(2.5, abs=0.3)
        assert outcome.metrics.tcp_efficiency_pct == pytest.approx(97.5, abs=0.4)
        assert outcome.metrics.congestion_events >= 1
    else:
        assert outcome.metrics.out_of_order_pct > 2


@contextlib.contextmanager
def wire(
    delay_ms: float, jitter_ms: float, lose_every: int = 0, *, lateness: list[float] | None = None
) -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts, 10.95.0.1 and .2, on a wire that delays; packets travel one by one.

    In the end `lateness` gets how many milliseconds the wire was late at worst.
    """
    with namespaces("left", "wire", "right") as (left, middle, right):
        for host, device, end, number in ((left, "swl", "sw-l", 1), (right, "swr", "sw-r", 2)):
            host.run("ip", "link", "add", device, "type", "veth", "peer", "name", end, "netns", middle.name)
            for namespace, name in ((host, device), (middle, end)):
                namespace.run("ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
                namespace.run("ip", "link", "set", name, "up")
            host.run("ip", "address", "add", f"10.95.0.{number}/24", "dev", device)
        program = [
            sys.executable,
            str(Path(forwarder.__file__)),
            "sw-l",
            "sw-r",
            str(delay_ms),
            str(jitter_ms),
            str(lose_every),
        ]
        process = subprocess.Popen(
            ["ip", "netns", "exec", middle.name, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == b"forwarding\n"
            left.run("fping", "-r", "40", "-t", "50", "-B", "1", "-q", "10.95.0.2")
            try:
                yield left, right
            finally:
                process.stdin.close()
                if lateness is not None:
                    lateness.append(float(process.stdout.readline()))


@pytest.mark.namespaces
@pytest.mark.usefixtures("_root")
async def test_a_steady_distant_path_is_optimal(probe: Probe) -> None:
    """20 ms each way: the delay is told as it is, and nothing is blamed for it.

    A wire that this machine held up is not steady: then another one is tried.
    """
    for left_over in reversed(range(4)):
        lateness: list[float] = []
        with before_all_others(), wire(20, 0, lateness=lateness) as (left, right):
            with right.entered():
                server = TransferServer("10.95.0.2")
            try:
                with left.entered():
                    up = await probe("tcp_window", server.url("/"), direction="upload", max_bytes=1_500_000)
                    down = await probe("tcp_window", server.url("/1500000"))
            finally:
                server.close()
        if lateness[0] < 3:
            break
        assert left_over, f"this machine held packets up for {lateness[0]:.1f} ms, each time"
    for outcome in (up, down):
        assert outcome.metrics.rtt_min_ms == pytest.approx(40, abs=2)
        assert outcome.metrics.rtt_avg_ms == pytest.approx(42, abs=6)
        assert outcome.detail["bottleneck"] == "optimal", outcome.detail["why"]
        assert outcome.metrics.efficiency_score > 90


@pytest.mark.namespaces
@pytest.mark.usefixtures("_root")
async def test_a_path_that_varies_is_unstable(probe: Probe) -> None:
    """20 ± 18 ms each way: packets overtake each other."""
    with wire(20, 18) as (left, right):
        with right.entered():
            server = TransferServer("10.95.0.2")
        try:
            with left.entered():
                outcome = await probe("tcp_window", server.url("/"), direction="upload", duration_ms=4000)
        finally:
            server.close()
    assert outcome.detail["bottleneck"] == "network_instability", outcome.detail["why"]
    assert outcome.metrics.reordering_events > 0


@pytest.mark.namespaces
@pytest.mark.usefixtures("_root")
async def test_an_upload_that_stands_still_is_a_failure(probe: Probe) -> None:
    """The request's head is acknowledged after 20 ms, but no byte of the body, which never gets through."""
    with wire(10, 0) as (left, right):
        with right.entered():
            server = TransferServer("10.95.0.2")
        right.firewall("input", "ip length > 400 drop")
        try:
            with left.entered(), pytest.raises(ProbeFailure, match="no byte of the body was ackn") as caught:
                await probe(
                    "tcp_window", server.url("/"), direction="upload", max_bytes=50_000, duration_ms=400
                )
        finally:
            right.run("nft", "flush", "ruleset")
            server.close()
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
    assert not caught.value.metrics.HasField("status")


class _Watch:
    """`ss -ti` again and again in a thread, beside the probe."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._stop = threading.Event()
        #: What each look showed of the connection, by ss's names.
        self.looks: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            text = self._namespace.run("ss", "-tinH", "state", "established").stdout
            found = dict(re.findall(r"\b([a-z_]+):([\d./]+)", text))
            if "bytes_acked" in found:
                self.looks.append(found)
            self._stop.wait(0.1)


@pytest.mark.namespaces
@only_once
async def test_the_timeline_agrees_with_ss(path3: Path3, probe: Probe) -> None:
    """Each look of iproute2's lies between the two of ours around it, by the bytes acknowledged until then."""
    path3.router.firewall("forward", "tcp sport != 0 ip length > 1000 numgen inc mod 100 == 0 drop")
    path3.router.limit("sw2a", "20mbit", queue="50ms")
    with across(path3) as server, _Watch(path3.near) as watch:
        outcome = await probe(
            "tcp_window",
            server.url("/"),
            direction="upload",
            max_bytes=100_000_000,
            duration_ms=2000,
            sample_ms=20,
        )
    compared = _compare(outcome, watch.looks)
    assert compared >= 5, watch.looks


def _compare(outcome: Outcome, looks: list[dict[str, str]]) -> int:
    line = outcome.detail["timeline"]
    compared = 0
    for look in looks:
        acked = int(look["bytes_acked"])
        after = next((number for number, value in enumerate(line["bytes"]) if value >= acked), 0)
        if after == 0:
            continue
        around = slice(after - 1, after + 1)
        again = int(look.get("retrans", "0/0").partition("/")[2])
        assert line["retransmits"][after - 1] <= again <= line["retransmits"][after]
        low, high = sorted(line["rtt_ms"][around])
        assert low * 0.7 - 1 <= float(look["rtt"].partition("/")[0]) <= high * 1.3 + 1
        low, high = sorted(line["cwnd"][around])
        assert low * 0.7 - 2 <= int(look["cwnd"]) <= high * 1.3 + 2
        compared += 1
    last = looks[-1]
    assert outcome.metrics.mss_bytes == int(last["mss"])
    assert outcome.metrics.path_mtu_bytes == int(last["pmtu"])
    assert outcome.metrics.rtt_min_ms <= float(last["minrtt"]) + 0.001
    return compared
