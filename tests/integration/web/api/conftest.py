"""The application on a real database, and clients of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.clients import PASSWORD, Api

from controller.settings import Settings
from controller.store.commands import tokens, users
from controller.store.commands.audit import SYSTEM
from controller.store.queries.users import Role
from web import create_app


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


@pytest.fixture
def worker(engine: Engine) -> str:
    """An enrolled worker with a job's worth of past."""
    with engine.begin() as connection:
        return str(
            connection.execute(
                text(
                    "INSERT INTO workers (name, host_name, site, enrolled_at) "
                    "VALUES ('Alpha', 'alpha.example.org', 'berlin', now()) RETURNING id"
                )
            ).scalar_one()
        )
