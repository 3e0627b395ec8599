"""When a gateway is known to be broken, and when it is only silent."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from worker.vantage import gateways
from worker.vantage.gateways import Gateways
from worker.wire.echo import EchoPlan, EchoRecord, EchoReply
from worker.wire.netlink import Hop, Link

GATEWAY = ipaddress.ip_address("192.0.2.1")
HOP = Hop(index=7, gateway=GATEWAY)
SECOND = 1_000_000


class Clock:
    """Steady time that stands still unless it is moved or slept."""

    def __init__(self) -> None:
        self.us = 1_000 * SECOND

    def steady_us(self) -> int:
        return self.us

    async def sleep(self, seconds: float) -> None:
        self.us += round(seconds * SECOND)


class Network:
    """What the kernel and the gateway would say."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.answers = True
        self.lost = False
        self.link = Link(name="eth0", mtu=1500, up=True, carrier=True, errors=0, drops=0)
        self.asked = 0
        self.may_ask = True

    async def echo(self, plan: EchoPlan) -> EchoRecord:
        assert (plan.address, plan.ttl) == (GATEWAY, 1)
        self.asked += 1
        reply = EchoReply(request=0, rtt_ns=100_000, kernel=True, ttl=64)
        return EchoRecord(
            sent=plan.count,
            refused={},
            replies=(reply,) if self.answers else (),
            errors=(),
            bytes_sent=0,
            bytes_received=0,
        )


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(gateways, "echo", network.echo)
    monkeypatch.setattr(gateways.netlink, "link", lambda index: network.link)
    monkeypatch.setattr(gateways.netlink, "is_lost", lambda hop: network.lost)
    return network


@pytest.fixture
def watched(network: Network) -> Gateways:
    clock: Any = network.clock
    return Gateways(clock, may_ask=lambda address: network.may_ask)


async def look(watched: Gateways, network: Network, *, later_s: float = 5) -> str:
    """Look again after a while, as nothing has come in since the last look."""
    since_us = network.clock.us
    network.clock.us += round(later_s * SECOND)
    return await watched.fault(HOP, since_us=since_us)


async def test_silence_after_answers_is_broken(watched: Gateways, network: Network) -> None:
    """Three looks with an answer prove that it answers; then silence means something, for as long as it lasts."""
    for _ in range(3):
        assert await look(watched, network) == ""
    network.answers = False
    for _ in range(5):
        assert await look(watched, network) == (
            "the gateway 192.0.2.1 on eth0 has stopped answering, and nothing comes through it"
        )
    network.answers = True
    assert await look(watched, network) == ""


@pytest.mark.parametrize("answers", [0, 1, 2])
async def test_silence_without_proof_is_unknown(watched: Gateways, network: Network, answers: int) -> None:
    """A gateway that has answered too seldom, or never, may not answer such requests."""
    for _ in range(answers):
        await look(watched, network)
    network.answers = False
    for _ in range(5):
        assert await look(watched, network) == ""


async def test_what_comes_through_it_shows_that_it_works(watched: Gateways, network: Network) -> None:
    """And when that goes on, its silence means nothing any more."""
    for _ in range(3):
        await look(watched, network)
    network.answers = False
    for _ in range(4):
        since_us = network.clock.us
        network.clock.us += 5 * SECOND
        watched.heard(HOP)
        assert await watched.fault(HOP, since_us=since_us) == ""
    assert await look(watched, network) == ""


async def test_answers_that_were_under_way_are_no_proof(watched: Gateways, network: Network) -> None:
    """A run that ended well just after the break does not make the gateway one that never answers."""
    for _ in range(3):
        await look(watched, network)
    network.answers = False
    since_us = network.clock.us
    network.clock.us += SECOND
    watched.heard(HOP)
    assert await watched.fault(HOP, since_us=since_us) == ""
    assert "has stopped answering" in await look(watched, network)


async def test_a_neighbour_that_is_asked_for_in_vain_needs_no_proof(
    watched: Gateways, network: Network
) -> None:
    """Whether echo requests may be sent or not."""
    network.answers, network.lost = False, True
    assert await look(watched, network) == "the gateway 192.0.2.1 on eth0 does not answer ARP requests"
    network.may_ask = False
    assert "ARP" in await look(watched, network)


async def test_a_policy_that_forbids_the_gateway_is_kept_to(watched: Gateways, network: Network) -> None:
    """Nothing is sent, and silence says nothing."""
    network.may_ask = network.answers = False
    for _ in range(5):
        assert await look(watched, network) == ""
    assert network.asked == 0


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (
            Link(name="eth0", mtu=1500, up=False, carrier=False, errors=0, drops=0),
            "the interface eth0 is switched off",
        ),
        (
            Link(name="eth0", mtu=1500, up=True, carrier=False, errors=0, drops=0),
            "the interface eth0 has no carrier",
        ),
    ],
)
async def test_an_interface_without_network(
    watched: Gateways, network: Network, link: Link, text: str
) -> None:
    """Whatever the gateway has said before."""
    network.link = link
    assert await look(watched, network) == text
    assert await watched.fault(Hop(index=7, gateway=None), since_us=0) == text


async def test_runs_that_fail_together_share_one_look(watched: Gateways, network: Network) -> None:
    """While all is well for a second, while all is broken for longer; an answer ends that at once."""
    await look(watched, network)
    await look(watched, network, later_s=0.9)
    assert network.asked == 1
    network.answers, network.lost = False, True
    assert await look(watched, network) != ""
    assert network.asked == 3
    assert await look(watched, network, later_s=2) != ""
    assert network.asked == 3
    network.answers, network.lost = True, False
    watched.heard(HOP)
    assert await look(watched, network, later_s=0) == ""
