"""A client that does not read what it is sent holds a thread of the server for a while only."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest

from controller.settings import Settings
from web.serve import listen


def test_what_nobody_reads_ends_the_connection(settings: Settings) -> None:
    """Sending to a client whose window stays closed fails in the end, instead of waiting for ever."""
    with (
        listen(replace(settings, web_listen="127.0.0.1:0"), unread_s=1.0) as listener,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        served, _ = listener.accept()
        with served:
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                served.sendall(b"x" * 200_000_000)
            assert time.monotonic() - begun < 30


def test_a_slow_reader_is_served(settings: Settings) -> None:
    """Whoever reads now and then gets everything, however long it takes in all."""
    with (
        listen(replace(settings, web_listen="127.0.0.1:0"), unread_s=1.0) as listener,
        socket.socket() as client,
    ):
        client.connect(listener.getsockname())
        served, _ = listener.accept()
        with served:
            for _ in range(6):
                served.sendall(b"x" * 1000)
                time.sleep(0.5)
                assert len(client.recv(1000)) > 0
