"""Development mode: nobody logs in, and nobody but this machine itself gets in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from support.clients import NOTHING_CHOSEN, Api, csrf_of

from controller.errors import ConfigurationError
from controller.settings import Settings
from web import create_app

BANNER = "Development mode"


@pytest.fixture
def app(settings: Settings, make_user: Callable[..., int]) -> Iterator[Flask]:
    """The application in development mode, with two administrators and a viewer."""
    make_user("ada", "admin")
    make_user("bob", "admin")
    make_user("vera", "viewer")
    app = create_app(replace(settings, web_development=True))
    yield app
    app.extensions["streamswarm.engine"].dispose()


def test_whoever_is_on_this_machine_is_the_first_administrator(app: Flask, engine: Engine) -> None:
    """Pages open without a login and say so; changes want the CSRF token all the same, and are written down as such."""
    client = app.test_client()
    page = client.get("/")
    assert page.status_code == 200
    assert BANNER in page.get_data(as_text=True)
    assert client.get("/login").headers["Location"] == "/"
    assert client.get("/api/v1/me").json == {
        "name": "ada",
        "role": "admin",
        "by_token": False,
        **NOTHING_CHOSEN,
    }
    body = {"name": "a", "address": "192.0.2.1"}
    assert client.post("/api/v1/destinations", json=body).status_code == 400
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    assert client.post("/api/v1/destinations", json=body, headers=headers).status_code == 201
    with engine.begin() as connection:
        actor = connection.execute(text("SELECT actor FROM audit ORDER BY id DESC LIMIT 1")).scalar_one()
    assert actor == "development:ada"


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, "192.0.2.7"),
        ({}, "::ffff:192.0.2.7"),
        ({"Host": "10.0.0.1"}, "127.0.0.1"),
        ({"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1"),
        ({"Forwarded": "for=127.0.0.1"}, "127.0.0.1"),
        ({"Via": "1.1 proxy"}, "127.0.0.1"),
    ],
)
def test_others_have_to_log_in(app: Flask, headers: dict[str, str], address: str) -> None:
    """From another address, under another name, or through a proxy on this machine: to the login, without a banner."""
    client = app.test_client()
    where = {"REMOTE_ADDR": address}
    page = client.get("/", headers=headers, environ_base=where)
    assert page.headers["Location"].startswith("/login")
    assert client.get("/api/v1/me", headers=headers, environ_base=where).status_code == 401
    login = client.get("/login", headers=headers, environ_base=where)
    assert BANNER not in login.get_data(as_text=True)


def test_a_name_that_somebody_made_point_here_is_refused(app: Flask) -> None:
    """A page of another site cannot reach the dashboard under its own name (DNS rebinding)."""
    assert app.test_client().get("/", headers={"Host": "evil.example"}).status_code == 421


def test_a_token_is_asked_for_what_it_is(app: Flask, token: Callable[..., str]) -> None:
    """Development mode adds nothing to a token, and takes a wrong one for nobody."""
    assert Api(app.test_client(), token("viewer"))("GET", "/me").json["role"] == "viewer"
    assert Api(app.test_client(), "ssw_wrong")("GET", "/me").status_code == 401


def test_the_application_does_not_start_with_it_where_others_could_get_in(settings: Settings) -> None:
    """Not only the settings' own reader refuses it."""
    with pytest.raises(ConfigurationError, match="WEB_LISTEN"):
        create_app(replace(settings, web_development=True, web_listen="0.0.0.0:8080"))


def test_without_it_there_is_no_banner(settings: Settings, make_user: Callable[..., int]) -> None:
    """The usual way: to the login."""
    app = create_app(settings)
    client = app.test_client()
    assert client.get("/").headers["Location"].startswith("/login")
    assert BANNER not in client.get("/login").get_data(as_text=True)
    app.extensions["streamswarm.engine"].dispose()
