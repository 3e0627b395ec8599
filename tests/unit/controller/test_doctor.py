"""Each check of the controller's doctor that needs no database, with real files and listeners."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import Issued, issue
from support.surroundings import free_addresses

from controller.doctor import authority, files, ports, processes
from controller.gateway.authority import Authority
from controller.settings import Settings
from controller.store.queries.health import ProcessRecord
from streamswarm import __version__
from streamswarm.findings import Finding, Verdict


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with an empty data folder and a database elsewhere."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return Settings(data_dir=folder, database_url="postgresql://db.example.org/x")


def _wrong(findings: list[Finding]) -> list[Finding]:
    found = [finding for finding in findings if finding.verdict is Verdict.WRONG]
    assert all(finding.mend for finding in found)
    return found


# -- files -----------------------------------------------------------------------------------------------------


def test_settings_that_contradict_are_told(settings: Settings) -> None:
    """A wildcard is no place to dial."""
    assert files.settings(settings).verdict is Verdict.OK
    found = files.settings(dataclasses.replace(settings, gateway_listen="0.0.0.0:7443"))
    assert found.verdict is Verdict.WRONG
    assert "STREAMSWARM_GATEWAY_ADDRESSES" in found.mend


def test_the_data_folder_is_judged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, open to others, and without room."""
    assert _wrong(list(files.data_folder(settings))) == []
    settings.data_dir.chmod(0o777)
    assert "other accounts" in _wrong(list(files.data_folder(settings)))[0].found
    settings.data_dir.chmod(0o700)
    usage = files.shutil.disk_usage(settings.data_dir)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=150 * 2**20))
    assert _wrong(list(files.data_folder(settings))) == []
    (found,) = _wrong(list(files.data_folder(dataclasses.replace(settings, database_url=""))))
    assert found.check == "disk"
    assert "150 MiB are free" in found.found
    monkeypatch.undo()
    settings.data_dir.rmdir()
    assert "cannot be used" in _wrong(list(files.data_folder(settings)))[0].found


# -- the certificate authority ---------------------------------------------------------------------------------


def test_no_authority_is_no_fault(settings: Settings) -> None:
    """A machine for the dashboard alone has none."""
    (found,) = authority.examine(settings)
    assert found.verdict is Verdict.UNKNOWN


def test_a_whole_authority_is_well_and_left_alone(settings: Settings) -> None:
    """It is read, and nothing is renewed or made."""
    folder = Authority(settings).folder
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    findings = list(authority.examine(settings))
    assert _wrong(findings) == []
    assert [finding.check for finding in findings] == ["CA", "CA", "CA keys"]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("days_later", "texts"),
    [
        (0, []),
        (340, ["the intermediate of gateway-1 is good until"]),
        (400, ["the intermediate of gateway-1 was good until"]),
        (3600, ["the root is good until", "the intermediate of gateway-1 was good until"]),
        (3700, ["the root was good until", "the intermediate of gateway-1 was good until"]),
        (-1, ["the root is good from", "the intermediate of gateway-1 is good from"]),
    ],
)
def test_certificates_that_end_are_told_in_time(
    settings: Settings, days_later: int, texts: list[str]
) -> None:
    """An intermediate a month, a root three months before its end."""
    Authority(settings, now=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=days_later))
    found = _wrong(list(authority.examine(settings)))
    assert len(found) == len(texts)
    for finding, text in zip(found, texts, strict=True):
        assert text in finding.found


def test_an_authority_of_two_backups_is_told(settings: Settings) -> None:
    """Another root than the one that signed, a file that is no certificate, a key that others can read."""
    folder = Authority(settings).folder
    (folder / "gateway-gateway-1.key").chmod(0o640)
    (found,) = _wrong(list(authority.examine(settings)))
    assert (found.check, found.mend) == ("CA keys", f"chmod 600 {folder / 'gateway-gateway-1.key'}")
    (folder / "gateway-gateway-1.key").chmod(0o600)
    (folder / "root.pem").write_bytes(issue("another", authority=True, days=3000).pem)
    (found,) = _wrong(list(authority.examine(settings)))
    assert "is not signed by" in found.found
    (folder / "root.pem").write_text("nothing")
    (found,) = _wrong(list(authority.examine(settings)))
    assert "is no certificate in PEM" in found.found


# -- ports -----------------------------------------------------------------------------------------------------


def _process(role: str, *, host: str = "", age_s: float = 1.0, version: str = __version__) -> ProcessRecord:
    return ProcessRecord(
        id=1,
        role=role,
        name=f"{role}-1",
        host_name=host or socket.gethostname(),
        pid=os.getpid(),
        version=version,
        started_at=dt.datetime.now(dt.UTC),
        heartbeat_age_s=age_s,
        alive=age_s < 15,
        gauges={},
    )


@contextmanager
def _serving(address: str, issued: Issued, folder: Path) -> Iterator[None]:
    """Answer TLS handshakes on an address for the length of a `with` block."""
    (folder / "chain.pem").write_bytes(issued.pem + issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem")
    host, _, port = address.rpartition(":")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    with socket.create_server((host, int(port))) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def at_ports(settings: Settings) -> Settings:
    """Settings with ports that are free."""
    gateway, enrolment, web = free_addresses(3)
    return dataclasses.replace(settings, gateway_listen=gateway, enrolment_listen=enrolment, web_listen=web)


def test_a_silent_port_is_judged_by_who_runs_where(at_ports: Settings) -> None:
    """Wrong where the process runs on this machine, well where it runs on another, else nobody can tell."""
    for running, verdict in (
        (None, Verdict.UNKNOWN),
        ([], Verdict.UNKNOWN),
        ([_process("gateway", age_s=60)], Verdict.UNKNOWN),
        ([_process("gateway", host="elsewhere")], Verdict.OK),
        ([_process("gateway")], Verdict.WRONG),
    ):
        first, second, web = ports.examine(at_ports, running)
        assert {first.verdict, second.verdict} == {verdict}, running
        assert web.verdict is Verdict.UNKNOWN


def test_the_certificate_that_a_gateway_shows_is_judged(at_ports: Settings, tmp_path: Path) -> None:
    """Fresh and from this authority; not renewed; from another; and no TLS at all."""
    folder = at_ports.data_dir / "ca"
    folder.mkdir()
    root = issue("root", authority=True, days=300)
    (folder / "root.pem").write_bytes(root.pem)
    for issued, verdict, text in (
        (issue("gateway", root, days=5), Verdict.OK, "good until"),
        (issue("gateway", root, days=0.5), Verdict.WRONG, "should have been renewed"),
        (issue("gateway", root, days=-1), Verdict.WRONG, "certificate has expired"),
        (issue("gateway", issue("other", authority=True)), Verdict.WRONG, "do not vouch for it"),
    ):
        with _serving(at_ports.gateway_listen, issued, tmp_path):
            port, found, *_ = ports.examine(at_ports, None)
        assert port.verdict is Verdict.OK
        assert (found.check, found.verdict) == ("gateway's certificate", verdict)
        assert text in found.found
    host, _, number = at_ports.gateway_listen.rpartition(":")
    with socket.create_server((host, int(number))) as plain:
        closing = threading.Thread(target=lambda: [plain.accept()[0].close() for _ in range(2)])
        closing.start()
        _, found, *_ = ports.examine(at_ports, None)
        closing.join()
    assert "no TLS 1.3" in found.found


# -- processes -------------------------------------------------------------------------------------------------


def test_processes_are_judged_by_their_heartbeats() -> None:
    """None alive, one dead beside another, another release."""
    all_well = [_process("gateway"), _process("keeper"), _process("web")]
    assert _wrong(list(processes.examine(all_well))) == []
    found = _wrong(list(processes.examine([_process("keeper"), _process("web", age_s=60)])))
    assert [finding.check for finding in found] == ["gateway", "web"]
    assert found[0].mend == "start `streamswarm gateway`"
    (found_one,) = _wrong(list(processes.examine([*all_well, _process("gateway", age_s=60)])))
    assert "died without a word" in found_one.found
    (found_one,) = _wrong(list(processes.examine([*all_well, _process("keeper", version="0.0.1")])))
    assert f"runs 0.0.1, and this is {__version__}" in found_one.found
