"""What an `http` test demands of answers, and what it sends: each demand that is not met is a sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.probes.peers import Probe
from integration.probes.webserver import WebServer, make_certificate

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import tls

CONTENT = probe_pb2.FAILURE_REASON_WRONG_CONTENT
TARGET, INTERNAL = probe_pb2.FAILURE_SOURCE_TARGET, probe_pb2.FAILURE_SOURCE_INTERNAL


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


async def failed(probe: Probe, url: str, words: str, **values: Any) -> ProbeFailure:
    """Run and return the failure."""
    with pytest.raises(ProbeFailure, match=words) as caught:
        await probe("http", url, **values)
    return caught.value


async def test_demands_that_are_met(server: WebServer, probe: Probe, no_leak: None) -> None:
    """All at once."""
    outcome = await probe(
        "http",
        server.url("/json"),
        header_matches="content-type: json\nX-Cache: HIT",
        body_contains='"ok"',
        body_lacks="error",
        body_pattern=r'"load":\s*0\.\d',
        json_matches="$.status == 'ok' && $.items[0].count >= 3",
    )
    assert outcome.metrics.cache_hit_pct == 100
    assert outcome.metrics.cache_age_s == 7
    assert outcome.metrics.answers_2xx == 1
    assert outcome.metrics.http_version == pytest.approx(1.1)


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "utf-16", "utf-8", "unheard-of"])
async def test_texts_are_looked_for_as_the_body_is_written(probe: Probe, charset: str) -> None:
    """In the character set that its header names; what is unknown is read as UTF-8, as patterns are."""
    body = "geöffnet".encode("utf-8" if charset == "unheard-of" else charset)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset={charset}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await probe("http", url, body_contains="öffn", body_pattern="ge.ff", body_lacks="€")
        await failed(probe, url, "contains `öffn`", body_lacks="öffn")
        await failed(probe, url, "does not contain `€`", body_contains="€")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"header_matches": "X-Absent: a"}, "has no header `X-Absent`"),
        ({"header_matches": "Content-Type: html"}, "`Content-Type: application/json`, which does not contain `html`"),
        ({"body_contains": "down"}, "has a body that does not contain `down`"),
        ({"body_lacks": "ok"}, "has a body that contains `ok`"),
        ({"body_pattern": "o{2}k"}, "nothing matches `o\\{2\\}k`"),
        ({"json_matches": "$.status == 'down'"}, "`\\$.status` is \"ok\"; the test wants == \"down\""),
        ({"json_matches": "$.items[1]"}, "`\\$.items\\[1\\]` is not there"),
    ],
)  # fmt: skip
async def test_demands_that_are_not(
    server: WebServer, probe: Probe, values: dict[str, str], words: str
) -> None:
    """The target's, and everything was measured."""
    failure = await failed(probe, server.url("/json"), words, **values)
    assert (failure.source, failure.reason) == (TARGET, CONTENT)
    assert failure.metrics.total_ms > 0
    assert failure.metrics.status == 200


async def test_all_that_is_not_met_is_told(server: WebServer, probe: Probe) -> None:
    """The status gives the reason, for it is the weightiest."""
    failure = await failed(
        probe, server.url("/status/503"), "status 503.* and has no header `A`.* and has a body that does not contain",
        header_matches="A: b", body_contains="x",
    )  # fmt: skip
    assert failure.reason == probe_pb2.FAILURE_REASON_WRONG_STATUS


async def test_a_body_that_is_no_json(server: WebServer, probe: Probe) -> None:
    """Said as such."""
    failure = await failed(probe, server.url("/"), "has a body that is not JSON", json_matches="$.a")
    assert failure.reason == CONTENT


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"json_matches": "status"}, "the test's `json_matches`: column 1"),
        ({"headers": "no colon"}, "the test's `headers`: `no colon` is not a line"),
        ({"headers": "Content-Length: 3"}, "`Content-Length` is set by the worker itself"),
        ({"headers": "X: a\x7f"}, "the value of `X` has characters"),
        ({"headers": "X Y: a"}, "is not a line such as"),
        ({"header_matches": ": a"}, "the test's `header_matches`"),
        ({"headers": "A: b\n" * 51}, "has 51 lines; 50 is the most"),
    ],
)
async def test_parameters_without_sense_send_nothing(
    server: WebServer, probe: Probe, values: dict[str, str], words: str
) -> None:
    """The test's definition is at fault, and says which parameter."""
    failure = await failed(probe, server.url("/"), words, **values)
    assert (failure.source, failure.reason) == (INTERNAL, probe_pb2.FAILURE_REASON_INVALID_TEST)
    assert server.requests == []


async def test_a_clumsy_pattern_is_given_up(server: WebServer, probe: Probe) -> None:
    """Two seconds at most, and the test is at fault."""
    began = time.monotonic()
    failure = await failed(
        probe, server.url("/slow"), "took longer than 1 s; write a simpler one", body_pattern="(x+x+)+z"
    )
    assert failure.reason == probe_pb2.FAILURE_REASON_INVALID_TEST
    assert time.monotonic() - began < 4


async def test_codings_are_offered_and_undone(server: WebServer, probe: Probe) -> None:
    """Wire size, content size and ratio; the text is looked for in the content."""
    outcome = await probe("http", server.url("/packed/gzip"), compression=True, body_contains="well all")
    assert "accept-encoding: gzip, deflate\r\n" in server.requests[0].lower()
    result = outcome.metrics
    assert result.content_bytes == 12_000
    assert result.body_bytes < 200
    assert result.compression_ratio == pytest.approx(12_000 / result.body_bytes)
    plain = await probe("http", server.url("/"))
    assert (plain.metrics.content_bytes, plain.metrics.HasField("compression_ratio")) == (12, False)


async def test_a_bomb_is_no_danger(server: WebServer, probe: Probe) -> None:
    """20 MB in 20 kB: stopped at the test's limit."""
    failure = await failed(
        probe, server.url("/packed/bomb"), "decodes to more than 1000000 bytes", compression=True, max_body_bytes=1_000_000
    )  # fmt: skip
    assert failure.reason == probe_pb2.FAILURE_REASON_TOO_MUCH


async def test_codings_that_are_not_undone(server: WebServer, probe: Probe) -> None:
    """Counted as they come; what is demanded of the content cannot be told."""
    outcome = await probe("http", server.url("/packed/br"))
    assert not outcome.metrics.HasField("content_bytes")
    await failed(
        probe, server.url("/packed/br"), "in the coding `br`, which is not undone", body_contains="a"
    )
    failure = await failed(probe, server.url("/packed/broken"), "the body of .* breaks its content coding")
    assert failure.reason == probe_pb2.FAILURE_REASON_BAD_ANSWER


async def test_what_the_test_sends(server: WebServer, probe: Probe) -> None:
    """Method, fields, body with its length; the detail shows none of it."""
    outcome = await probe(
        "http",
        server.url("/"),
        method="POST",
        headers="Content-Type: application/json\nAuthorization: Bearer secret\nHost: www.example.test",
        body='{"a": "größe"}',
    )
    head = server.requests[0]
    assert head.startswith("POST / HTTP/1.1\r\nHost: www.example.test\r\n")
    assert "\r\nContent-Type: application/json\r\n" in head
    assert "\r\nAuthorization: Bearer secret\r\n" in head
    assert server.bodies == ['{"a": "größe"}'.encode()]
    assert "secret" not in str(outcome.detail)


@pytest.mark.parametrize(
    ("code", "method", "follows", "bodies"),
    [("302", "POST", "GET", 1), ("303", "PUT", "GET", 1), ("307", "POST", "POST", 2), ("301", "PUT", "PUT", 2), ("303", "HEAD", "HEAD", 0)],
)  # fmt: skip
async def test_redirects_change_the_method_as_rfc_9110_says(
    server: WebServer, probe: Probe, code: str, method: str, follows: str, bodies: int
) -> None:
    """And the fields of the test go along to its own origin."""
    body = "" if method == "HEAD" else "posted"
    outcome = await probe(
        "http", server.url(f"/to/{code}/hello"), method=method, body=body, headers="X-Token: a"
    )
    assert server.requests[1].startswith(f"{follows} /hello ")
    assert "X-Token: a" in server.requests[1]
    assert server.bodies == [b"posted"] * bodies
    assert [row.number for row in outcome.metrics.hops] == ["1", "2"]
    assert (outcome.metrics.answers_3xx, outcome.metrics.answers_2xx) == (1, 1)
    assert outcome.metrics.hops[0].status == int(code)


async def test_fields_of_the_test_stay_with_its_origin(
    server: WebServer, probe: Probe, names: dict[str, str]
) -> None:
    """Another name for the same server is another origin."""
    names["other.test"] = "127.0.0.1"
    await probe(
        "http", server.url(f"/to/302/={server.url('/hello', 'other.test')}"), headers="Authorization: secret"
    )
    assert "secret" in server.requests[0]
    assert "secret" not in server.requests[1]
    assert f"Host: other.test:{server.port}" in server.requests[1]


async def test_days_of_the_certificate_can_be_demanded(
    probe: Probe, tmp_path: Path, server: WebServer
) -> None:
    """Also of a site that shows none."""
    tls.client_context.cache_clear()
    _public, context = make_certificate(tmp_path, days=10)
    secure = WebServer(context)
    try:
        await probe("http", secure.url(), verify_tls=False, min_cert_days=9)
        failure = await failed(
            probe, secure.url(), "a certificate for 10.0 days; the test wants one that is good for 11 days",
            verify_tls=False, min_cert_days=11,
        )  # fmt: skip
    finally:
        secure.close()
    assert failure.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS
    await failed(probe, server.url(), "shows no certificate", min_cert_days=1)


async def test_a_server_that_closes_after_each_answer_is_asked_anew(server: WebServer, probe: Probe) -> None:
    """Three requests, no connection used twice, and no failure."""
    outcome = await probe("http", server.url("/"), requests=3)
    result = outcome.metrics
    assert (result.requests, result.reused_pct, result.answers_2xx) == (3, 0, 3)
    assert result.repeat_ms > 0
    assert not result.HasField("reuse_saved_ms")
    assert len(server.requests) == 3


async def test_a_later_answer_is_checked_too(server: WebServer, probe: Probe) -> None:
    """The failure says which request."""
    server.answers = iter([200, 200, 503])
    failure = await failed(probe, server.url("/next"), r"\(request 3\) answered with status 503", requests=5)
    assert failure.metrics.requests == 3
    assert failure.metrics.answers_5xx == 1
