"""TCP runs of several connections, what servers say over them, and failures among them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from integration.probes.peers import Probe

from streamswarm.v1 import probe_pb2
from worker.probes import tcp
from worker.probing import ProbeFailure
from worker.wire.connect import failure_at_once

Talk = Callable[[int, socket.socket], object]


class Talker:
    """Accepts on 127.0.0.1 and hands each connection, with its number from 0, to a function of the test."""

    def __init__(self) -> None:
        #: Waits until the client leaves, unless the test says otherwise.
        self.talk: Talk = lambda _number, connection: connection.recv(1)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._closing = False
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        """A connection of its own wakes the thread."""
        self._closing = True
        with socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        number = 0
        while True:
            connection, _address = self._listener.accept()
            with connection:
                if self._closing:
                    return
                connection.settimeout(5)
                # A client that has enough leaves.
                with contextlib.suppress(OSError):
                    self.talk(number, connection)
                number += 1


@pytest.fixture
def server() -> Iterator[Talker]:
    """A server that says what a test sets."""
    talker = Talker()
    yield talker
    talker.close()


def greet(_number: int, connection: socket.socket) -> None:
    """Say what a mail server says, in two pieces, and wait for the client to leave."""
    connection.sendall(b"22")
    time.sleep(0.02)
    connection.sendall(b"0 mail.example.org ESMTP\r\n")
    connection.recv(1)


async def test_connections_are_spaced_as_the_test_says(server: Talker, probe: Probe, no_leak: None) -> None:
    """Five, 40 ms apart from start to start."""
    started = time.perf_counter()
    outcome = await probe("tcp", f"127.0.0.1:{server.port}", count=5, interval_ms=40)
    assert 0.16 <= time.perf_counter() - started < 1
    metrics = outcome.metrics
    assert (metrics.attempts, metrics.connected, metrics.failed_pct) == (5, 5, 0)
    assert metrics.connect_min_ms <= metrics.connect_median_ms <= metrics.connect_max_ms
    assert metrics.connect_min_ms <= metrics.connect_ms <= metrics.connect_max_ms
    assert metrics.HasField("connect_stddev_ms")
    assert metrics.network_delay_ms == pytest.approx(metrics.kernel_min_rtt_ms / 2)
    assert metrics.server_processing_ms >= 0
    assert metrics.connect_class == 1
    assert outcome.detail["class"].startswith("excellent: connected in")
    assert (metrics.bytes_sent, metrics.bytes_received) == (0, 0)
    assert "failures" not in outcome.detail


async def test_a_greeting_is_awaited(server: Talker, probe: Probe, no_leak: None) -> None:
    """It may come in pieces; the time is that of the first."""
    server.talk = greet
    outcome = await probe("tcp", f"127.0.0.1:{server.port}", expect="220 mail")
    assert outcome.metrics.bytes_received == 28
    assert 0 <= outcome.metrics.first_byte_ms < 20, "it may be there when the connection is"


async def test_what_is_sent_is_answered(server: Talker, probe: Probe, no_leak: None) -> None:
    """The time to the first byte begins with what was sent."""

    def pong(_number: int, connection: socket.socket) -> None:
        assert connection.recv(6, socket.MSG_WAITALL) == b"PING\r\n"
        time.sleep(0.05)
        connection.sendall(b"+PONG\r\n")

    server.talk = pong
    outcome = await probe("tcp", f"127.0.0.1:{server.port}", send=r"PING\r\n", expect="PONG")
    assert outcome.metrics.bytes_sent == 6
    assert outcome.metrics.bytes_received == 7
    assert 50 <= outcome.metrics.first_byte_ms < 200


async def test_another_text_is_the_targets_failure(server: Talker, probe: Probe, no_leak: None) -> None:
    """The connection counts, the run fails, and says what came instead."""
    server.talk = greet
    with pytest.raises(ProbeFailure, match=r"did not say `SSH-` within 100 ms; it said `220 mail") as caught:
        await probe("tcp", f"127.0.0.1:{server.port}", expect="SSH-", timeout_ms=100)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.reason == probe_pb2.FAILURE_REASON_WRONG_CONTENT
    assert caught.value.metrics.connected == 1
    assert caught.value.metrics.failed_pct == 100
    assert caught.value.metrics.other_failures == 1
    assert caught.value.metrics.HasField("connect_ms")


@pytest.mark.parametrize(
    ("talk", "words", "reason"),
    [
        (lambda _number, connection: connection.recv(1), "said nothing within 100 ms", "TIMED_OUT"),
        (lambda _number, _connection: None, "said nothing before it closed", "BROKEN_OFF"),
        (
            lambda _number, connection: connection.sendall(b"x" * 100_000),
            "in its first 65536 bytes",
            "WRONG_CONTENT",
        ),
    ],
    ids=["silent", "closes", "endless"],
)
async def test_servers_that_do_not_say_it(
    server: Talker, probe: Probe, talk: Talk, words: str, reason: str
) -> None:
    """Silence, a closed connection and a flood are told apart."""
    server.talk = talk
    with pytest.raises(ProbeFailure, match=words) as caught:
        await probe("tcp", f"127.0.0.1:{server.port}", expect="220 ", timeout_ms=100)
    assert caught.value.reason == getattr(probe_pb2, f"FAILURE_REASON_{reason}")
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET


async def test_some_failures_do_not_fail_the_run(server: Talker, probe: Probe, no_leak: None) -> None:
    """They are counted, told, and spoil the class."""
    server.talk = lambda number, connection: connection.sendall(b"no" if number == 1 else b"yes")
    outcome = await probe("tcp", f"127.0.0.1:{server.port}", count=3, interval_ms=10, expect="yes")
    assert outcome.metrics.connected == 3
    assert outcome.metrics.failed_pct == pytest.approx(100 / 3)
    assert outcome.metrics.connect_class == 3
    assert len(outcome.detail["failures"]) == 1
    assert "1 of 3 attempts failed" in outcome.detail["class"]


async def test_refusals_of_all_attempts_fail_the_run(probe: Probe, free_port: int, no_leak: None) -> None:
    """Each is counted."""
    with pytest.raises(ProbeFailure, match="refused the connection") as caught:
        await probe("tcp", f"127.0.0.1:{free_port}", count=3, interval_ms=10)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_REFUSED
    assert caught.value.metrics.refused == caught.value.metrics.attempts == 3
    assert not caught.value.metrics.HasField("connect_class")
    assert len(caught.value.detail["failures"]) == 3


async def test_a_cancelled_run_ends_at_once(server: Talker, probe: Probe, no_leak: None) -> None:
    """Between two connections, and while a text is awaited."""
    for values in ({"count": 2, "interval_ms": 60_000}, {"expect": "220", "timeout_ms": 60_000}):
        task = asyncio.ensure_future(probe("tcp", f"127.0.0.1:{server.port}", **values))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("kept_back", "attempts", "failed_pct"), [({1}, 2, 0.0), ({0, 2}, 1, 0.0), ({0, 1, 2}, None, None)]
)
async def test_attempts_that_this_host_could_not_make_are_no_failures(
    server: Talker,
    probe: Probe,
    monkeypatch: pytest.MonkeyPatch,
    kept_back: set[int],
    attempts: int | None,
    failed_pct: float | None,
) -> None:
    """They count nowhere; when there are no others, the run is this host's own error and tells nothing."""
    numbers = itertools.count()
    real = tcp.connect

    async def connecting(*words: Any, **values: Any) -> Any:
        if next(numbers) in kept_back:
            raise failure_at_once(OSError(errno.ENOBUFS, ""), "there")
        return await real(*words, **values)

    monkeypatch.setattr(tcp, "connect", connecting)
    try:
        ending: Any = await probe("tcp", f"127.0.0.1:{server.port}", count=3, interval_ms=10)
    except ProbeFailure as failure:
        ending = failure
        assert (failure.source, failure.reason) == (
            probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_ROOM,
        )  # fmt: skip
    known = {field.name: value for field, value in ending.metrics.ListFields()}
    assert (known.get("attempts"), known.get("failed_pct")) == (attempts, failed_pct)
    assert ("connect_class" in known) is (attempts is not None)
    assert len(ending.detail["not_tried"]) == len(kept_back)
    assert "failures" not in ending.detail


async def test_refusals_are_told_whatever_else_this_host_could_not_try(
    probe: Probe, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts that were made decide."""
    numbers = itertools.count()
    real = tcp.connect

    async def connecting(*words: Any, **values: Any) -> Any:
        if next(numbers) == 1:
            raise failure_at_once(OSError(errno.ENOBUFS, ""), "there")
        return await real(*words, **values)

    monkeypatch.setattr(tcp, "connect", connecting)
    with pytest.raises(ProbeFailure, match="refused") as caught:
        await probe("tcp", f"127.0.0.1:{free_port}", count=2, interval_ms=10)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert (caught.value.metrics.attempts, caught.value.metrics.failed_pct) == (1, 100)
