"""What disturbs measurements on this host: found where the system tells it, and nothing where it does not."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from worker.vantage import pressure
from worker.vantage.pressure import Pressure
from worker.wire.netlink import Link

Times = namedtuple("Times", ["user", "idle", "steal", "guest"])


class Clock:
    us = 0

    def steady_us(self) -> int:
        return self.us


class Host:
    """Counters that a test moves on."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.times: Any = Times(user=100.0, idle=100.0, steal=10.0, guest=50.0)
        self.errors = 5
        self.file = folder / "cpu"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(pressure.psutil, "cpu_times", lambda: host.times)
    monkeypatch.setattr(pressure, "_PRESSURE", host.file)

    def link(index: int) -> Link:
        return Link(name=f"eth{index}", mtu=1500, up=True, carrier=True, errors=host.errors, drops=0)

    monkeypatch.setattr(pressure.netlink, "link", link)
    return host


def looks(host: Host) -> tuple[Pressure, dict[str, str]]:
    clock: Any = host.clock
    watching = Pressure(clock)
    return watching, watching.look([0])


def test_the_first_look_has_nothing_to_compare_with(host: Host) -> None:
    """Counters since the boot say nothing about now."""
    assert looks(host)[1] == {}


def test_a_processor_that_is_taken_away(host: Host) -> None:
    """A share of all time since the last look; guests are in user already."""
    watching, _ = looks(host)
    host.clock.us += 5_000_000
    host.times = Times(user=103.0, idle=103.0, steal=14.0, guest=53.0)
    assert watching.look([0]) == {"steal": "the hypervisor takes 40 % of the processor time away"}
    host.clock.us += 5_000_000
    host.times = Times(user=107.0, idle=108.0, steal=15.0, guest=53.0)
    assert watching.look([0]) == {}


def test_a_system_that_does_not_tell_steal(host: Host) -> None:
    """Unknown is not broken."""
    plain = namedtuple("plain", ["user", "idle"])
    host.times = plain(1.0, 1.0)
    watching, _ = looks(host)
    host.clock.us += 5_000_000
    assert watching.look([0]) == {}


def test_errors_of_an_interface_that_runs_go_by(host: Host) -> None:
    """A rate, so that what happened long ago is over; another interface begins anew."""
    watching, _ = looks(host)
    host.clock.us += 5_000_000
    host.errors += 50
    assert watching.look([0, 1]) == {"errors of eth0": "the interface eth0 counts 10 errors per second"}
    host.clock.us += 5_000_000
    assert watching.look([0, 1]) == {}


@pytest.mark.parametrize(("share", "wrong"), [("12.50", False), ("81.00", True)])
def test_programs_that_wait_for_a_processor(host: Host, share: str, wrong: bool) -> None:
    """By the kernel's pressure stall information."""
    host.file.write_text(
        f"some avg10=99.00 avg60={share} avg300=0.00 total=1\nfull avg10=0.00 avg60=99.00 avg300=0.00 total=0\n"
    )
    expected = {"queue": "programs waited for a processor in 81 % of the last minute"} if wrong else {}
    assert looks(host)[1] == expected
