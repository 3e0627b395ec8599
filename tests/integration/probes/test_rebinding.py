"""Names that lead where the policy forbids: at once, at the second time that they are asked for, by a redirect. Nothing is sent there."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator

import pytest
from integration.probes.answering import AIMS, answering, network_kinds
from integration.probes.peers import Path3
from integration.probes.webserver import WebServer

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.clock import ControllerTime, SystemClock
from worker.policy import Policy
from worker.probing import Resolved
from worker.runner import Runner

ALLOWED, FORBIDDEN = "10.91.2.7", "10.91.2.2"


class Names:
    """A resolver whose one name leads to the next address of a list each time that it is asked."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    async def resolve(self, host: str, family: str) -> Resolved:
        assert host == "rebound.test"
        return Resolved((ipaddress.ip_address(self.answers.pop(0)),), 1.0)


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def runner(names: Names) -> Runner:
    clock = SystemClock()
    return Runner(
        policy=Policy.parse({"deny": [FORBIDDEN, "127.0.0.2"], "allow_loopback": True}),
        clock=clock,
        controller_time=ControllerTime(clock),
        load=probes.load,
        resolve=names.resolve,
    )


@pytest.fixture
def watched(path3: Path3) -> Iterator[Path3]:
    """Two addresses of a host that answers everything; the near end counts what leaves for each."""
    path3.far.run("ip", "address", "add", f"{ALLOWED}/24", "dev", "sw2b")
    for address in (ALLOWED, FORBIDDEN):
        path3.near.firewall("output", f"ip daddr {address} counter")
    with path3.far.entered():
        host = answering()
        host.__enter__()
    yield path3
    host.__exit__(None, None, None)


def sent(path: Path3, address: str) -> int:
    """Return how many packets have left for an address."""
    rules = path.near.run("nft", "list", "table", "inet", "t").stdout
    found = re.search(rf"ip daddr {re.escape(address)} counter packets (\d+)", rules)
    assert found is not None, rules
    return int(found[1])


def job_of(kind: str) -> probe_pb2.Job:
    target, values = AIMS[kind]("rebound.test")
    return probe_pb2.Job(job_id=1, target=target, spec=contract.make_spec(kind, values))


def is_forbidden(result: probe_pb2.Result) -> bool:
    return (result.status, result.failure_source, result.failure_reason) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_POLICY,
        probe_pb2.FAILURE_REASON_FORBIDDEN,
    )


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_name_is_judged_by_where_it_leads_each_time(
    watched: Path3, runner: Runner, names: Names
) -> None:
    """By every kind: what was allowed a moment ago is looked at anew, and each run asks once."""
    with watched.near.entered():
        for kind in network_kinds():
            names.answers = [ALLOWED, FORBIDDEN]
            before = sent(watched, ALLOWED)
            first = await runner.run(job_of(kind), 1)
            assert first.status == probe_pb2.STATUS_OK, (kind, first.error)
            assert names.answers == [FORBIDDEN], (
                f"{kind} asked twice: what it checked may not be what it used"
            )
            assert sent(watched, ALLOWED) > before, kind
            second = await runner.run(job_of(kind), 2)
            assert is_forbidden(second), (kind, second.error)
            assert FORBIDDEN in second.error
            assert sent(watched, FORBIDDEN) == 0, kind


async def test_a_redirect_to_the_same_name_is_judged_anew(runner: Runner, names: Names) -> None:
    """The name that was allowed leads elsewhere by the time that the redirect is followed."""
    server = WebServer()
    try:
        with socket.create_server(("127.0.0.2", server.port)) as forbidden:
            forbidden.setblocking(False)
            names.answers = ["127.0.0.1", "127.0.0.2"]
            here = server.url("/", host="rebound.test")
            job = probe_pb2.Job(
                job_id=1,
                target=server.url(f"/to/302/={here}", host="rebound.test"),
                spec=contract.make_spec("http", {"timeout_ms": 2000}),
            )
            result = await runner.run(job, 1)
            assert is_forbidden(result), result.error
            assert "127.0.0.2" in result.error
            assert names.answers == []
            assert len(server.requests) == 1
            with pytest.raises(BlockingIOError):
                forbidden.accept()
    finally:
        server.close()
