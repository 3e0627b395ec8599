"""A newcomer's road from a clone: `make up`, results, `make down`, `make up` again; as root and as an ordinary user."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from support.clones import fresh_clone
from support.newcomers import Newcomer, clean_up, clone_of, first_day, stop

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=["root", "ordinary"])
def newcomer(request: pytest.FixtureRequest) -> Iterator[Newcomer]:
    """Somebody with a fresh clone: root (where the tests run as root) or an ordinary user."""
    if request.param == "root" and os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("in CI this must run as root")
        pytest.skip("starting as root needs root")
    # Folders of people have spaces in their names.
    with fresh_clone("my streamswarm" if request.param == "ordinary" else "streamswarm") as clone:
        someone = clone_of(clone, as_root=request.param == "root")
        yield someone
        clean_up(someone)


@pytest.fixture(autouse=True)
def stopped_afterwards(newcomer: Newcomer) -> Iterator[None]:
    """Nothing of a test runs on, so that the next one, or the same tried again, starts from rest."""
    yield
    stop(newcomer)


def test_a_port_in_use_stops_the_start_with_one_message(newcomer: Newcomer) -> None:
    """The first start meets a port in use: the message names it and its setting; nothing half-done stays."""
    host, _, port = newcomer.environment["STREAMSWARM_GATEWAY_LISTEN"].rpartition(":")
    with socket.socket() as sock:
        sock.bind((host, int(port)))
        sock.listen()
        done = newcomer.try_call("up")
    assert done.returncode != 0
    assert f"the gateway cannot listen on {host}:{port}" in done.stderr
    assert "STREAMSWARM_GATEWAY_LISTEN" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert newcomer.processes() == []


def test_make_up_from_an_empty_folder(newcomer: Newcomer) -> None:
    """Healthy, results, no rights that are not needed, killed parts come back, down to nothing, data kept."""
    first_day(newcomer)
