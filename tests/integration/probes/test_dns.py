"""DNS beside dig, against a name server of the test's own that also answers badly."""

from __future__ import annotations

import asyncio
import errno
import itertools
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import dns.flags
import pytest
from integration.probes.nameserver import MANY, NameServer
from integration.probes.peers import Path3, Probe, RecordingGuard

from streamswarm.v1 import probe_pb2
from worker.probes import dns as dns_probe
from worker.probing import ProbeFailure
from worker.wire import dns_transport
from worker.wire.connect import Connection, connect


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


async def dig(server: NameServer, *arguments: str) -> str:
    """Return dig's answer; it sends no cookie, which would be counted."""
    command = ["dig", "@127.0.0.1", "-p", str(server.port), "+nocookie", "+tries=1", "+time=2", *arguments]
    return await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )


async def test_an_answer_agrees_with_dig(server: NameServer, probe: Probe, no_leak: None) -> None:
    """Same status, flags, records and sizes."""
    outcome = await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test")
    result = outcome.metrics
    peer = await dig(server, "a.test", "A", "+bufsize=1232")
    assert "status: NOERROR" in peer
    assert result.rcode == 0
    flags = re.search(r"flags: ([a-z ]+);", peer)
    assert flags is not None
    assert ("aa" in flags[1].split()) == result.authoritative is True
    assert ("ad" in flags[1].split()) == result.authenticated is True
    assert f"ANSWER: {result.answers}," in peer
    assert result.answers == 3
    assert result.ttl_min_s == 60
    assert f"MSG SIZE  rcvd: {result.bytes_received}" in peer
    assert result.truncated is False
    assert 0 < result.query_ms < 100
    assert sorted(outcome.detail["answer"]) == [
        "a.test. 300 IN CNAME b.test.",
        "b.test. 60 IN A 192.0.2.1",
        "b.test. 60 IN A 192.0.2.2",
    ]
    ours, theirs = server.queries
    assert (ours.flags, ours.edns, ours.payload) == (theirs.flags, theirs.edns, theirs.payload)
    assert result.bytes_sent == len(theirs.to_wire())


async def test_a_truncated_answer_is_asked_for_again_over_tcp(
    server: NameServer, probe: Probe, no_leak: None
) -> None:
    """As dig does; both messages are counted."""
    outcome = await probe("dns", f"127.0.0.1:{server.port}", query_name="long.test", record_type="TXT")
    peer = await dig(server, "long.test", "TXT", "+bufsize=1232")
    assert "Truncated, retrying in TCP mode" in peer
    assert outcome.metrics.truncated is True
    assert outcome.metrics.answers == MANY
    assert outcome.metrics.bytes_sent == 2 * len(server.queries[0].to_wire()) + 2
    received = re.search(r"MSG SIZE  rcvd: (\d+)", peer)
    assert received is not None
    assert outcome.metrics.bytes_received > int(received[1])
    assert len(outcome.detail["answer"]) == 20


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_query_time_is_what_a_resolver_waits_for(
    server: NameServer, probe: Probe, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """The handshake counts, and after a cut answer the time over UDP, the handshake and the time over TCP."""
    handshake_s = 0.2

    async def slow(*arguments: Any, **options: Any) -> Connection:
        connection = await connect(*arguments, **options)
        await asyncio.sleep(handshake_s)
        return connection

    monkeypatch.setattr("worker.wire.dns_transport.connect", slow)
    started = time.perf_counter()
    outcome = await probe(
        "dns", f"127.0.0.1:{server.port}", query_name="long.test", record_type="TXT", transport=transport
    )
    whole_ms = (time.perf_counter() - started) * 1000
    assert outcome.metrics.HasField("truncated") is (transport == "udp")
    assert handshake_s * 1000 < outcome.metrics.query_ms < whole_ms


async def test_a_failed_run_keeps_the_answer_and_the_address(
    server: NameServer, probe: Probe, free_port: int
) -> None:
    """Whoever looks into a failure sees what the server said, or at least which one was asked."""
    where = {"address": "127.0.0.1", "port": server.port}
    with pytest.raises(ProbeFailure) as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", answer_pattern="192.0.2.9")
    assert caught.value.detail["answer"][0].startswith(("a.test. 300", "b.test. 60"))
    assert len(caught.value.detail["answer"]) == 3
    with pytest.raises(ProbeFailure) as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="none.test")
    assert caught.value.detail == where | {"answer": []}
    with pytest.raises(ProbeFailure) as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="silent.test", timeout_ms=50)
    assert caught.value.detail == where
    with pytest.raises(ProbeFailure) as caught:
        await probe("dns", f"127.0.0.1:{free_port}", query_name="a.test")
    assert caught.value.detail == where | {"port": free_port}


async def test_tcp_from_the_start(server: NameServer, probe: Probe, no_leak: None) -> None:
    """No datagram is sent; whether an answer was cut short is not known there."""
    outcome = await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", transport="tcp")
    assert outcome.metrics.answers == 3
    assert server.ports == []
    assert not outcome.metrics.HasField("truncated")


async def test_a_name_that_does_not_exist_is_measured_and_failed(server: NameServer, probe: Probe) -> None:
    """The answer came, so its time stands; the test says which codes it wants."""
    with pytest.raises(ProbeFailure, match="answered NXDOMAIN; the test wants NOERROR") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="none.test")
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.metrics.rcode == 3
    assert caught.value.metrics.query_ms > 0
    assert not caught.value.metrics.HasField("ttl_min_s")
    outcome = await probe(
        "dns", f"127.0.0.1:{server.port}", query_name="none.test", valid_rcodes=["NXDOMAIN"]
    )
    assert outcome.metrics.rcode == 3


async def test_response_codes_are_read_with_their_extension_bits(server: NameServer, probe: Probe) -> None:
    """BADVERS is 16: its upper bits stand in the EDNS record."""
    with pytest.raises(ProbeFailure, match="BADVERS") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="badvers.test")
    assert caught.value.metrics.rcode == 16


async def test_answers_that_do_not_fit_the_question_are_passed_over(server: NameServer, probe: Probe) -> None:
    """Scraps, another id, another question and our own query come first; only the right answer counts."""
    outcome = await probe("dns", f"127.0.0.1:{server.port}", query_name="spoofed.test")
    assert outcome.detail["answer"] == ["spoofed.test. 60 IN A 192.0.2.7"]


async def test_ids_and_ports_are_random(server: NameServer, probe: Probe) -> None:
    """Ten queries share neither."""
    for _ in range(10):
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test")
    assert len({query.id for query in server.queries}) >= 9
    assert len(set(server.ports)) >= 9


async def test_silence_is_the_networks(server: NameServer, probe: Probe, no_leak: None) -> None:
    """FAILED and NETWORK after the time-out, with what was sent and no time."""
    with pytest.raises(ProbeFailure, match="gave no answer within 100 ms") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="silent.test", timeout_ms=100)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert caught.value.metrics.bytes_sent > 0
    assert not caught.value.metrics.HasField("query_ms")
    assert not caught.value.metrics.HasField("rcode")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_host_without_name_server_is_the_targets_refusal(
    probe: Probe, free_port: int, transport: str, no_leak: None
) -> None:
    """An ICMP port unreachable, or a refused connection."""
    with pytest.raises(ProbeFailure, match=r"nothing listens|refused") as caught:
        await probe("dns", f"127.0.0.1:{free_port}", query_name="a.test", transport=transport)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET


@pytest.mark.parametrize(
    ("name", "transport", "words", "unanswered_pct"),
    [
        ("garbage.test", "udp", "not a DNS message", 0),
        ("hangup.test", "tcp", "closed the connection before", 100),
        ("another.test", "tcp", "answered another question", 0),
    ],
)
async def test_nonsense_is_the_targets(
    server: NameServer, probe: Probe, name: str, transport: str, words: str, unanswered_pct: float
) -> None:
    """An answer that cannot be read is one, a connection closed without one is not."""
    with pytest.raises(ProbeFailure, match=words) as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name=name, transport=transport)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.metrics.unanswered_pct == unanswered_pct
    assert caught.value.metrics.answered == (unanswered_pct == 0)


async def test_one_wrong_answer_among_several_fails_the_run(server: NameServer, probe: Probe) -> None:
    """It is no loss; what the right answer said is told, and the detail keeps the two apart."""
    with pytest.raises(ProbeFailure, match="not a DNS message") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="once.test", count=2, interval_ms=10)
    metrics = caught.value.metrics
    assert (metrics.queries, metrics.answered, metrics.unanswered_pct, metrics.rcode) == (2, 2, 0, 0)
    [told] = caught.value.detail["wrong_answers"]
    assert "not a DNS message" in told
    assert "unanswered" not in caught.value.detail


async def test_the_answers_of_a_run_are_kept_up_to_a_size(
    server: NameServer, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many queries a test has; the first answer is looked at whatever its size."""
    monkeypatch.setattr(dns_probe, "_MOST_KEPT_BYTES", 10)
    await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test")
    with pytest.raises(ProbeFailure, match="have more than 10 bytes in all") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", count=3, interval_ms=10)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TOO_MUCH
    assert (caught.value.metrics.answered, caught.value.metrics.answers) == (3, 3)


async def test_the_answer_must_contain_what_the_test_asks_for(server: NameServer, probe: Probe) -> None:
    """A plain substring of one record's data; a dot is a dot."""
    await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", answer_pattern="0.2.2")
    with pytest.raises(ProbeFailure, match=r"none of 3 answer records contains `192\.0\.2\.9`") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", answer_pattern="192.0.2.9")
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    with pytest.raises(ProbeFailure):
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", answer_pattern="192.0.2..")


async def test_recursion_is_asked_for_as_the_test_says(server: NameServer, probe: Probe) -> None:
    """The RD flag of the query."""
    for wanted in (True, False):
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", recursion_desired=wanted)
        assert bool(server.queries[-1].flags & dns.flags.RD) is wanted


async def test_a_name_that_cannot_be_asked_for_sends_nothing(server: NameServer, probe: Probe) -> None:
    """An empty label: the test is wrong, not the server."""
    with pytest.raises(ProbeFailure, match="correct the test's `query_name`") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a..test")
    assert caught.value.status == probe_pb2.STATUS_ERROR
    assert server.queries == []


async def test_the_servers_name_is_resolved_outside_the_query_time(
    server: NameServer, probe: Probe, names: dict[str, str], guard: RecordingGuard
) -> None:
    """And the address that it stands for is what the policy sees."""
    names["ns.test"] = "127.0.0.1"
    outcome = await probe("dns", f"ns.test:{server.port}", query_name="a.test")
    assert outcome.metrics.query_ms < 20
    guard.denied.add(f"127.0.0.1:{server.port}")
    before = len(server.queries)
    with pytest.raises(ProbeFailure, match="denied"):
        await probe("dns", f"ns.test:{server.port}", query_name="a.test")
    assert len(server.queries) == before


async def test_a_cancelled_query_closes_its_socket(server: NameServer, probe: Probe, no_leak: None) -> None:
    """While the answer is awaited."""
    task = asyncio.ensure_future(
        probe("dns", f"127.0.0.1:{server.port}", query_name="silent.test", timeout_ms=60_000)
    )
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_router_that_cannot_go_on_is_named(path3: Path3, probe: Probe) -> None:
    """No waiting for the time-out: the ICMP error ends the run."""
    path3.router.run("ip", "route", "add", "unreachable", "10.99.0.0/16")
    with (
        path3.near.entered(),
        pytest.raises(ProbeFailure, match=r"10\.91\.1\.2 reported host unreachable") as caught,
    ):
        await probe("dns", "10.99.0.1", query_name="a.test", timeout_ms=30_000)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_router_that_says_that_the_port_is_closed_is_named(path3: Path3, probe: Probe) -> None:
    """As firewalls do that reject; the same from the server's host means that nothing listens there."""
    for namespace, hook, source, words in (
        (path3.far, "input", probe_pb2.FAILURE_SOURCE_TARGET, "nothing listens there"),
        (path3.router, "forward", probe_pb2.FAILURE_SOURCE_NETWORK, "10.91.1.2 reported port unreachable"),
    ):
        namespace.firewall(hook, "udp dport 53 reject")
        with path3.near.entered(), pytest.raises(ProbeFailure, match=words) as caught:
            await probe("dns", "10.91.2.2", query_name="a.test")
        assert caught.value.source == source


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_without_a_route_nothing_is_measured(path3: Path3, probe: Probe) -> None:
    """This host's fault, not the server's."""
    path3.near.run("ip", "route", "delete", "default")
    with path3.near.entered(), pytest.raises(ProbeFailure, match="ENETUNREACH") as caught:
        await probe("dns", "10.91.2.2", query_name="a.test")
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert caught.value.status == probe_pb2.STATUS_ERROR


@pytest.fixture
def keep_back(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of queries over UDP, from 0, for which this host has no buffers."""
    found: set[int] = set()
    numbers = itertools.count()
    real = dns_transport.open_exchange

    def opening(*words: Any, **values: Any) -> Any:
        if next(numbers) in found:
            raise OSError(errno.ENOBUFS, "")
        return real(*words, **values)

    monkeypatch.setattr(dns_transport, "open_exchange", opening)
    return found


async def test_a_query_that_this_host_could_not_send_is_no_loss(
    server: NameServer, probe: Probe, keep_back: set[int]
) -> None:
    """It counts nowhere, and the detail tells of it."""
    keep_back.add(1)
    outcome = await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", count=2, interval_ms=10)
    assert (outcome.metrics.queries, outcome.metrics.unanswered_pct) == (1, 0)
    assert "ENOBUFS" in outcome.detail["not_sent"][0]
    assert "unanswered" not in outcome.detail


async def test_silence_to_what_was_sent_is_the_networks(
    server: NameServer, probe: Probe, keep_back: set[int]
) -> None:
    """Whatever else could not be sent afterwards."""
    keep_back.add(1)
    with pytest.raises(ProbeFailure, match="gave no answer") as caught:
        await probe(
            "dns",
            f"127.0.0.1:{server.port}",
            query_name="silent.test",
            count=2,
            interval_ms=10,
            timeout_ms=50,
        )
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert (caught.value.metrics.queries, caught.value.metrics.unanswered_pct) == (1, 100)


async def test_a_host_that_sends_no_query_tells_no_loss(
    server: NameServer, probe: Probe, keep_back: set[int]
) -> None:
    """Its own error, with nothing about the server."""
    keep_back.update((0, 1))
    with pytest.raises(ProbeFailure, match="ENOBUFS") as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", count=2, interval_ms=10)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert caught.value.reason == probe_pb2.FAILURE_REASON_NO_ROOM
    for name in ("queries", "answered", "unanswered_pct"):
        assert not caught.value.metrics.HasField(name)
