"""A search for the path MTU takes no longer, and sends no more, than it says beforehand, whatever the path does."""

from __future__ import annotations

import ipaddress
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1.probes.mtu_pb2 import MtuResult
from worker.probes import mtu
from worker.probing import ProbeFailure
from worker.wire.source import BY_ROUTES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="path MTU is measured on Linux alone")

#: Says what becomes of a packet of a size, by its number: `passed`, `silent` or the MTU that a router names for it.
Script = Callable[[int, int, int], Any]


class Path:
    """A path without a network, whose time goes by as packets are waited for."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.taken_s = 0.0
        self.packets_sent = self.packets_received = self.bytes_sent = self.bytes_received = 0
        #: What the search found.
        self.metrics = MtuResult()

    def kernel_mtu(self) -> None:
        return None

    async def send(self, size: int, *, ttl: int = 64, wait_s: float) -> Any:
        from worker.wire.unfragmented import Verdict

        fate = self._script(self.packets_sent, size, ttl)
        self.packets_sent += 1
        self.bytes_sent += size
        # Whatever comes, it comes as late as it may.
        self.taken_s += wait_s
        if fate == "silent":
            return Verdict(fate="silent")
        self.packets_received += 1
        self.bytes_received += size
        if fate == "passed":
            return Verdict(fate="passed", reporter="192.0.2.1", rtt_ms=wait_s * 1000)
        if fate == "expired":
            return Verdict(fate="expired", reporter="192.0.2.9")
        return Verdict(fate="too_big", reporter="192.0.2.9", mtu=fate)


def a_black_hole(number: int, size: int, ttl: int) -> Any:
    """Every second packet is lost, of those that are not too large."""
    if ttl < 64:
        return "expired" if number % 2 else "silent"
    return "passed" if size <= 700 and number % 2 else "silent"


def one_that_dies(number: int, size: int, _ttl: int) -> Any:
    """Nothing is answered any more, once the limit is found."""
    return "passed" if size <= 700 and number < 40 else "silent"


def one_that_widens(number: int, size: int, _ttl: int) -> Any:
    """What vanished passes, each time that it is confirmed."""
    return "passed" if size <= 68 + number else "silent"


def a_lie(_number: int, size: int, _ttl: int) -> Any:
    """A router names ever the next smaller size, for which it does the same."""
    return "passed" if size <= 68 else size - 1


def by_chance(seed: int) -> Script:
    """Anything, at any time."""
    chance = random.Random(seed)
    largest = 68

    def script(_number: int, size: int, ttl: int) -> Any:
        nonlocal largest
        if ttl < 64:
            return chance.choice(["expired", "silent"])
        if size <= 68:
            return chance.choice(["passed", "passed", "silent"])
        fate = chance.choice(["passed", "silent", largest + 1, size - 1, None])
        largest = max(largest, size) if fate == "passed" else largest
        return fate

    return script


async def searched(monkeypatch: pytest.MonkeyPatch, script: Script, **values: Any) -> tuple[Path, Any]:
    """Search a path; return it and the finding, None where the host was not reached or carries too little."""
    spec = contract.make_spec("mtu", values).mtu
    detail: dict[str, Any] = {}
    monkeypatch.setattr(mtu.netlink, "outgoing_link", lambda *_, **__: None)
    run = mtu._Run(ipaddress.ip_address("192.0.2.1"), spec, detail, BY_ROUTES)
    path = Path(script)
    path.metrics = run.metrics
    run._prober = path  # type: ignore[assignment]  # as much of a prober as is used
    try:
        await run.measure()
    except ProbeFailure:
        return path, None
    need = mtu.need(spec)
    assert path.taken_s <= mtu.duration_s(spec)
    assert path.packets_sent <= need.packets
    assert path.bytes_sent + path.bytes_received <= need.size
    return path, detail["finding"]


@pytest.mark.parametrize("script", [a_black_hole, one_that_dies, one_that_widens, a_lie])
@pytest.mark.parametrize("tries", [2, 3, 10])
@pytest.mark.parametrize("locate", [True, False])
async def test_it_ends_as_it_says(
    monkeypatch: pytest.MonkeyPatch, script: Script, tries: int, *, locate: bool
) -> None:
    """Paths that hold a search up, each in its own way."""
    path, _ = await searched(monkeypatch, script, tries=tries, locate=locate, max_size_bytes=9_000)
    assert path.packets_sent > 20


async def test_it_ends_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For four hundred paths on which everything is left to chance."""
    found = [
        (
            await searched(
                monkeypatch,
                by_chance(seed),
                tries=2 + seed % 4,
                confirmations=1 + seed % 5,
                max_size_bytes=1_500,
            )
        )[1]
        for seed in range(400)
    ]
    assert any(found)


async def test_an_honest_path_has_its_limit_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Black holes of all sizes, and reports above or below them: no search of one is given up."""
    for limit in range(68, 9_000, 331):
        for hole in (limit + 1, limit + 200, 20_000):

            def script(_number: int, size: int, ttl: int, limit: int = limit, hole: int = hole) -> Any:
                if ttl < 64:
                    return "silent" if ttl % 3 else "expired"
                return "silent" if size >= hole else "passed" if size <= limit else limit

            _, finding = await searched(
                monkeypatch, script, tries=10, confirmations=10, max_size_bytes=65_535
            )
            assert finding is not None
            assert "given up" not in finding


async def test_a_search_that_is_given_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed is told, and nothing is called a limit."""
    path, finding = await searched(
        monkeypatch, one_that_dies, tries=2, confirmations=10, max_size_bytes=9_000
    )
    assert finding is not None
    assert finding.startswith("the path carries ")
    assert finding.endswith("at least; what larger ones met changed so often that the search was given up")
    for name in ("path_mtu_bytes", "black_hole", "black_hole_bytes", "reported_mtu_bytes", "limit_hop"):
        assert not path.metrics.HasField(name)
    assert path.metrics.HasField("confirmed")
    assert not path.metrics.confirmed
