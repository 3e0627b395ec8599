"""What ends sessions, lets users in again, and keeps an administrator."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.clients import csrf_of, log_in

from controller.errors import ConflictError
from controller.store.commands import login_links, users
from controller.store.commands.audit import SYSTEM
from controller.store.queries import users as user_queries


def is_in(client: FlaskClient) -> bool:
    """Whether the browser is logged in."""
    return client.get("/api/v1/me").status_code == 200


def make_link(engine: Engine) -> str:
    """Return the path of a new link for `ada`."""
    with Session(engine) as session, session.begin():
        return login_links.PATH + login_links.create_login_link(session, "ada")


def test_a_reset_lets_in_who_is_locked_out_and_deactivated(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """The new password works at once; sessions, links and the old password work no more."""
    user_id = make_user("ada")
    client, guesser = app.test_client(), app.test_client()
    log_in(client, "ada")
    path = make_link(engine)
    for _ in range(5):
        log_in(guesser, "ada", "a wrong password")
    assert log_in(guesser, "ada").status_code == 429
    with Session(engine) as session, session.begin():
        users.update(session, user_id, {"active": False}, actor=SYSTEM, by_user=None)
        users.reset(session, user_id, "another long one", actor=SYSTEM)
    assert not is_in(client)
    assert client.get(path).status_code == 410
    assert log_in(guesser, "ada").status_code == 401
    assert log_in(guesser, "ADA", "another long one").status_code == 302


def test_another_password_ends_links(app: Flask, make_user: Callable[..., int], engine: Engine) -> None:
    """Who knew the old password and made themselves a link does not come back with it."""
    user_id = make_user("ada")
    path = make_link(engine)
    with Session(engine) as session, session.begin():
        users.set_password(session, user_id, "another long one", actor=SYSTEM)
    assert app.test_client().get(path).status_code == 410


@pytest.mark.parametrize("own", [True, False])
def test_all_sessions_of_a_user_are_ended(app: Flask, make_user: Callable[..., int], own: bool) -> None:
    """By the user on one browser or by an administrator: every browser is out, the password stays."""
    user_id = make_user("ada")
    make_user("root", "admin")
    first, second, root = (app.test_client() for _ in range(3))
    log_in(first, "ada")
    log_in(second, "ada")
    log_in(root, "root")
    by, path = (first, "/me/end-sessions") if own else (root, f"/users/{user_id}/end-sessions")
    answer = by.post(f"/api/v1{path}", headers={"X-CSRFToken": csrf_of(by, "/")})
    assert answer.status_code == (204 if own else 200)
    assert not is_in(first)
    assert not is_in(second)
    assert is_in(root)
    assert log_in(first, "ada").status_code == 302


def test_two_administrators_cannot_remove_each_other(make_user: Callable[..., int], engine: Engine) -> None:
    """At the same time, whichever way: one of the two stays."""
    for turn, change in enumerate(("delete", "demote", "deactivate")):
        ids = [make_user(f"a{turn}", "admin"), make_user(f"b{turn}", "admin")]
        barrier = threading.Barrier(2)
        refused: list[str] = []

        def remove(
            victim: int,
            by: int,
            change: str = change,
            barrier: threading.Barrier = barrier,
            refused: list[str] = refused,
        ) -> None:
            with Session(engine) as session:
                barrier.wait()
                try:
                    if change == "delete":
                        users.delete(session, victim, actor=SYSTEM, by_user=by)
                    else:
                        values = {"role": "viewer"} if change == "demote" else {"active": False}
                        users.update(session, victim, values, actor=SYSTEM, by_user=by)
                    session.commit()
                except ConflictError as error:
                    refused.append(error.message)

        threads = [threading.Thread(target=remove, args=(ids[n], ids[1 - n])) for n in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1, (change, refused)
        assert "last active administrator" in refused[0]
        with Session(engine) as session, session.begin():
            (left,) = [
                user for user in user_queries.find(session).items if user.role == "admin" and user.active
            ]
            # Out of the way of the next pair.
            session.execute(text("UPDATE users SET role = 'viewer' WHERE id = :id"), {"id": left.id})
