"""DNS beside dig and a real name server: every transport, every record type, signatures, caches, identifiers."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.probes.bind import Bind, dig, named
from integration.probes.peers import Probe
from integration.probes.webserver import make_certificate

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import tls
from worker.wire.connect import Connection, connect


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A certificate for localhost and 127.0.0.1 that this process trusts."""
    folder = tmp_path_factory.mktemp("certificate")
    public, _context = make_certificate(folder, days=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(public))
        tls.client_context.cache_clear()
        yield public, public.with_suffix(".key")
    tls.client_context.cache_clear()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Bind]:
    """An authoritative server of the signed zone example.test."""
    folder = tmp_path_factory.mktemp("bind") / "primary"
    with named(folder, certificate=certificate[0], key=certificate[1]) as bind:
        yield bind


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path], server: Bind
) -> Iterator[Bind]:
    """A cache in front of it."""
    folder = tmp_path_factory.mktemp("bind") / "cache"
    with named(folder, certificate=certificate[0], key=certificate[1], cache_of=server.port) as bind:
        yield bind


def port_of(server: Bind, transport: str) -> int:
    return {"udp": server.port, "tcp": server.port, "tls": server.tls, "https": server.https}[transport]


#: How dig is told of a transport.
DIG = {"udp": [], "tcp": ["+tcp"], "tls": ["+tls"], "https": ["+https"]}


def records(text: str) -> list[str]:
    """Return the records that dig shows, with single spaces."""
    return sorted(" ".join(line.split()) for line in text.splitlines() if line and not line.startswith(";"))


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "https"])
async def test_every_transport_agrees_with_dig(
    server: Bind, probe: Probe, transport: str, no_leak: None
) -> None:
    """Status, flags, counts, records and size."""
    port = port_of(server, transport)
    outcome = await probe(
        "dns",
        f"127.0.0.1:{port}",
        query_name="www.example.test",
        transport=transport,
        recursion_desired=False,
    )
    metrics = outcome.metrics
    ca = [f"+tls-ca={os.environ['SSL_CERT_FILE']}"] if transport in ("tls", "https") else []
    text = dig(port, "www.example.test", "A", "+bufsize=1232", "+norecurse", *DIG[transport], *ca)
    assert "status: NOERROR" in text
    assert metrics.rcode == 0
    flags = re.search(r"flags: ([a-z ]*);", text)
    assert flags is not None
    assert metrics.authoritative == ("aa" in flags[1].split()) is True
    assert metrics.authenticated == ("ad" in flags[1].split())
    assert metrics.recursion_available == ("ra" in flags[1].split())
    counts = re.search(r"ANSWER: (\d+), AUTHORITY: (\d+), ADDITIONAL: (\d+)", text)
    assert counts is not None
    assert [metrics.answers, metrics.authority_records] == [int(counts[1]), int(counts[2])]
    assert metrics.additional_records == int(counts[3]) - 1, "dig counts the EDNS record"
    assert metrics.answer_bytes == int(re.findall(r"MSG SIZE  rcvd: (\d+)", text)[0])
    detail = outcome.detail
    assert sorted([*detail["answer"], *detail["authority"], *detail["additional"]]) == records(text)
    assert metrics.ttl_min_s == metrics.ttl_max_s == 60
    assert metrics.HasField("connect_ms") is (transport != "udp")
    assert metrics.HasField("tls_ms") is (transport in ("tls", "https"))
    assert metrics.HasField("http_status") is (transport == "https")
    # Over TLS and HTTPS there are a handshake, records and frames besides.
    beside = {"udp": 0, "tcp": 2}.get(transport)
    assert metrics.bytes_received - metrics.answer_bytes == beside or (
        beside is None and metrics.bytes_received > 1_000
    )
    if metrics.HasField("tls_ms"):
        assert metrics.connect_ms + metrics.tls_ms < metrics.query_ms


NAMES = {
    "A": "www", "AAAA": "www", "CNAME": "alias", "MX": "", "NS": "", "SOA": "", "SRV": "_sip._udp", "TXT": "", "CAA": "",
    "CDNSKEY": "", "CDS": "", "DNAME": "old", "DNSKEY": "", "HINFO": "host", "HTTPS": "", "LOC": "host", "NAPTR": "e164",
    "NSEC": "", "RRSIG": "www", "SSHFP": "host", "SVCB": "svc", "TLSA": "_443._tcp", "URI": "uri",
}  # fmt: skip


@pytest.mark.parametrize("record_type", contract.kind("dns").parameter("record_type").choices)
async def test_every_record_type_agrees_with_dig(server: Bind, probe: Probe, record_type: str) -> None:
    """The same records, or as few."""
    name = f"{NAMES.get(record_type, 'www')}.example.test".lstrip(".")
    outcome = await probe("dns", f"127.0.0.1:{server.port}", query_name=name, record_type=record_type)
    text = dig(server.port, name, record_type, "+noall", "+answer")
    assert outcome.metrics.answers == len(records(text))
    if record_type in NAMES and record_type not in ("CDNSKEY", "CDS"):
        assert outcome.metrics.answers > 0


async def test_signatures_come_when_they_are_asked_for(server: Bind, probe: Probe) -> None:
    """The DO flag."""
    plain = await probe("dns", f"127.0.0.1:{server.port}", query_name="www.example.test")
    assert plain.metrics.signatures == 0
    signed = await probe("dns", f"127.0.0.1:{server.port}", query_name="www.example.test", dnssec=True)
    assert signed.metrics.signatures == 1
    assert signed.metrics.answers == 2
    assert signed.metrics.answer_bytes > plain.metrics.answer_bytes


async def test_validated_answers_are_those_that_dig_is_told_of(
    tmp_path: Path, certificate: tuple[Path, Path], server: Bind, probe: Probe
) -> None:
    """A cache that validates sets AD; where the zone's key is another it fails, and says why, to both."""
    text = dig(server.port, "example.test", "DNSKEY", "+noall", "+answer")
    flags, protocol, algorithm, *words = text.split("DNSKEY", 1)[1].splitlines()[0].split()
    true = "".join(words)
    for name, key, wanted in (("true", true, "NOERROR"), ("false", f"{true[:-8]}AAAAAAA=", "SERVFAIL")):
        anchor = f'{flags} {protocol} {algorithm} "{key}"'
        with named(
            tmp_path / name,
            certificate=certificate[0],
            key=certificate[1],
            cache_of=server.port,
            anchor=anchor,
        ) as cache:
            seen = dig(cache.port, "www.example.test", "A", "+dnssec")
            metrics = (
                await probe(
                    "dns",
                    f"127.0.0.1:{cache.port}",
                    query_name="www.example.test",
                    dnssec=True,
                    valid_rcodes=["NOERROR", "SERVFAIL"],
                )
            ).metrics
        assert f"status: {wanted}" in seen
        found = re.search(r"flags: ([a-z ]*);", seen)
        assert found is not None
        assert metrics.authenticated is ("ad" in found[1].split()) is (name == "true")
        told = re.search(r"EDE: (\d+)", seen)
        assert (metrics.extended_error if metrics.HasField("extended_error") else None) == (
            int(told[1]) if told else None
        )
        assert metrics.rcode == (0 if name == "true" else 2)


async def test_the_zones_serial_is_read(server: Bind, probe: Probe) -> None:
    """From the answer, and from the authority section of an answer that says no."""
    serial = int(dig(server.port, "example.test", "SOA", "+short").split()[2])
    asked = await probe("dns", f"127.0.0.1:{server.port}", query_name="example.test", record_type="SOA")
    assert asked.metrics.soa_serial == serial
    negative = await probe(
        "dns", f"127.0.0.1:{server.port}", query_name="no.example.test", valid_rcodes=["NXDOMAIN"]
    )
    assert negative.metrics.soa_serial == serial


async def test_the_server_says_who_it_is(server: Bind, probe: Probe) -> None:
    """When it is asked."""
    plain = await probe("dns", f"127.0.0.1:{server.port}", query_name="www.example.test")
    assert "nsid" not in plain.detail
    asked = await probe("dns", f"127.0.0.1:{server.port}", query_name="www.example.test", nsid=True)
    assert asked.detail["nsid"] == "the-first"


async def test_a_cache_is_told_from_an_authority(server: Bind, cache: Bind, probe: Probe) -> None:
    """Its TTLs fall from second to second, an authority's do not."""
    values = {"query_name": "www.example.test", "record_type": "AAAA", "count": 3, "interval_ms": 1100}
    cached = (await probe("dns", f"127.0.0.1:{cache.port}", **values)).metrics
    assert cached.cache_hit_pct == 100
    assert cached.authoritative is False
    assert (cached.queries, cached.answered, cached.unanswered_pct) == (3, 3, 0)
    assert cached.ttl_min_s <= 58
    authority = (await probe("dns", f"127.0.0.1:{server.port}", **values)).metrics
    assert authority.cache_hit_pct == 0
    assert authority.ttl_min_s == 60


@pytest.mark.parametrize("transport", ["tcp", "tls", "https"])
@pytest.mark.parametrize("keep", [True, False])
async def test_repeated_queries_keep_the_connection_or_not(
    server: Bind, probe: Probe, monkeypatch: pytest.MonkeyPatch, transport: str, keep: bool, no_leak: None
) -> None:
    """One connection for all five, or one for each; bytes are counted all the same."""
    made: list[Connection] = []

    async def counting(*arguments: Any, **options: Any) -> Connection:
        made.append(await connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("worker.wire.dns_transport.connect", counting)
    outcome = await probe(
        "dns",
        f"127.0.0.1:{port_of(server, transport)}",
        query_name="www.example.test",
        transport=transport,
        count=5,
        interval_ms=20,
        keep_connection=keep,
    )
    metrics = outcome.metrics
    assert len(made) == (1 if keep else 5)
    assert metrics.answered == 5
    if transport == "tcp":
        assert metrics.bytes_received == 5 * (2 + metrics.answer_bytes)
    else:
        assert metrics.bytes_received > (1 if keep else 5) * 1_000 + 5 * metrics.answer_bytes
    assert metrics.query_min_ms <= metrics.query_avg_ms <= metrics.query_max_ms
    assert metrics.query_ms > metrics.connect_ms
    assert metrics.HasField("repeated_ms")


async def test_https_by_get(server: Bind, probe: Probe, no_leak: None) -> None:
    """The query in the URL."""
    outcome = await probe(
        "dns",
        f"127.0.0.1:{server.https}",
        query_name="www.example.test",
        transport="https",
        http_method="GET",
    )
    assert outcome.metrics.answers == 1
    assert outcome.metrics.http_status == 200


async def test_a_path_that_is_none_is_the_targets(server: Bind, probe: Probe, no_leak: None) -> None:
    """The status says so; the server has answered all the same, so that nothing was lost."""
    with pytest.raises(ProbeFailure, match="HTTP status 404") as caught:
        await probe(
            "dns",
            f"127.0.0.1:{server.https}",
            query_name="www.example.test",
            transport="https",
            http_path="/none",
        )
    assert caught.value.reason == probe_pb2.FAILURE_REASON_WRONG_STATUS
    assert caught.value.metrics.http_status == 404
    assert (caught.value.metrics.answered, caught.value.metrics.unanswered_pct) == (1, 0)


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_certificates_are_checked(server: Bind, probe: Probe, transport: str, no_leak: None) -> None:
    """By the name that the test gives, unless it wants no check."""
    where = f"127.0.0.1:{port_of(server, transport)}"
    values = {"query_name": "www.example.test", "transport": transport}
    assert (await probe("dns", where, **values, server_name="localhost")).metrics.answers == 1
    with pytest.raises(ProbeFailure, match=r"not valid for `other\.test`") as caught:
        await probe("dns", where, **values, server_name="other.test")
    assert caught.value.reason == probe_pb2.FAILURE_REASON_BAD_CERTIFICATE
    assert caught.value.metrics.HasField("connect_ms")
    unchecked = await probe("dns", where, **values, server_name="other.test", verify_tls=False)
    assert unchecked.metrics.answers == 1


async def test_a_server_without_tls_is_the_targets(probe: Probe) -> None:
    """Plain words where a TLS handshake is expected."""

    def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org\r\n")
        writer.close()

    plain = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with plain:
        port = plain.sockets[0].getsockname()[1]
        with pytest.raises(ProbeFailure, match="the TLS handshake with") as caught:
            await probe("dns", f"127.0.0.1:{port}", query_name="www.example.test", transport="tls")
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TLS_FAILED


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"authority_pattern": "ns.example"}, None),
        ({"authority_pattern": "ns.elsewhere"}, "none of 1 authority records contains"),
        ({"additional_pattern": "127.0.0.1"}, None),
        ({"additional_pattern": "127.0.0.2"}, "none of 1 additional records contains"),
        ({"unwanted_pattern": "198.51"}, None),
        ({"unwanted_pattern": "192.0"}, "an answer record contains `192.0`, which the test forbids"),
        ({"answer_pattern": r"^192\.0\.2\.\d+$", "pattern_syntax": "regex"}, None),
        ({"answer_pattern": r"^192\.0\.2$", "pattern_syntax": "regex"}, "none of 1 answer records matches"),
        ({"answer_pattern": r"192\.0\.2\.10"}, "none of 1 answer records contains"),
    ],
)
async def test_each_section_has_its_pattern(
    server: Bind, probe: Probe, values: dict[str, str], words: str | None
) -> None:
    """As text or as regular expression."""
    if words is None:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="www.example.test", **values)
        return
    with pytest.raises(ProbeFailure, match=re.escape(words)) as caught:
        await probe("dns", f"127.0.0.1:{server.port}", query_name="www.example.test", **values)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_WRONG_CONTENT
    assert caught.value.detail["answer"] == ["www.example.test. 60 IN A 192.0.2.10"]
