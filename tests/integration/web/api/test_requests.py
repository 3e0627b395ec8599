"""What is believed of a request, and what every answer carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flask import Flask
from sqlalchemy import Engine, text
from support.clients import csrf_of

from controller.settings import Settings
from web import create_app


def test_a_name_that_is_not_ours_is_refused(app: Flask, settings: Settings) -> None:
    """A name that somebody made point here is answered with what to set; addresses and our own names pass."""
    client = app.test_client()
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080", "192.0.2.7"):
        assert client.get("/login", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "[", "a b"):
        assert client.get("/login", headers={"Host": host}).status_code in (400, 421), host
    named = create_app(replace(settings, web_url="https://mon.example.org", web_hosts=("other.example.org",)))
    for host in ("mon.example.org", "OTHER.example.org:443"):
        assert named.test_client().get("/login", headers={"Host": host}).status_code == 200, host


def test_forwarded_headers_are_believed_from_as_many_proxies_as_are_named(
    settings: Settings, make_user: Callable[..., int], engine: Engine
) -> None:
    """Without a proxy they are ignored; with one, the address that the proxy saw counts, not what the client says."""
    make_user("ada")
    headers = {"X-Forwarded-For": "203.0.113.1, 198.51.100.7", "X-Forwarded-Proto": "https"}

    def failed_from(hops: int) -> str:
        app = create_app(replace(settings, web_proxy_hops=hops))
        client = app.test_client()
        token = csrf_of(client)
        data = {"csrf_token": token, "name": "ada", "password": "wrong wrong wrong"}
        more = {"Referer": "https://localhost/login"}
        assert client.post("/login", data=data, headers={**headers, **more}).status_code == 401
        app.extensions["streamswarm.engine"].dispose()
        with engine.begin() as connection:
            address: str = connection.execute(
                text("SELECT address FROM login_attempts ORDER BY id DESC LIMIT 1")
            ).scalar_one()
            return address

    assert failed_from(0) == "127.0.0.1"
    assert failed_from(1) == "198.51.100.7"


def test_every_answer_carries_the_headers_of_a_closed_house(app: Flask) -> None:
    """Pages, API, errors and assets alike; nothing inline, nothing from elsewhere, no frames."""
    client = app.test_client()
    for path in ("/login", "/api/v1/health", "/nowhere", "/static/img/favicon.svg"):
        with client.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in answer.headers
            if not path.startswith("/static"):
                assert answer.headers["Cache-Control"] == "no-store"
