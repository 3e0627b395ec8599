"""Whatever a connection is waiting for when it is cancelled, its socket is closed and nothing of it stays in the loop."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from integration.probes.cancelling import cancelled_at_every_step
from integration.probes.nameserver import NameServer
from integration.probes.peers import Probe

from worker import loop


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that greets and goes; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _address = listener.accept()
                except TimeoutError:
                    continue
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"220 ready\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        thread.join()


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


@pytest.mark.parametrize(
    "values",
    [{}, {"count": 2, "interval_ms": 10}, {"expect": "220"}, {"send": "hello", "expect": "220"}],
    ids=["plain", "twice", "expect", "send"],
)
async def test_a_tcp_run(echo: int, probe: Probe, values: dict[str, object]) -> None:
    """At every step, from its begin to its end."""
    assert await cancelled_at_every_step(lambda: probe("tcp", f"127.0.0.1:{echo}", **values)) >= 1


async def test_a_tcp_run_that_is_not_answered(probe: Probe) -> None:
    """While the event loop waits for the handshake, until its time-out."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        where = f"127.0.0.1:{full.getsockname()[1]}"
        assert await cancelled_at_every_step(lambda: probe("tcp", where, timeout_ms=20)) > 1


async def test_a_refused_tcp_run(probe: Probe, free_port: int) -> None:
    """The failure closes as success does."""
    await cancelled_at_every_step(lambda: probe("tcp", f"127.0.0.1:{free_port}"))


@pytest.mark.parametrize(
    "values",
    [
        {"query_name": "a.test"},
        {"query_name": "a.test", "transport": "tcp"},
        {"query_name": "long.test", "record_type": "TXT"},
    ],
    ids=["udp", "tcp", "truncated"],
)
async def test_a_dns_run(server: NameServer, probe: Probe, values: dict[str, object]) -> None:
    """Over UDP, over TCP, and from one to the other."""
    assert await cancelled_at_every_step(lambda: probe("dns", f"127.0.0.1:{server.port}", **values)) > 1


def test_runs_on_the_workers_own_loop(echo: int, server: NameServer, probe: Probe) -> None:
    """Uvloop registers sockets in its own way."""

    async def all_of_them() -> None:
        await cancelled_at_every_step(lambda: probe("tcp", f"127.0.0.1:{echo}", expect="220"))
        for values in ({"transport": "tcp"}, {"transport": "udp"}):
            await cancelled_at_every_step(
                lambda values=values: probe("dns", f"127.0.0.1:{server.port}", query_name="a.test", **values)
            )

    loop.run(all_of_them())
