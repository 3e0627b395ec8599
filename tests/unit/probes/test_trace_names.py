"""Names of hops are asked for once each, and slow name servers hold nothing up."""

import socket
import threading
import time

import pytest

from worker.wire.trace.names import look_up, names_of


async def test_each_address_is_asked_for_once() -> None:
    """Those without a name are left out."""
    asked: list[str] = []

    def look_up(address: str) -> str:
        asked.append(address)
        return {"192.0.2.1": "a.example"}.get(address, "")

    found = await names_of(["192.0.2.1", "192.0.2.2", "192.0.2.1"], timeout_s=5, look_up=look_up)
    assert found == {"192.0.2.1": "a.example"}
    assert sorted(asked) == ["192.0.2.1", "192.0.2.2"]


async def test_a_name_that_is_no_text_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system has for an address may be any bytes, and must not cost the trace; what it has is shown safely."""

    def answer(address: tuple[str, int], _flags: int) -> tuple[str, str]:
        if address[0] == "192.0.2.1":
            return b"caf\xe9.example".decode(), "0"
        return "a\x1b[2J.example", "0"

    monkeypatch.setattr(socket, "getnameinfo", answer)
    found = await names_of(["192.0.2.1", "192.0.2.2"], timeout_s=5, look_up=look_up)
    assert found == {"192.0.2.2": r"a\x1b[2J.example"}


async def test_many_names_take_no_longer_than_a_few() -> None:
    """Those for whose look-ups there is no room at once do not wait as long again."""
    released = threading.Event()

    def look_up(_address: str) -> str:
        released.wait(0.9)
        return "name.example"

    addresses = [f"192.0.2.{number}" for number in range(200)]
    started = time.monotonic()
    found = await names_of(addresses, timeout_s=1.0, look_up=look_up)
    assert time.monotonic() - started < 1.6
    assert len(found) <= 64
    released.set()  # those under way go on by themselves, and give their room back
    assert await names_of(["192.0.2.1"], timeout_s=5, look_up=look_up) == {"192.0.2.1": "name.example"}


async def test_slow_name_servers_are_not_waited_for() -> None:
    """What came in time is kept."""
    released = threading.Event()

    def look_up(address: str) -> str:
        if address == "192.0.2.2":
            released.wait(10)
        return "name.example"

    started = time.monotonic()
    try:
        found = await names_of(["192.0.2.1", "192.0.2.2"], timeout_s=0.2, look_up=look_up)
    finally:
        released.set()
    assert found == {"192.0.2.1": "name.example"}
    assert time.monotonic() - started < 5
