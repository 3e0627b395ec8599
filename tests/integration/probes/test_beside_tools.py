"""Times beside the tools that people would take, over a path of 50 ms: dig, curl, traceroute, fping."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import statistics
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.diagnosis.laboratory import FAR, NAME, PORT, WEB_PORT, Laboratory, prompt_laboratory
from integration.probes.bind import Bind, dig, named
from integration.probes.nginx import CLEAR, Nginx, nginx
from integration.probes.peers import Path3, Probe, ScriptedHost, echo_reply
from support.certificates import issue, server_context
from support.priority import before_all_others

from worker.wire import tls

pytestmark = [pytest.mark.namespaces, pytest.mark.alone, pytest.mark.usefixtures("_root")]

DELAY_MS = 50.0
ROUNDS = 7
CERTIFICATE = issue("far", names=("localhost", FAR), authority=True)


@pytest.fixture(scope="module")
def lab(_root: None) -> Iterator[Laboratory]:
    """A path that delays; its wire is served before all else."""
    with prompt_laboratory(delay_ms=DELAY_MS) as made:
        yield made


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The certificate of the far end's servers, which this process trusts, with its key beside it."""
    file = tmp_path / "trusted.pem"
    file.write_bytes(CERTIFICATE.pem)
    file.with_suffix(".key").write_bytes(CERTIFICATE.key_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    tls.client_context.cache_clear()
    yield file
    tls.client_context.cache_clear()


class Pairs:
    """What both measured, again and again, by what it is."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[tuple[float, float]]] = {}

    def add(self, **pairs: tuple[float, float]) -> None:
        """Take in one measurement of each, ours first."""
        for name, pair in pairs.items():
            self._pairs.setdefault(name, []).append(pair)

    def agree(self, within_ms: float, *, least_ms: float = DELAY_MS) -> None:
        """Hold the medians against each other."""
        assert self._pairs
        for name, pairs in self._pairs.items():
            assert len(pairs) == ROUNDS
            ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
            assert ours >= least_ms, (name, pairs)
            assert ours == pytest.approx(theirs, abs=within_ms), (name, pairs)


async def curl(lab: Laboratory, *arguments: str) -> dict[str, float]:
    """Return what `curl -w` says of the last transfer, times in milliseconds; what it was refused is no matter."""
    names = ["namelookup", "connect", "appconnect", "pretransfer", "redirect", "starttransfer", "total"]
    template = "".join(f"{name}=%{{time_{name}}}\\n" for name in names) + "redirects=%{num_redirects}\\n"
    done = await asyncio.to_thread(
        lab.near.run, "curl", "-s", "-o", "/dev/null", "-w", template, *arguments, check=False
    )
    found = dict(line.split("=") for line in done.stdout.split())
    return {name: float(found[name]) * 1000 for name in names} | {"redirects": float(found["redirects"])}


async def test_a_connection_takes_as_long_as_curls(lab: Laboratory, probe: Probe) -> None:
    """By the clock; and the kernel's round trip is no longer."""
    pairs = Pairs()
    with before_all_others(), lab.near.entered():
        for _ in range(ROUNDS):
            metrics = (await probe("tcp", f"{FAR}:{PORT}")).metrics
            peer = await curl(lab, "-m", "1", f"http://{FAR}:{WEB_PORT}/")
            pairs.add(connect=(metrics.connect_ms, peer["connect"]))
            assert DELAY_MS <= metrics.kernel_rtt_ms <= metrics.connect_ms
    pairs.agree(1)


async def test_a_name_takes_as_long_as_curls(lab: Laboratory) -> None:
    """The host's own resolver, asked from where its name server is 50 ms away; and the whole request."""
    pairs = Pairs()
    with before_all_others():
        for _ in range(ROUNDS):
            # What the first run of a process makes ready is its own.
            _first, result = await asyncio.to_thread(lab.measure, "http", 2)
            peer = await curl(lab, f"http://{NAME}:{WEB_PORT}/")
            pairs.add(
                dns=(result.http.dns_ms, peer["namelookup"]),
                connect=(result.http.connect_ms, peer["connect"] - peer["namelookup"]),
                ttfb=(result.http.ttfb_ms, peer["starttransfer"] - peer["pretransfer"]),
                total=(result.http.total_ms, peer["total"]),
            )
    pairs.agree(2)


@pytest.fixture
def web(tmp_path: Path, lab: Laboratory) -> Iterator[Nginx]:
    with contextlib.ExitStack() as stack:
        with before_all_others():
            far = nginx(tmp_path, CERTIFICATE.pem, CERTIFICATE.key_pem, address=FAR, namespace=lab.far)
            running = stack.enter_context(far)
        yield running


async def test_redirects_take_as_long_as_curls(lab: Laboratory, web: Nginx, probe: Probe) -> None:
    """A new connection for each hop, as curl makes it where connections are closed."""
    pairs = Pairs()
    with before_all_others(), lab.near.entered():
        for _ in range(ROUNDS):
            metrics = (await probe("http", web.url("/away", CLEAR))).metrics
            peer = await curl(lab, "-L", "-H", "Connection: close", web.url("/away", CLEAR))
            assert metrics.redirects == peer["redirects"] == 1
            first = metrics.hops[0]
            pairs.add(
                first=(first.connect_ms + first.ttfb_ms + first.transfer_ms, peer["redirect"]),
                last=(
                    metrics.connect_ms + metrics.ttfb_ms + metrics.transfer_ms,
                    peer["total"] - peer["redirect"],
                ),
                total=(metrics.total_ms, peer["total"]),
            )
    pairs.agree(2, least_ms=2 * DELAY_MS)


@contextlib.contextmanager
def serving(lab: Laboratory, talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Have a server at the far end talk on each connection, one after another; yield its port."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listener is shut in the end
            while True:
                connection, _address = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    talk(connection)

    with lab.far.entered():
        listener = socket.create_server((FAR, 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize(("version", "round_trips"), [("TLSv1_2", 2), ("TLSv1_3", 1)])
async def test_a_handshake_takes_as_long_as_curls(
    tmp_path: Path, lab: Laboratory, trusted: Path, probe: Probe, version: str, round_trips: int
) -> None:
    """As many round trips as the version takes; before its first message curl reads what it trusts."""
    context = server_context(tmp_path, CERTIFICATE)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    pairs = Pairs()
    with before_all_others(), serving(lab, talk) as port, lab.near.entered():
        for _ in range(ROUNDS):
            metrics = (await probe("tls", f"{FAR}:{port}", verify=False)).metrics
            peer = await curl(lab, "--cacert", str(trusted), f"https://{FAR}:{port}/")
            pairs.add(tls=(metrics.handshake_ms, peer["appconnect"] - peer["connect"]))
    pairs.agree(6, least_ms=round_trips * DELAY_MS)


async def test_starttls_takes_as_long_as_curls(
    tmp_path: Path, lab: Laboratory, trusted: Path, probe: Probe
) -> None:
    """Connection, greeting, two commands and the handshake; curl takes the greeting for part of the connection."""
    context = server_context(tmp_path, CERTIFICATE)

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        for reply in (b"250-mail.test\r\n250 STARTTLS\r\n", b"220 go ahead\r\n"):
            connection.recv(1000)
            connection.sendall(reply)
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1000)

    pairs = Pairs()
    with before_all_others(), serving(lab, talk) as port, lab.near.entered():
        for _ in range(ROUNDS):
            metrics = (await probe("tls", f"{FAR}:{port}", starttls="smtp", verify=False)).metrics
            peer = await curl(lab, "--ssl-reqd", "--cacert", str(trusted), f"smtp://{FAR}:{port}/")
            secured = metrics.connect_ms + metrics.starttls_ms + metrics.handshake_ms
            pairs.add(secured=(secured, peer["appconnect"]))
    pairs.agree(6, least_ms=5 * DELAY_MS)


@pytest.fixture
def name_server(tmp_path: Path, lab: Laboratory, trusted: Path) -> Iterator[Bind]:
    key = trusted.with_suffix(".key")
    with contextlib.ExitStack() as stack:
        with before_all_others():
            far = named(tmp_path / "bind", certificate=trusted, key=key, address=FAR, namespace=lab.far)
            running = stack.enter_context(far)
        yield running


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "https"])
async def test_a_query_takes_as_long_as_digs(
    lab: Laboratory, name_server: Bind, trusted: Path, probe: Probe, transport: str
) -> None:
    """Its `Query time`, which begins when the query leaves; ours has the connection in it, and tells its parts.

    Over TLS, where dig waits for the server's tickets first and other clients do not, the second query is compared.
    """
    port = {"tls": name_server.tls, "https": name_server.https}.get(transport, name_server.port)
    options = {"udp": [], "tcp": ["+tcp"]}.get(transport, [f"+{transport}", f"+tls-ca={trusted}"])
    values = {"query_name": "www.example.test", "transport": transport}
    again = ["+keepopen", "www.example.test"] if transport == "tls" else []
    pairs = Pairs()
    with before_all_others(), lab.near.entered():
        for _ in range(ROUNDS):
            more = {"count": 2, "interval_ms": 100} if again else {}
            metrics = (await probe("dns", f"{FAR}:{port}", **values, **more)).metrics
            said = await asyncio.to_thread(
                dig, port, "-u", *options, *again, "www.example.test", address=FAR, namespace=lab.near
            )
            times = [int(found) / 1000 for found in re.findall(r"Query time: (\d+) usec", said)]
            assert len(times) == (2 if again else 1), said
            first_ms = metrics.query_ms - metrics.connect_ms - metrics.tls_ms
            pairs.add(query=(metrics.repeated_ms if again else first_ms, times[-1]))
    pairs.agree(1.5)


@pytest.mark.parametrize(
    ("protocol", "options"), [("icmp", ["-I"]), ("udp", []), ("tcp", ["-T", "-p", str(PORT)])]
)
async def test_a_hop_takes_as_long_as_traceroutes(
    lab: Laboratory, probe: Probe, protocol: str, options: list[str]
) -> None:
    """The destination's time, in each protocol."""
    values: dict[str, Any] = {"protocol": protocol, "rounds": 3, "round_interval_ms": 100}
    if protocol == "tcp":
        values["port"] = PORT
    pairs = Pairs()
    with before_all_others(), lab.near.entered():
        for _ in range(ROUNDS):
            metrics = (await probe("traceroute", FAR, **values)).metrics
            said = (
                await asyncio.to_thread(lab.near.run, "traceroute", "-n", "-q", "3", *options, FAR)
            ).stdout
            theirs = [float(time) for time in re.findall(r"([\d.]+) ms", said.splitlines()[-1])]
            pairs.add(rtt=(metrics.rtt_min_ms, min(theirs)))
    pairs.agree(1)


@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_classes_take_as_long_as_fpings(scripted_host: ScriptedHost, probe: Probe) -> None:
    """A path that treats one class better than the other."""
    waits_s = {46: 0.005, 0: 0.02}
    scripted_host.script = lambda _number, packet: [(waits_s[packet[1] >> 2], echo_reply(packet))]
    pairs = Pairs()
    with before_all_others(), scripted_host.namespace.entered():
        for _ in range(ROUNDS):
            outcome = await probe(
                "qos", "10.92.0.2", classes=["EF", "CS0"], count=20, interval_ms=10, trace=False, ecn=False
            )
            for row in outcome.metrics.classes:
                said = await asyncio.to_thread(
                    scripted_host.namespace.run,
                    "fping", "-q", "-t", "500", "-O", str(row.dscp << 2), "-C", "20", "-p", "10", "10.92.0.2",
                )  # fmt: skip
                theirs = [float(time) for time in said.stderr.rsplit(" : ", 1)[1].split()]
                pairs.add(**{row.name: (row.rtt_median_ms, statistics.median(theirs))})
    pairs.agree(0.5, least_ms=5)


@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_transfer_is_as_fast_as_curls(tmp_path: Path, path3: Path3, probe: Probe) -> None:
    """Over a link of 20 Mbit/s: goodput within a twentieth."""
    path3.router.limit("sw1b", "20mbit", queue="100ms")
    with (
        nginx(
            tmp_path, CERTIFICATE.pem, CERTIFICATE.key_pem, address="10.91.2.2", namespace=path3.far
        ) as far,
        path3.near.entered(),
    ):
        metrics = (await probe("tcp_window", far.url("/large"), duration_ms=20_000)).metrics
        said = await asyncio.to_thread(
            path3.near.run,
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{speed_download} %{size_download}",
            far.url("/large"),
        )
    speed, size = map(float, said.stdout.split())
    assert metrics.body_bytes == size
    assert metrics.goodput_bytes_per_s == pytest.approx(speed, rel=0.05)
