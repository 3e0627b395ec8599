"""What the worker tells systemd."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from worker import notify


def _listener(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
    sock.settimeout(5)
    return sock


@pytest.mark.parametrize("abstract", [False, True])
def test_the_line_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    """At a socket in the file system, and at one in the abstract namespace."""
    address = f"@streamswarm-{secrets.token_hex(4)}" if abstract else str(tmp_path / "notify")
    with _listener(address) as sock:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify.tell("connected as host1, version 1.0")
        assert sock.recv(1000) == b"STATUS=connected as host1, version 1.0"


def test_a_text_makes_one_line_and_no_other_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway's words cannot tell systemd anything else."""
    with _listener(str(tmp_path / "notify")) as sock:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify.tell("not connected: bye\nMAINPID=1\n" + "x" * 1000)
        said = sock.recv(5000)
    assert b"\n" not in said
    assert len(said) < 300


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/nobody/listens/here"])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """No variable, one of a sort that is not understood, or nobody there."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.tell("connected")
