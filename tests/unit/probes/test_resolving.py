"""The default resolver and the threads below it. No query leaves this machine."""

import asyncio
import errno
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


async def test_an_ipv4_address_in_an_ipv6_one_is_what_it_stands_for(
    answer: Callable[[Callable[[], Any]], None],
) -> None:
    """As a destination and as what a name has: systems send IPv4 there, so a test for IPv6 does not take it."""
    mapped = "::ffff:192.0.2.1"
    plain = (ipaddress.ip_address("192.0.2.1"),)
    assert (await system_resolver()(mapped, "any")).addresses == plain
    assert "IPv6" in (await failure_of(mapped, "ipv6")).message
    answer(lambda: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (mapped, 0, 0, 0))])
    assert (await system_resolver()("a.test", "any")).addresses == plain
    assert "has no IPv6 address" in (await failure_of("a.test", "ipv6")).message


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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"),
    ],
)
async def test_a_host_without_room_to_ask_blames_no_name_server(
    answer: Callable[[Any], None], error: Exception
) -> None:
    """The C library hands on what the kernel said."""

    def raise_it() -> None:
        raise error

    answer(raise_it)
    with pytest.raises(ProbeFailure, match=r"no room to resolve `www.invalid`") as caught:
        await system_resolver()("www.invalid", "any")
    failure = caught.value
    assert (failure.source, failure.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_ROOM,
    )  # fmt: skip


async def test_a_host_without_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is run in one is not run, and its slot is free again."""
    detached = Detached("test", limit=1)

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(OSError, match="no further thread") as caught:
            await detached.call(lambda: 1, timeout_s=1)
        assert caught.value.errno == errno.ENOMEM
    assert await detached.call(lambda: 1, timeout_s=1) == 1


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
        await detached.call(lambda: 1, timeout_s=0.02)
    release.set()
    assert await detached.call(lambda: 1, timeout_s=5) == 1


async def test_detached_calls_beyond_the_limit_wait_for_a_slot() -> None:
    """In the order in which they came, and never more than the limit at a time."""
    detached = Detached("test", limit=2)
    under_way: list[int] = []
    most: list[int] = []

    def work(number: int) -> int:
        under_way.append(number)
        most.append(len(under_way))
        time.sleep(0.005)
        under_way.remove(number)
        return number

    calls = [detached.call(lambda number=number: work(number), timeout_s=5) for number in range(20)]  # type: ignore[misc]
    assert await asyncio.gather(*calls) == list(range(20))
    assert max(most) == 2


async def test_a_slot_that_is_handed_to_one_who_gave_up_is_passed_on() -> None:
    """A waiting call that is cancelled, before its slot comes or with it, costs no slot."""
    detached = Detached("test", limit=1)
    for slot_first in (False, True):
        release = threading.Event()
        holder = asyncio.ensure_future(detached.call(release.wait, timeout_s=5))
        await asyncio.sleep(0.01)
        waiter = asyncio.ensure_future(detached.call(lambda: 1, timeout_s=5))
        await asyncio.sleep(0.01)
        if slot_first:
            release.set()
            time.sleep(0.05)  # the slot is handed over while this loop does not look
        waiter.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await holder
        assert await detached.call(lambda: 2, timeout_s=5) == 2


async def test_a_burst_of_names_waits_for_its_turn(answer: Callable[[Any], None]) -> None:
    """A resolver that takes its time for many names at once is no broken one."""

    def take_a_while() -> list[Any]:
        time.sleep(0.02)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 0))]

    answer(take_a_while)
    resolve = system_resolver(limit=8)
    found = await asyncio.gather(*(resolve(f"host{number}.invalid", "any") for number in range(40)))
    assert {one.addresses for one in found} == {(ipaddress.ip_address("192.0.2.1"),)}
