"""The default resolver and the threads below it. No query leaves this machine."""

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from streamswarm.v1 import probe_pb2
from worker.detached import Detached, TooManyHungCallsError
from worker.probing import ProbeFailure
from worker.resolving import system_resolver


async def failure_of(host: str, family: str = "any", **settings: Any) -> ProbeFailure:
    with pytest.raises(ProbeFailure) as caught:
        await system_resolver(**settings)(host, family)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_RESOLVER
    assert caught.value.status == probe_pb2.STATUS_ERROR
    return caught.value


async def test_addresses_resolve_to_themselves_without_a_time() -> None:
    """Nothing was asked, so nothing took time."""
    resolved = await system_resolver()("2001:db8::1", "any")
    assert resolved.addresses == (ipaddress.ip_address("2001:db8::1"),)
    assert resolved.elapsed_ms is None


async def test_an_address_of_the_other_family_is_an_error() -> None:
    """A test for IPv6 does not quietly measure IPv4."""
    assert "IPv6" in (await failure_of("192.0.2.1", "ipv6")).message
    assert "IPv4" in (await failure_of("::1", "ipv4")).message


async def test_names_of_this_host_resolve_in_the_family_asked_for() -> None:
    """Localhost is in the hosts file of every machine."""
    resolved = await system_resolver()("localhost", "ipv4")
    assert resolved.addresses == (ipaddress.ip_address("127.0.0.1"),)
    assert resolved.elapsed_ms is not None
    assert resolved.elapsed_ms > 0


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Replace the system's answer: its name servers are not the test's to break."""

    def replace(function: Callable[[], Any]) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_keywords: function())

    return replace


async def test_errors_of_the_system_say_which_name_and_why(answer: Callable[[Any], None]) -> None:
    """No such name and unreachable name servers are told apart."""

    def raise_it(code: int) -> None:
        raise socket.gaierror(code, "text")

    answer(lambda: raise_it(socket.EAI_NONAME))
    assert "`www.invalid`: no such name" in (await failure_of("www.invalid")).message
    answer(lambda: raise_it(socket.EAI_AGAIN))
    assert "name servers" in (await failure_of("www.invalid")).message


async def test_a_resolver_that_hangs_is_given_up_and_counted(answer: Callable[[Any], None]) -> None:
    """The run ends in time; hung queries do not pile up without end, and nothing waits for them."""
    release = threading.Event()
    answer(release.wait)
    try:
        resolve = system_resolver(timeout_s=0.05, limit=2)
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(ProbeFailure, match="did not answer within"):
                await resolve("hung.invalid", "any")
        with pytest.raises(ProbeFailure, match="no further one is started"):
            await resolve("hung.invalid", "any")
        assert time.monotonic() - started < 2
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "name resolution")
    finally:
        release.set()


async def test_detached_calls_deliver_results_and_exceptions() -> None:
    """Both come back where the call was made."""
    detached = Detached("test", limit=1)
    assert await detached.call(lambda: 42, timeout_s=5) == 42
    with pytest.raises(ZeroDivisionError):
        await detached.call(lambda: 1 // 0, timeout_s=5)


async def test_a_cancelled_detached_call_keeps_its_slot_until_it_returns() -> None:
    """Cancelling the waiter frees nothing that is still in use."""
    detached = Detached("test", limit=1)
    release = threading.Event()
    task = asyncio.ensure_future(detached.call(release.wait, timeout_s=5))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TooManyHungCallsError):
        await detached.call(lambda: 1, timeout_s=5)
    release.set()
    for _ in range(500):
        try:
            assert await detached.call(lambda: 1, timeout_s=5) == 1
            return
        except TooManyHungCallsError:
            await asyncio.sleep(0.01)
    pytest.fail("the slot did not come back")
