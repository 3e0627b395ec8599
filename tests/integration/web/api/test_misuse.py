"""What is tried against the API and the log-in by those who know how such programs are often made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import Engine, text
from support.clients import PASSWORD, Api, csrf_of, log_in, make_destination, make_test

from web import security
from web.auth.sessions import COOKIE


@pytest.mark.parametrize(
    ("path", "values", "more"),
    [
        ("/users", {"name": "eve", "password": PASSWORD}, {"id": 1}),
        ("/users", {"name": "eve", "password": PASSWORD}, {"session_generation": 9}),
        ("/users", {"name": "eve", "password": PASSWORD}, {"password_hash": "x"}),
        ("/tokens", {"name": "ci"}, {"user_id": 1}),
        ("/tokens", {"name": "ci"}, {"token": "ssw_known"}),
        ("/tokens", {"name": "ci"}, {"token_hash": "00"}),
        ("/destinations", {"name": "a", "address": "192.0.2.1"}, {"version": 7}),
        ("/tests", {"name": "a", "kind": "system"}, {"origin": 1}),
        ("/reports", {"tests": [1], "last": "1h"}, {"made_by": "user:bob"}),
        ("/operations", {"kind": "verify"}, {"made_by": "user:bob"}),
        ("/operations", {"kind": "verify"}, {"by_keeper": True}),
    ],
)
def test_fields_that_are_not_for_callers_are_refused(
    api: Api, path: str, values: dict[str, Any], more: dict[str, Any]
) -> None:
    """Named as unknown, and nothing is made."""
    (name,) = more
    answer = api("POST", path, {**values, **more})
    assert answer.status_code == 422
    assert name in {error["path"] for error in answer.json["errors"]}


def test_a_token_cannot_give_itself_more(app: Flask, api: Api, make_user: Callable[..., int]) -> None:
    """A user asks for no more than the own role, and a token with a user's name in it is nobody else's."""
    make_user("vera")
    client = app.test_client()
    log_in(client, "vera")
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    for scope in ("operator", "admin"):
        refused = client.post("/api/v1/tokens", json={"name": "x", "scope": scope}, headers=headers)
        assert refused.status_code == 422
    made = client.post("/api/v1/tokens", json={"name": "x"}, headers=headers).json
    change = client.patch(f"/api/v1/tokens/{made['id']}", json={"scope": "admin"}, headers=headers)
    assert change.status_code == 422


@pytest.mark.parametrize("query", ["token={}", "access_token={}", "api_key={}", "Authorization=Bearer {}"])
def test_a_token_in_an_address_is_no_token(app: Flask, api: Api, query: str) -> None:
    """It would stand in logs and histories; only the header counts."""
    assert app.test_client().get(f"/api/v1/me?{query.format(api.token)}").status_code == 401


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_is_what_it_is(app: Flask, api: Api, name: str) -> None:
    """A header cannot make a GET to a DELETE."""
    destination = make_destination(api)
    headers = {"Authorization": f"Bearer {api.token}", name: "DELETE"}
    app.test_client().get(f"/api/v1/destinations/{destination}", headers=headers)
    assert api("GET", f"/destinations/{destination}").status_code == 200


def test_the_token_of_another_session_is_no_token_of_this(app: Flask, make_user: Callable[..., int]) -> None:
    """Whoever has an account cannot use the own CSRF token for a form that another's browser sends."""
    make_user("ada", "operator")
    make_user("eve", "operator")
    victim, attacker = app.test_client(), app.test_client()
    log_in(victim, "ada")
    log_in(attacker, "eve")
    foreign = csrf_of(attacker, "/")
    body = {"name": "a", "address": "192.0.2.1"}
    answer = victim.post("/api/v1/destinations", json=body, headers={"X-CSRFToken": foreign})
    assert answer.status_code == 400
    assert victim.post("/logout", data={"csrf_token": foreign}).status_code == 400


def test_a_cookie_that_others_sign_is_no_session(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Neither with another key, nor one of a session that the database has not."""
    make_user("ada", "admin")
    client = app.test_client()
    log_in(client, "ada")
    with client.session_transaction() as held:
        content = dict(held)
    interface: Any = app.session_interface
    ours = interface.get_signing_serializer(app)
    theirs = URLSafeTimedSerializer(
        b"x" * 32, salt="cookie-session", serializer=ours.serializer, signer_kwargs={"key_derivation": "hmac"}
    )
    for cookie in (
        theirs.dumps(content),
        ours.dumps({**content, "_user_id": "x" * 43 + ".1"}),
        ours.dumps({**content, "_user_id": content["_user_id"].partition(".")[0] + ".99"}),
        ours.dumps({**content, "_user_id": "1"}),
    ):
        forger = app.test_client()
        forger.set_cookie(COOKIE, cookie)
        assert forger.get("/api/v1/me").status_code == 401
    honest = app.test_client()
    honest.set_cookie(COOKIE, ours.dumps(content))
    assert honest.get("/api/v1/me").status_code == 200


def test_what_holds_secrets_is_kept_nowhere(app: Flask, api: Api, make_user: Callable[..., int]) -> None:
    """No browser and no proxy keeps a page, an answer or an error; files that are the same for all may be kept."""
    make_user("ada", "admin")
    client = app.test_client()
    log_in(client, "ada")
    made = api("POST", "/tokens", {"name": "ci"})
    assert made.headers["Cache-Control"] == "no-store"
    link = api("POST", f"/users/{make_user('bob')}/login-link").json["path"]
    for path in ("/", "/login", link, "/api/v1/me", "/nowhere", "/api/v1/nowhere", "/live"):
        with client.get(path, buffered=False) as answer:
            assert answer.headers["Cache-Control"] == "no-store", path
    with client.get("/static/img/favicon.svg") as answer:
        assert answer.headers["Cache-Control"] != "no-store"


@pytest.mark.parametrize("path", ["/login", "/login/once/" + "x" * 43, "/logout", "/api/v1/tokens"])
def test_a_body_that_is_too_large_is_refused_before_anything_else(app: Flask, api: Api, path: str) -> None:
    """413 whoever sends it, before a password is looked at or a form is taken apart."""
    headers = {"Authorization": f"Bearer {api.token}"}
    body = b"csrf_token=x&name=" + b"a" * (security.MAX_BODY + 1)
    content_type = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
    answer = app.test_client().post(path, data=body, headers=headers, content_type=content_type)
    assert answer.status_code == 413


def test_a_form_of_very_many_fields_is_refused(app: Flask) -> None:
    """Taking it apart would take long."""
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="f{number}"\r\n\r\nx\r\n' for number in range(2000)
    )
    answer = app.test_client().post(
        "/login", data=(parts + "--b--\r\n").encode(), content_type="multipart/form-data; boundary=b"
    )
    assert answer.status_code in (400, 413)


def test_names_of_things_do_not_reach_headers(api: Api) -> None:
    """The name of a file that is sent is made of numbers, whatever the test is called."""
    made = make_test(api, name='x"; filename="evil.exe')
    answer = api("GET", f"/tests/{made['id']}/results.csv")
    header = answer.headers["Content-Disposition"]
    assert header.startswith(f'attachment; filename="streamswarm-test-{made["id"]}-')
    assert "evil" not in header
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_link_of_a_list_cannot_be_broken_out_of(api: Api) -> None:
    """What was searched for comes back in the header `Link`, encoded."""
    for name in ("a1", "a2"):
        make_destination(api, f"{name}>; rel=evil")
    answer = api("GET", "/destinations?limit=1&search=%3E%3B%20rel%3Devil")
    assert answer.headers["Link"].count(";") == 1
    assert answer.headers["Link"].count(">") == 1


def test_a_user_that_was_is_not_told_apart_from_one_that_never_was(
    app: Flask, make_user: Callable[..., int], engine: Engine
) -> None:
    """Wrong password, no such user, deactivated: one answer, word for word."""
    make_user("ada")
    make_user("off", active=False)
    pages = set()
    for name, password in (("ada", "wrong wrong"), ("nobody", PASSWORD), ("off", PASSWORD)):
        answer = log_in(app.test_client(), name, password)
        assert answer.status_code == 401
        page = answer.get_data(as_text=True).replace(f'value="{name}"', "")
        pages.add(page[page.index("<main") : page.index("csrf_token")])
    assert len(pages) == 1
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM web_sessions")).scalar_one() == 0
