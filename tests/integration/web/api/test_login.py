"""Logging in and out: passwords, links, lock-outs, sessions, forged requests."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.clients import NOTHING_CHOSEN, PASSWORD, csrf_of, log_in

from controller.errors import ConfigurationError
from controller.keeper.prune import prune
from controller.settings import Settings
from controller.store.commands import login_links, users
from controller.store.commands.audit import SYSTEM
from web import create_app


def is_in(client: FlaskClient) -> bool:
    """Whether the browser is logged in."""
    return client.get("/api/v1/me").status_code == 200


def test_a_user_logs_in_whatever_the_case_of_the_name_and_out_again(
    app: Flask, make_user: Callable[..., int]
) -> None:
    """The session holds until the log-out; the cookie is closed to scripts and to other sites."""
    make_user("Ada")
    client = app.test_client()
    answer = log_in(client, "aDA")
    assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert client.get("/api/v1/me").json == {
        "name": "Ada",
        "role": "viewer",
        "by_token": False,
        **NOTHING_CHOSEN,
    }
    assert client.post("/logout").status_code == 400
    assert is_in(client)
    assert client.post("/logout", data={"csrf_token": csrf_of(client, "/")}).status_code == 302
    assert not is_in(client)


def test_over_https_the_cookie_is_secure_and_the_browser_stays_with_https(
    app: Flask, make_user: Callable[..., int]
) -> None:
    """Scheme https makes cookies Secure and sends HSTS; the referrer of our own pages suffices for forms."""
    make_user("ada")
    client = app.test_client()
    base = "https://localhost"
    page = client.get("/login", base_url=base)
    assert page.headers["Strict-Transport-Security"].startswith("max-age=")
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.get_data(as_text=True))
    assert token
    data = {"csrf_token": token.group(1), "name": "ada", "password": PASSWORD}
    assert client.post("/login", data=data, base_url=base).status_code == 400
    answer = client.post("/login", data=data, base_url=base, headers={"Referer": f"{base}/login"})
    assert answer.status_code == 302
    assert "Secure" in answer.headers["Set-Cookie"]


def test_the_session_is_another_one_after_the_login(app: Flask, make_user: Callable[..., int]) -> None:
    """What was planted before the login (a session, a CSRF token) is worth nothing after it."""
    make_user("ada")
    client = app.test_client()
    before = csrf_of(client)
    planted = client.get_cookie("streamswarm_session")
    log_in(client, "ada")
    after = client.get_cookie("streamswarm_session")
    assert planted
    assert after
    assert planted.value != after.value
    assert client.post("/logout", data={"csrf_token": before}).status_code == 400


WANTED = [
    ("/tests?kind=ping", "/tests?kind=ping"),
    ("//evil.example/", "/"),
    ("/\\evil.example", "/"),
    ("https://evil.example/", "/"),
    ("javascript:alert(1)", "/"),
    ("/\t/evil.example", "/"),
    ("/logout", "/"),
    ("", "/"),
]


def test_after_the_login_only_local_pages_are_gone_to(app: Flask, make_user: Callable[..., int]) -> None:
    """`next` leads to a page of this dashboard or to the first page."""
    make_user("ada")
    for wanted, target in WANTED:
        assert log_in(app.test_client(), "ada", next=wanted).headers["Location"] == target


def test_a_page_asked_for_before_the_login_is_come_back_to(app: Flask) -> None:
    """The way to the login carries the page; a fragment of a page makes the whole page go there."""
    client = app.test_client()
    assert client.get("/tests?kind=ping").headers["Location"] == "/login?next=/tests?kind%3Dping"
    fragment = client.get("/overview/live", headers={"HX-Request": "true"})
    assert (fragment.status_code, fragment.headers["HX-Redirect"]) == (401, "/login")


def test_a_deactivated_user_and_a_changed_password_end_sessions(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """The very next request of every browser of the user is refused."""
    user_id = make_user("ada")
    first, second = app.test_client(), app.test_client()
    log_in(first, "ada")
    log_in(second, "ada")
    with Session(engine) as session, session.begin():
        users.change_password(session, user_id, old=PASSWORD, new="another long one", actor=SYSTEM)
    assert not is_in(first)
    assert not is_in(second)
    assert log_in(first, "ada").status_code == 401
    log_in(second, "ada", "another long one")
    assert is_in(second)
    with Session(engine) as session, session.begin():
        users.update(session, user_id, {"active": False}, actor=SYSTEM, by_user=None)
    assert not is_in(second)
    assert log_in(second, "ada", "another long one").status_code == 401


def later(engine: Engine, interval: str) -> None:
    """Let time go by for all sessions."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE web_sessions SET created_at = created_at - CAST(:by AS interval), "
                "seen_at = seen_at - CAST(:by AS interval)"
            ),
            {"by": interval},
        )


def test_logging_out_ends_the_session_for_copies_of_the_cookie_too(
    app: Flask, make_user: Callable[..., int]
) -> None:
    """A copied cookie works until the log-out and not after it; other sessions of the user go on."""
    make_user("ada")
    client, thief, elsewhere = app.test_client(), app.test_client(), app.test_client()
    log_in(client, "ada")
    log_in(elsewhere, "ada")
    cookie = client.get_cookie("streamswarm_session")
    assert cookie is not None
    thief.set_cookie("streamswarm_session", cookie.value)
    assert is_in(thief)
    client.post("/logout", data={"csrf_token": csrf_of(client, "/")})
    thief.set_cookie("streamswarm_session", cookie.value)
    assert not is_in(thief)
    assert not is_in(client)
    assert is_in(elsewhere)


def test_a_second_login_in_the_same_browser_ends_the_first(app: Flask, make_user: Callable[..., int]) -> None:
    """The cookie of before is as good as logged out."""
    make_user("ada")
    client, thief = app.test_client(), app.test_client()
    log_in(client, "ada")
    first = client.get_cookie("streamswarm_session")
    assert first is not None
    token = csrf_of(client, "/")
    data = {"csrf_token": token, "name": "ada", "password": PASSWORD}
    assert client.post("/login", data=data).status_code == 302
    thief.set_cookie("streamswarm_session", first.value)
    assert not is_in(thief)
    assert is_in(client)


def test_the_database_does_not_hold_what_the_cookie_does(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Only a hash of the session's id is kept."""
    make_user("ada")
    client = app.test_client()
    log_in(client, "ada")
    with client.session_transaction() as held:
        session_id = held["_user_id"].partition(".")[0]
    with engine.begin() as connection:
        (kept,) = connection.execute(text("SELECT id_hash FROM web_sessions")).scalars()
    assert bytes(kept) == hashlib.sha256(session_id.encode()).digest()


def test_a_session_ends_when_nobody_does_anything(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Pages that refresh themselves do not keep it alive; opening a page does."""
    make_user("ada")
    client = app.test_client()
    log_in(client, "ada")
    later(engine, "50 minutes")
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
    later(engine, "50 minutes")
    assert (
        client.get("/overview/live", headers={"HX-Request": "true", "Accept": "text/html"}).status_code == 200
    )
    assert is_in(client)
    later(engine, "11 minutes")
    assert not is_in(client)


def test_a_busy_session_ends_after_twelve_hours(
    settings: Settings, make_user: Callable[..., int], engine: Engine
) -> None:
    """`web_session_minutes` of 0 lets nobody be idle for too long; the day ends it all the same."""
    app = create_app(replace(settings, web_session_minutes=0))
    make_user("ada")
    client = app.test_client()
    log_in(client, "ada")
    later(engine, "11 hours 59 minutes")
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
    assert is_in(client)
    later(engine, "2 minutes")
    assert not is_in(client)
    app.extensions["streamswarm.engine"].dispose()


def test_sessions_of_yesterday_are_pruned(app: Flask, make_user: Callable[..., int], engine: Engine) -> None:
    """A session that goes on stays, one that began a day ago goes."""
    make_user("ada")
    old, new = app.test_client(), app.test_client()
    log_in(old, "ada")
    later(engine, "25 hours")
    log_in(new, "ada")
    assert prune(engine)["web_sessions"] == 1
    assert is_in(new)


def make_link(engine: Engine, name: str = "ada") -> str:
    """Return the path of a new link."""
    with Session(engine) as session, session.begin():
        return login_links.PATH + login_links.create_login_link(session, name)


def test_a_link_logs_in_once(app: Flask, make_user: Callable[..., int], engine: Engine) -> None:
    """Looking at it uses nothing up; pressing the button does, and no second browser gets in."""
    make_user("ada", "operator")
    path = make_link(engine)
    client, scanner, late = app.test_client(), app.test_client(), app.test_client()
    for _ in range(3):
        assert scanner.get(path).status_code == 200
    assert not is_in(scanner)
    late_token = csrf_of(late, path)
    assert client.post(path, data={"csrf_token": csrf_of(client, path)}).headers["Location"] == "/"
    assert is_in(client)
    assert late.post(path, data={"csrf_token": late_token}).status_code == 410
    assert not is_in(late)
    assert "spent" in late.get(path).get_data(as_text=True)


def test_an_expired_a_foreign_and_a_deactivated_link_are_spent(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Each answers 410 and logs nobody in."""
    user_id = make_user("ada")
    path = make_link(engine)
    client = app.test_client()
    token = csrf_of(client)
    with Session(engine) as session, session.begin():
        users.update(session, user_id, {"active": False}, actor=SYSTEM, by_user=None)
    assert client.post(path, data={"csrf_token": token}).status_code == 410
    with Session(engine) as session, session.begin():
        users.update(session, user_id, {"active": True}, actor=SYSTEM, by_user=None)
    path = make_link(engine)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE login_links SET expires_at = now() - interval '1 s' WHERE used_at IS NULL")
        )
    assert client.post(path, data={"csrf_token": token}).status_code == 410
    assert client.get(login_links.PATH + "x" * 43).status_code == 410
    assert client.get(login_links.PATH + "%00").status_code == 410
    assert not is_in(client)


def test_a_cookie_alone_changes_nothing(app: Flask, make_user: Callable[..., int]) -> None:
    """The API wants the CSRF header of whoever comes with a cookie; a token needs none."""
    make_user("ada", "operator")
    client = app.test_client()
    log_in(client, "ada")
    body = {"name": "a", "address": "192.0.2.1"}
    assert client.post("/api/v1/destinations", json=body).status_code == 400
    assert client.get("/api/v1/destinations").json == {"items": [], "next_cursor": None}
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    assert client.post("/api/v1/destinations", json=body, headers=headers).status_code == 201


def test_the_first_administrator_is_made_once(engine: Engine, app: Flask) -> None:
    """Two processes that start at the same time make one administrator, whose password works."""
    made: list[tuple[str, str] | None] = []

    def start() -> None:
        with Session(engine) as session, session.begin():
            made.append(users.ensure_first_admin(session))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = [item for item in made if item]
    client = app.test_client()
    assert log_in(client, *first).status_code == 302
    assert client.get("/api/v1/me").json["role"] == "admin"


def test_the_key_that_signs_sessions_is_private_and_lasts(settings: Settings) -> None:
    """It is made for its owner only; one that others can read, or a short one, is refused with what to do."""
    create_app(settings)
    key: Path = settings.data_dir / "secrets" / "web.key"
    content = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert create_app(settings).config["SECRET_KEY"] == content
    key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others than its owner"):
        create_app(settings)
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="5 bytes"):
        create_app(settings)


def test_logins_and_what_they_change_are_in_the_audit_log(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Who, from where, what; and no password or token anywhere in it."""
    make_user("ada")
    path = make_link(engine)
    client = app.test_client()
    log_in(client, "ada")
    client.post(path, data={"csrf_token": csrf_of(client, "/")})
    with engine.begin() as connection:
        rows = connection.execute(
            text("SELECT actor, address, action, detail::text FROM audit ORDER BY id")
        ).all()
    assert [(row.actor, row.address, row.action) for row in rows] == [
        ("system", "", "user.create"),
        ("system", "", "login_link.create"),
        ("user:ada", "127.0.0.1", "login"),
        ("user:ada", "127.0.0.1", "login.link"),
    ]
    everything = str(rows)
    assert PASSWORD not in everything
    assert path.removeprefix(login_links.PATH) not in everything
