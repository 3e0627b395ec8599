"""Guessing is slow: lock-outs of accounts and addresses, and what a guesser cannot tell."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from support.clients import csrf_of, log_in


@pytest.fixture
def quick_passwords() -> None:
    """Not here: how long a login takes is part of what is tested."""


def test_five_failures_lock_the_account_for_that_address_only(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Then even the right password is refused from there, and accepted from elsewhere; later it is accepted again."""
    make_user("ada")
    client = app.test_client()
    for _ in range(5):
        assert log_in(client, "ADA", "wrong wrong wrong").status_code == 401
    locked = log_in(client, "ada")
    assert locked.status_code == 429
    assert "15 minutes" in locked.get_data(as_text=True)
    elsewhere = app.test_client()
    elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.9"
    assert log_in(elsewhere, "ada").status_code == 302
    with engine.begin() as connection:
        connection.execute(text("UPDATE login_attempts SET at = at - interval '16 minutes'"))
    assert log_in(client, "ada").status_code == 302
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM login_attempts")).scalar_one() == 0
        reasons = connection.execute(
            text("SELECT detail->>'reason' FROM audit WHERE action = 'login.failed' ORDER BY id")
        )
        assert list(reasons.scalars()) == ["wrong password"] * 5


def test_thirty_failures_lock_the_address_for_every_account(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Trying many names from one place ends too, whether the names exist or not; an IPv6 client is its /64."""
    make_user("ada")
    client = app.test_client()
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO login_attempts (account, address) "
                "SELECT 'user' || n, '2001:db8:1:2::/64' FROM generate_series(1, 29) n"
            )
        )
    client.environ_base["REMOTE_ADDR"] = "2001:db8:1:2::1"
    assert log_in(client, "nobody", "wrong wrong wrong").status_code == 401
    client.environ_base["REMOTE_ADDR"] = "2001:db8:1:2:3::4"
    assert log_in(client, "ada").status_code == 429
    client.environ_base["REMOTE_ADDR"] = "2001:db8:1:3::4"
    assert log_in(client, "ada").status_code == 302


def test_guesses_made_at_the_same_time_count_each_other(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Of twelve logins at once, with the right password last to be looked at, no more than five are looked at."""
    make_user("ada")
    clients = [app.test_client() for _ in range(12)]
    tokens = [csrf_of(client) for client in clients]
    codes: list[int] = []

    def guess(client: FlaskClient, token: str) -> None:
        data = {"csrf_token": token, "name": "ada", "password": "wrong wrong wrong"}
        codes.append(client.post("/login", data=data).status_code)

    threads = [threading.Thread(target=guess, args=pair) for pair in zip(clients, tokens, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == 12
    with engine.begin() as connection:
        looked_at = connection.execute(
            text("SELECT count(*) FROM audit WHERE detail->>'reason' = 'wrong password'")
        ).scalar_one()
    assert looked_at <= 5


def test_an_unknown_name_takes_as_long_as_a_wrong_password(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """So that nobody can find out which names there are."""
    make_user("ada")
    client = app.test_client()
    token = csrf_of(client)
    times: dict[str, list[float]] = {"ada": [], "nobody": []}
    for _ in range(4):
        for name in times:
            start = time.perf_counter()
            data = {"csrf_token": token, "name": name, "password": "wrong wrong wrong"}
            assert client.post("/login", data=data).status_code == 401
            times[name].append(time.perf_counter() - start)
    known, unknown = (statistics.median(times[name]) for name in ("ada", "nobody"))
    assert 0.25 < known / unknown < 4
