"""Names of hops are asked for once each, and slow name servers hold nothing up."""

import threading
import time

from worker.wire.trace.names import names_of


async def test_each_address_is_asked_for_once() -> None:
    """Those without a name are left out."""
    asked: list[str] = []

    def look_up(address: str) -> str:
        asked.append(address)
        return {"192.0.2.1": "a.example"}.get(address, "")

    found = await names_of(["192.0.2.1", "192.0.2.2", "192.0.2.1"], timeout_s=5, look_up=look_up)
    assert found == {"192.0.2.1": "a.example"}
    assert sorted(asked) == ["192.0.2.1", "192.0.2.2"]


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
