"""A broken vantage point is told as such, whatever a run aims at; a broken destination stays one."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dns.message
import dns.rcode
import pytest
from integration.probes.answering import AIMS, answering
from integration.probes.peers import Namespace, Path3, to_both

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.clock import ControllerTime, SystemClock
from worker.failures import resolver_failure
from worker.policy import Policy
from worker.probing import IPAddress, Resolved
from worker.runner import Runner
from worker.vantage.health import Vantage
from worker.vantage.pressure import Pressure
from worker.wire import netlink
from worker.wire.netlink import Hop

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True),
]
Run = Callable[..., Any]


class Ahead(SystemClock):
    """This host's clocks, with time that passes without anybody waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self._ahead_us

    def steady_us(self) -> int:
        return super().steady_us() + self._ahead_us

    def let_pass(self, seconds: float) -> None:
        """Be so much later."""
        self._ahead_us += round(seconds * 1e6)


@pytest.fixture
def clock() -> Ahead:
    """The clock of worker and vantage point."""
    return Ahead()


@pytest.fixture
def servers() -> list[IPAddress]:
    """The host's name servers; a test fills them in."""
    return []


@pytest.fixture
def vantage(servers: list[IPAddress], clock: Ahead, monkeypatch: pytest.MonkeyPatch) -> Vantage:
    """Looks at the network alone: this machine may be as busy as it is."""
    monkeypatch.setattr(Pressure, "look", lambda self, interfaces: {})
    return Vantage(clock, Policy(), servers=lambda: tuple(servers))


@pytest.fixture
def run(vantage: Vantage, clock: Ahead) -> Run:
    """Return a function that runs a kind once, on a host whose name servers do not answer."""

    async def resolve(host: str, family: str) -> Resolved:
        address = contract.parse_target(contract.kind("ping"), host).host
        try:
            return Resolved(addresses=(ipaddress.ip_address(address),), elapsed_ms=None)
        except ValueError:
            raise resolver_failure(f"`{host}`: this host's resolver did not answer") from None

    runner = Runner(
        policy=Policy(allow_loopback=True),
        clock=clock,
        controller_time=ControllerTime(clock),
        load=probes.load,
        resolve=resolve,
        vantage=vantage,
    )

    async def once(kind: str, host: str, **values: Any) -> probe_pb2.Result:
        target, short = AIMS[kind](host)
        spec = contract.make_spec(kind, {**short, **values})
        return await runner.run(probe_pb2.Job(job_id=1, target=target, spec=spec), 1)

    return once


@pytest.fixture
def far(path3: Path3) -> Iterator[Path3]:
    """The path, with a host at its far end that answers everything."""
    with path3.far.entered():
        host = answering()
        host.__enter__()
    yield path3
    host.__exit__(None, None, None)


async def prove(run: Run, vantage: Vantage, clock: Ahead, address: str) -> None:
    """Have the gateway answer, as it does while all is well."""
    for _ in range(3):
        assert (await run("ping", address)).status == probe_pb2.STATUS_OK
        await vantage.look()
        await vantage.look()  # runs come more rarely than looks
        clock.let_pass(1.1)  # a verdict is good for a second
    assert vantage.alarm == ""


def is_broken(result: probe_pb2.Result, text: str) -> bool:
    """Check that a run was told as this host's own trouble."""
    assert text in result.error, result.error
    assert result.status == probe_pb2.STATUS_ERROR
    assert result.failure_source == probe_pb2.FAILURE_SOURCE_VANTAGE
    return bool(result.failure_reason == probe_pb2.FAILURE_REASON_VANTAGE_BROKEN)


def is_of_the_network(result: probe_pb2.Result) -> bool:
    """Check that a run was told as the network's trouble."""
    assert result.status == probe_pb2.STATUS_FAILED, result.error
    return bool(result.failure_source == probe_pb2.FAILURE_SOURCE_NETWORK)


@to_both(
    "gateway", "how", ipv4=("10.91.1.2/24", "ARP requests"), ipv6=("fd91:1::2/64", "neighbour solicitations")
)
async def test_a_gateway_that_is_gone(
    far: Path3, run: Run, vantage: Vantage, address: str, gateway: str, how: str
) -> None:
    """The kernel asks for it in vain: at the first failure, without any history; metrics are kept."""
    far.router.run("ip", "address", "delete", gateway, "dev", "sw1b")
    far.near.run("ip", "neigh", "flush", "dev", "sw1a")
    with far.near.entered():
        result = await run("ping", address)
        assert is_broken(result, f"the gateway {gateway.partition('/')[0]} on sw1a does not answer {how}")
        assert result.ping.loss_pct == 100
        assert json.loads(result.detail_json)["address"] == address
        assert "sw1a" in vantage.alarm
        for kind in ("tcp", "dns", "http"):
            assert is_broken(await run(kind, address), "does not answer"), kind
        # What must not get through proves nothing either.
        assert is_broken(await run("tcp", address, must_be_unreachable=True), "does not answer")


@to_both(ipv4=(), ipv6=())
async def test_a_gateway_that_hands_nothing_on(
    far: Path3, run: Run, vantage: Vantage, clock: Ahead, address: str
) -> None:
    """It answers ARP, and neither echo requests, as it has until now, nor anything beyond."""
    with far.near.entered():
        await prove(run, vantage, clock, address)
        for hook in ("input", "forward"):
            # The gateway's neighbour discovery goes on.
            allowed = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
            far.router.firewall(hook, f"iifname sw1b {allowed} accept")
            far.router.firewall(hook, "iifname sw1b drop")
        for kind in ("ping", "tcp", "dns", "http"):
            result = await run(kind, address)
            assert is_broken(result, "has stopped answering, and nothing comes through it"), kind
        far.router.run("nft", "delete", "table", "inet", "t")
        assert (await run("ping", address)).status == probe_pb2.STATUS_OK
        await vantage.look()
        assert vantage.alarm == ""


async def test_a_cable_that_is_out(far: Path3, run: Run, vantage: Vantage) -> None:
    """No carrier explains everything that goes by that interface."""
    far.router.run("ip", "link", "set", "sw1b", "down")
    with far.near.entered():
        assert is_broken(await run("ping", "10.91.2.2"), "the interface sw1a has no carrier")
        assert is_broken(await run("ping", "10.91.1.9"), "the interface sw1a has no carrier")
        for _ in range(3):  # also while nobody runs anything
            await vantage.look()
            assert vantage.alarm == "the interface sw1a has no carrier"


@to_both(ipv4=(), ipv6=())
async def test_a_destination_that_is_cut_off_behind_a_gateway_that_works(
    far: Path3, run: Run, vantage: Vantage, clock: Ahead, address: str
) -> None:
    """Silence and a router's error both stay the network's."""
    with far.near.entered():
        await prove(run, vantage, clock, address)
        far.router.firewall("forward", "drop")
        for kind in ("ping", "tcp", "dns", "http"):
            assert is_of_the_network(await run(kind, address)), kind
        far.router.run("nft", "delete", "table", "inet", "t")
        far.router.firewall("forward", "reject with icmpx admin-prohibited")
        assert is_of_the_network(await run("ping", address))
        assert vantage.alarm == ""


async def test_a_gateway_that_never_answers_is_not_known_to_be_broken(
    far: Path3, run: Run, vantage: Vantage
) -> None:
    """Many do not answer echo requests: their silence says nothing."""
    far.router.firewall("input", "icmp type echo-request drop")
    with far.near.entered():
        for _ in range(3):
            assert (await run("ping", "10.91.2.2")).status == probe_pb2.STATUS_OK
            await vantage.look()
        far.router.firewall("forward", "drop")
        assert is_of_the_network(await run("ping", "10.91.2.2"))
        assert vantage.alarm == ""


async def test_what_does_not_go_by_the_gateway_is_judged_by_itself(
    far: Path3, run: Run, vantage: Vantage
) -> None:
    """A neighbour that is not there, and a port of this host that nobody listens on, while the gateway is gone."""
    far.router.run("ip", "address", "delete", "10.91.1.2/24", "dev", "sw1b")
    far.near.run("ip", "neigh", "flush", "dev", "sw1a")
    with far.near.entered():
        assert is_broken(await run("ping", "10.91.2.2"), "ARP")
        assert is_of_the_network(await run("ping", "10.91.1.99"))
        refused = await run("tcp", "127.0.0.1")
        assert refused.failure_reason == probe_pb2.FAILURE_REASON_REFUSED
        assert refused.status == probe_pb2.STATUS_FAILED


async def test_name_servers_that_do_not_answer_at_all(
    far: Path3, run: Run, vantage: Vantage, clock: Ahead, servers: list[IPAddress]
) -> None:
    """Reachable hosts without a name server on them, then one that answers, then one that only fails."""
    servers.append(ipaddress.ip_address("10.91.2.2"))
    with far.near.entered():
        result = await run("tcp", "www.example.test")
        assert result.failure_source == probe_pb2.FAILURE_SOURCE_RESOLVER
        assert "none of its name servers (10.91.2.2) answers" in vantage.alarm
    for rcode, alive in ((dns.rcode.NOERROR, True), (dns.rcode.SERVFAIL, False)):
        clock.let_pass(2.1)  # a verdict is good for two seconds
        with name_server(far.far, rcode), far.near.entered():
            result = await run("tcp", "www.example.test")
            assert result.failure_source == probe_pb2.FAILURE_SOURCE_RESOLVER
            assert ("not even for the root" in vantage.alarm) is not alive


async def test_a_host_without_a_name_server(far: Path3, run: Run, vantage: Vantage, clock: Ahead) -> None:
    """Its own want; where none is named the C library asks this host, and one that answers here is as good."""
    with far.near.entered():
        assert is_broken(
            await run("tcp", "www.example.test"), "names no name server, and none answers on this host"
        )
        assert "names no name server" in vantage.alarm
    clock.let_pass(2.1)
    with name_server(far.near, dns.rcode.NOERROR, "127.0.0.1"), far.near.entered():
        result = await run("tcp", "www.example.test")
    assert result.failure_source == probe_pb2.FAILURE_SOURCE_RESOLVER
    assert vantage.alarm == ""


async def test_name_servers_behind_a_gateway_that_is_gone(
    far: Path3, run: Run, servers: list[IPAddress]
) -> None:
    """The gateway is named, for it is what needs mending."""
    servers.append(ipaddress.ip_address("10.91.2.2"))
    far.router.run("ip", "address", "delete", "10.91.1.2/24", "dev", "sw1b")
    far.near.run("ip", "neigh", "flush", "dev", "sw1a")
    with far.near.entered():
        assert (await run("ping", "10.91.2.2")).status == probe_pb2.STATUS_ERROR
        assert is_broken(
            await run("tcp", "www.example.test"), "can be reached: the gateway 10.91.1.2 on sw1a"
        )


def test_the_kernel_tells_what_iproute2_tells(path3: Path3) -> None:
    """Routes, links and neighbours, beside `ip`."""
    near = path3.near
    near.run("ip", "neigh", "replace", "10.91.1.77", "dev", "sw1a", "nud", "failed")
    near.run("ip", "route", "add", "unreachable", "10.98.0.0/16")
    with near.entered():
        index = socket.if_nametoindex("sw1a")
        for target in ("10.91.2.2", "10.91.1.2", "fd91:2::2", "fd91:1::2"):
            told = json.loads(near.run("ip", "-j", "route", "get", target).stdout)[0]
            hop = netlink.first_hop(ipaddress.ip_address(target))
            assert hop is not None
            assert socket.if_indextoname(hop.index) == told["dev"]
            assert (None if hop.gateway is None else str(hop.gateway)) == told.get("gateway")
        assert netlink.first_hop(ipaddress.ip_address("10.91.1.1")) is None
        assert netlink.first_hop(ipaddress.ip_address("::1")) is None
        assert netlink.first_hop(ipaddress.ip_address("10.91.2.2"), index=index) == Hop(
            index=index, gateway=ipaddress.ip_address("10.91.1.2")
        )
        with pytest.raises(OSError, match="No route to host"):
            netlink.first_hop(ipaddress.ip_address("10.98.0.1"))
        told = json.loads(near.run("ip", "-j", "-s", "link", "show", "sw1a").stdout)[0]
        link = netlink.link(index)
        assert (link.name, link.up, link.carrier) == ("sw1a", True, "LOWER_UP" in told["flags"])
        assert link.errors == told["stats64"]["rx"]["errors"] + told["stats64"]["tx"]["errors"]
        with pytest.raises(OSError, match="device"):
            netlink.link(9999)
        assert netlink.is_lost(Hop(index=index, gateway=ipaddress.ip_address("10.91.1.77")))
        assert not netlink.is_lost(Hop(index=index, gateway=ipaddress.ip_address("10.91.1.2")))
        assert not netlink.is_lost(Hop(index=index, gateway=ipaddress.ip_address("10.91.1.78")))
        assert not netlink.is_lost(Hop(index=index, gateway=None))


@contextlib.contextmanager
def name_server(where: Namespace, rcode: dns.rcode.Rcode, address: str = "10.91.2.2") -> Iterator[None]:
    """Answer every question on port 53 of a namespace with the same response code."""
    with where.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((address, 53))

        def serve() -> None:
            while True:
                data, address = sock.recvfrom(4096)
                if not data:
                    return
                answer = dns.message.make_response(dns.message.from_wire(data))
                answer.set_rcode(rcode)
                sock.sendto(answer.to_wire(), address)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            # On Linux this wakes whoever reads, although it complains that the socket is not connected.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()
