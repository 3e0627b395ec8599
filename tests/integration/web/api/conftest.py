"""The application on a real database, and clients of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.commands import tokens, users
from controller.store.commands.audit import SYSTEM
from controller.store.queries.users import Role
from web import create_app

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Api:
    """A client of the API with a token."""

    client: FlaskClient
    token: str

    def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        headers = {**more.pop("headers", {})}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        arguments = {"json": json} if json is not None else {}
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **arguments, **more)


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application."""
    app = create_app(settings)
    yield app
    app.extensions["streamswarm.engine"].dispose()


@pytest.fixture
def token(engine: Engine) -> Callable[[Role], str]:
    """Make a token of the installation."""

    def make(role: Role) -> str:
        with Session(engine) as session, session.begin():
            return tokens.create(
                session, {"name": f"a-{role}", "scope": role}, actor=SYSTEM, user_id=None, role="admin"
            )[1]

    return make


@pytest.fixture
def api(app: Flask, token: Callable[[Role], str]) -> Api:
    """A client with an administrator's token."""
    return Api(app.test_client(), token("admin"))


@pytest.fixture
def stranger(app: Flask) -> Api:
    """A client without any token."""
    return Api(app.test_client(), "")


@pytest.fixture
def make_user(engine: Engine) -> Callable[..., int]:
    """Make a user with the password `PASSWORD`."""

    def make(name: str, role: Role = "viewer", **more: Any) -> int:
        with Session(engine) as session, session.begin():
            values = {"name": name, "role": role, "password": PASSWORD, **more}
            return users.create(session, values, actor=SYSTEM).id

    return make


def csrf_of(client: FlaskClient, path: str = "/login") -> str:
    """Return the CSRF token in a page's form."""
    page = client.get(path).get_data(as_text=True)
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found, page
    return found.group(1)


def log_in(client: FlaskClient, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """Log in through the form."""
    data = {"csrf_token": csrf_of(client), "name": name, "password": password, **more}
    return client.post("/login", data=data)
