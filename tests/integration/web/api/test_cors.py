"""Pages of other origins: nobody unless the settings list them, and never with a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from flask import Flask

from controller.settings import Settings
from web import create_app

WIKI = "https://wiki.example.org"
ASKS = {
    "Origin": WIKI,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization",
}


@pytest.fixture
def open_app(settings: Settings) -> Iterator[Flask]:
    """The application with one origin allowed."""
    app = create_app(dataclasses.replace(settings, web_cors_origins=(WIKI,)))
    yield app
    app.extensions["streamswarm.engine"].dispose()


def test_nobody_is_let_in_by_default(app: Flask) -> None:
    """Without the setting no answer allows an origin, and a preflight is answered like any other stranger's call."""
    client = app.test_client()
    for method, headers in (("GET", {"Origin": WIKI}), ("OPTIONS", ASKS)):
        answer = client.open("/api/v1/health", method=method, headers=headers)
        assert not [name for name in dict(answer.headers) if name.startswith("Access-Control-")]


def test_a_listed_origin_may_call_with_a_token(open_app: Flask) -> None:
    """The browser's question is answered without a token; answers name the origin, and no credentials."""
    client = open_app.test_client()
    asked = client.options("/api/v1/tests", headers=ASKS)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == WIKI
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    answer = client.get("/api/v1/tests", headers={"Origin": WIKI})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == WIKI
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://wiki.example.org.evil.example", "null", ""]
)
def test_others_are_not(open_app: Flask, origin: str) -> None:
    """Nor are pages of ours opened: only the API."""
    client = open_app.test_client()
    for path in ("/api/v1/health", "/login"):
        answer = client.get(path, headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Access-Control-Allow-Origin" not in client.get("/login", headers={"Origin": WIKI}).headers
