"""The worker's doctor as a person calls it, beside a daemon and a gateway: one thing is broken at a time and named."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamswarm import contract
from worker.identity import Identity, IdentityStore, make_identity, new_key, signing_request
from worker.spool.file import SpoolFile

gateways = sys.modules["worker_test_gateways"]

#: What is wrong without CAP_NET_RAW, which tests run by an ordinary user lack.
_OF_THE_ACCOUNT = () if os.geteuid() == 0 else ("rights", "kind ")


class Host:
    """A worker's folder, given to an ordinary user where the tests run as root."""

    def __init__(self, folder: Path, gateway: Any) -> None:
        self.folder = folder
        self.values = gateways.write_configuration(folder, gateway)
        if os.geteuid() == 0:
            self.values["user"] = "nobody"
        self.data.mkdir(mode=0o700)
        self.settle()

    @property
    def data(self) -> Path:
        return Path(self.values["data_dir"])

    def settle(self, **more: Any) -> Path:
        """Write the configuration and give the folder to the worker's user; returns the configuration's path."""
        path = self.folder / "worker.yaml"
        path.write_text(yaml.safe_dump({**self.values, **more}))
        if os.geteuid() == 0:
            for item in [self.folder, *self.folder.rglob("*")]:
                shutil.chown(item, "nobody")
        return path

    def enrol(self, gateway: Any, *, roots: bytes | None = None, by: Any = None, **life: float) -> Identity:
        """Put an identity in place, signed by the gateway's authority or another's."""
        key = new_key()
        chain = (by or gateway.authority).worker(signing_request(key), str(uuid.uuid4()), **life)
        identity = make_identity(
            key_pem=key,
            chain_pem=chain,
            ca_pem=roots or gateway.authority.pem,
            gateways=(gateway.address,),
        )
        IdentityStore(self.data / "identity").save(identity)
        return identity

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the daemon for the length of a `with` block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", "run", "--config", str(self.settle()),
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)

    async def examined(self, **more: Any) -> dict[str, list[str]]:
        """Return what is wrong, by check: what was found, a space, what mends it."""
        code, text = await self._doctor(self.settle(**more), "--json")
        found: dict[str, list[str]] = {}
        for finding in json.loads(text)["findings"]:
            if finding["verdict"] == "wrong":
                assert finding["mend"]
                found.setdefault(finding["check"], []).append(f"{finding['found']} {finding['mend']}")
        assert code == (1 if found else 0)
        return {name: texts for name, texts in found.items() if not name.startswith(_OF_THE_ACCOUNT or "-")}

    async def printed(self) -> str:
        """Return what people see."""
        return (await self._doctor(self.settle()))[1]

    async def _doctor(self, *words: Any) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", "doctor", "--config", *map(str, words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert errors == b""
        return process.returncode, output.decode()


@pytest.fixture
def host(gateway: Any) -> Iterator[Host]:
    """A host that is not enrolled yet."""
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-doctor-"))
    yield Host(folder, gateway)
    shutil.rmtree(folder)


async def test_a_worker_that_is_well(host: Host, gateway: Any, until: Callable[..., Any]) -> None:
    """Nothing is wrong; every check is there; the daemon's session, its spool's files and its lock are left alone."""
    async with host.daemon() as process:
        await until(lambda: gateway.heartbeats, timeout_s=20)
        before = sorted(item.name for item in host.data.iterdir())
        assert await host.examined() == {}
        shown = await host.printed()
        assert process.returncode is None
        assert len(gateway.hellos) == 1, "no session was begun beside the daemon's"
        assert gateway.sessions == 1
        assert sorted(item.name for item in host.data.iterdir()) == before
        if os.geteuid() == 0:
            owners = {item.owner() for item in host.data.rglob("*")}
            assert owners == {"nobody"}
    lines = shown.splitlines()
    for check in (
        "configuration",
        "policy",
        "identity",
        "certificate",
        "CA file",
        "data folder",
        "spool",
        "daemon",
    ):
        assert any(line.startswith(f"ok       {check} ") for line in lines), check
    for text in ("answers on TCP", "the pinned CA vouches for", "takes this worker's certificate"):
        assert any(text in line for line in lines), text
    assert f"process {process.pid} runs" in shown
    assert "the controller's, as the last session told" in shown
    assert sum(line.split()[1:2] == ["kind"] for line in lines) == len(contract.kinds())


async def test_a_configuration_that_is_wrong(host: Host) -> None:
    """Its key is named, and nothing else is guessed at."""
    found = await host.examined(colour="red")
    assert list(found) == ["configuration"]
    assert "unknown key `colour`" in found["configuration"][0]


async def test_a_policy_that_is_wrong(host: Host, gateway: Any) -> None:
    """It forbids everything, and the doctor says so first."""
    host.enrol(gateway)
    (host.folder / "policy.yaml").write_text("kinds: [telepathy]\n")
    found = await host.examined()
    assert set(found) == {"policy", "daemon"}
    assert "`telepathy` is no kind" in found["policy"][0]


async def test_a_gateway_that_is_down(host: Host, gateway: Any) -> None:
    """Nothing listens: that is told, and not taken for TLS."""
    host.enrol(gateway)
    await gateway.stop()
    found = await host.examined()
    assert set(found) == {f"gateway {gateway.address}", "daemon"}
    assert "the connection is refused" in found[f"gateway {gateway.address}"][0]


async def test_a_port_that_is_no_gateways(host: Host, gateway: Any) -> None:
    """Something answers on TCP that speaks no TLS."""
    host.enrol(gateway)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen(8)
        address = f"127.0.0.1:{server.getsockname()[1]}"

        async def close_at_once() -> None:
            server.setblocking(False)
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(server)
                connection.close()

        closing = asyncio.ensure_future(close_at_once())
        found = await host.examined(gateways=[address])
        closing.cancel()
    assert "no TLS 1.3 there" in found[f"gateway {address}"][0]


async def test_a_gateway_of_another_authority(host: Host, gateway: Any) -> None:
    """Neither the gateway's certificate nor the worker's own is signed by the root that the worker has."""
    host.enrol(gateway, roots=gateways.Authority().pem)
    found = await host.examined()
    assert set(found) == {"certificate", f"gateway {gateway.address}", "daemon"}
    assert "the pinned CA does not vouch" in found[f"gateway {gateway.address}"][0]


async def test_a_worker_of_another_authority(host: Host, gateway: Any) -> None:
    """The gateway is good, and refuses the worker's certificate: no session could begin."""
    other = gateways.Authority()
    host.enrol(gateway, by=other, roots=gateway.authority.pem + other.pem)
    found = await host.examined()
    assert set(found) == {f"gateway {gateway.address}", "daemon"}
    assert "does not take this worker's certificate" in found[f"gateway {gateway.address}"][0]


async def test_a_gateway_under_another_name(host: Host, gateway: Any) -> None:
    """The names that it has are told."""
    host.enrol(gateway)
    address = f"localhost:{gateway.port}"
    found = await host.examined(gateways=[address])
    assert "is for 127.0.0.1, not for localhost" in found[f"gateway {address}"][0]


async def test_a_certificate_that_has_expired(host: Host, gateway: Any) -> None:
    """The way to mend it is another enrolment."""
    host.enrol(gateway, life_s=-10.0, age_s=100.0)
    found = await host.examined()
    assert "it was good until" in found["certificate"][0]
    assert "enrol" in found["certificate"][0]


async def test_a_worker_that_never_enrolled(host: Host, gateway: Any) -> None:
    """The enrolment listener is looked at instead of the gateways."""
    (host.folder / "token").unlink()
    found = await host.examined()
    assert set(found) == {"identity", "daemon"}
    shown = await host.printed()
    assert f"enrolment 127.0.0.1:{gateway.enrolment_port}" in shown
    assert "vouches for" in shown


async def test_a_clock_that_is_wrong(host: Host, gateway: Any, until: Callable[..., Any]) -> None:
    """The controller's clock is ten minutes ahead of this host's: the session has told, the daemon has kept it."""
    gateway.clock_ahead_us = 600_000_000
    async with host.daemon():
        await until(lambda: gateway.heartbeats, timeout_s=20)
        found = await host.examined()
    assert set(found) == {"clock"}
    assert "600." in found["clock"][0]
    assert "behind the controller's" in found["clock"][0]


async def test_results_that_are_not_delivered(
    host: Host, gateway: Any, make_job: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """A gateway that does not acknowledge is seen by what waits; so is a spool that is damaged."""
    gateway.hold_acks = True
    gateway.jobs = [make_job()]
    async with host.daemon():
        await until(lambda: len(gateway.stored) > 3, timeout_s=20)
        shown = await host.printed()
    (line,) = [line for line in shown.splitlines() if line.split()[1:2] == ["spool"]]
    assert int(line.split()[2]) > 3
    SpoolFile.open(host.data / "spool.sqlite").close()
    (host.data / "spool.sqlite").write_bytes(b"\0" * 8192)
    assert "is damaged" in (await host.examined())["spool"][0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
async def test_a_data_folder_that_the_worker_may_not_write(host: Host, gateway: Any) -> None:
    """Root looks as the worker's user does."""
    host.enrol(gateway)
    path = host.settle()
    shutil.chown(host.data, "root")
    host.data.chmod(0o755)
    _, text = await host._doctor(path, "--json")
    wrong = {each["check"]: each for each in json.loads(text)["findings"] if each["verdict"] == "wrong"}
    assert "cannot be written by the worker's user" in wrong["data folder"]["found"]
