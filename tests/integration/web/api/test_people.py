"""Users, tokens, hosts that enrol, and the audit log over the REST API."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from flask import Flask
from sqlalchemy import Engine, text
from support.clients import NOTHING_CHOSEN, PASSWORD, Api, csrf_of, log_in, make_test, paths

from controller.settings import Settings


def test_tokens_are_shown_once_and_kept_as_hashes(api: Api, engine: Engine, app: Flask) -> None:
    """A token works until it is revoked or expires; the list tells its beginning and its last use only."""
    made = api("POST", "/tokens", {"name": "CI", "scope": "operator", "description": "nightly"}).json
    token = made.pop("token")
    assert token.startswith("ssw_")
    assert len(token) == 47
    assert token.startswith(made["prefix"])
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT token_hash FROM api_tokens WHERE name = 'CI'")).all()
        assert bytes(rows[0].token_hash) == hashlib.sha256(token.encode()).digest()
        assert token not in str(connection.execute(text("SELECT detail FROM audit")).all())
    ci = Api(app.test_client(), token)
    assert ci("GET", "/me").json == {"name": "CI", "role": "operator", "by_token": True, **NOTHING_CHOSEN}
    listed = next(item for item in api("GET", "/tokens").json["items"] if item["name"] == "CI")
    assert listed["last_used_at"] is not None
    assert "token" not in listed
    assert api("POST", f"/tokens/{made['id']}/revoke").json["revoked_at"] is not None
    assert api("POST", f"/tokens/{made['id']}/revoke").status_code == 409
    refused = ci("GET", "/me")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="StreamSwarm"')
    short = api("POST", "/tokens", {"name": "x", "expires_at": "2100-01-01T00:00:00Z"}).json
    with engine.begin() as connection:
        connection.execute(text("UPDATE api_tokens SET expires_at = now() WHERE name = 'x'"))
    assert Api(app.test_client(), short["token"])("GET", "/me").status_code == 401
    past = {"name": "x", "expires_at": "2001-01-01T00:00:00Z", "scope": "king"}
    assert set(paths(api("POST", "/tokens", past))) == {"expires_at", "scope"}
    for wrong in ("ssw_", "ssw_" + "x" * 43, "x", "ssw_" + "x" * 100_000, "ssw_\u00e9"):
        headers = {"Authorization": f"Bearer {wrong}"}
        assert app.test_client().get("/api/v1/me", headers=headers).status_code == 401


def test_a_users_token_may_what_the_user_may_and_ends_with_the_user(
    app: Flask, api: Api, make_user: Callable[..., int]
) -> None:
    """Its scope never exceeds the user's role, now or later; others' tokens are not seen."""
    user = make_user("ada", "operator")
    client = app.test_client()
    log_in(client, "ada")
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    too_much = client.post("/api/v1/tokens", json={"name": "x", "scope": "admin"}, headers=headers)
    assert list(paths(too_much)) == ["scope"]
    made = client.post("/api/v1/tokens", json={"name": "mine", "scope": "operator"}, headers=headers).json
    assert made["user_name"] == "ada"
    assert [item["name"] for item in client.get("/api/v1/tokens").json["items"]] == ["mine"]
    assert {item["name"] for item in api("GET", "/tokens").json["items"]} == {"mine", "a-admin"}
    foreign = next(item["id"] for item in api("GET", "/tokens").json["items"] if item["name"] == "a-admin")
    assert client.post(f"/api/v1/tokens/{foreign}/revoke", headers=headers).status_code == 404
    mine = Api(app.test_client(), made["token"])
    assert mine("GET", "/me").json["role"] == "operator"
    assert api("PATCH", f"/users/{user}", {"role": "viewer"}).status_code == 200
    assert mine("GET", "/me").json["role"] == "viewer"
    assert api("PATCH", f"/users/{user}", {"active": False}).status_code == 200
    assert mine("GET", "/me").status_code == 401


def test_users_are_looked_after_by_administrators(
    app: Flask, api: Api, make_user: Callable[..., int]
) -> None:
    """Made, changed, given a password and a link, deleted; never a hash in any answer."""
    values = {"name": "Grace", "email": "grace@example.org", "role": "operator", "password": PASSWORD}
    answer = api("POST", "/users", values)
    assert answer.status_code == 201
    path = f"/users/{answer.json['id']}"
    known = {"id", "name", "email", "role", "active", "created_at", "last_login_at", *NOTHING_CHOSEN}
    assert set(answer.json) == known
    assert api("POST", "/users", {**values, "name": "GRACE"}).status_code == 409
    bad = {"name": "a b", "email": "nobody", "role": "king", "password": "short", "age": 7}
    assert set(paths(api("POST", "/users", bad))) == {"name", "email", "role", "password", "age"}
    assert api("PATCH", path, {"email": None}).json["email"] is None
    assert list(paths(api("POST", f"{path}/password", {"password": "aaaaaaaaaaaa"}))) == ["password"]
    assert api("POST", f"{path}/password", {"password": "quite another one"}).status_code == 200
    assert log_in(app.test_client(), "grace", "quite another one").status_code == 302
    link = api("POST", f"{path}/login-link", {"minutes": 5})
    assert link.status_code == 201
    assert app.test_client().get(link.json["path"]).status_code == 200
    assert api("DELETE", path).status_code == 204
    assert api("GET", path).status_code == 404


def test_users_come_by_name_page_by_page(api: Api, make_user: Callable[..., int]) -> None:
    """Whatever the case of names; a search looks into name and address."""
    for name in ("Carol", "alice", "Bob"):
        make_user(name, email=f"{name}@example.org" if name == "Bob" else None)
    first = api("GET", "/users?limit=2").json
    rest = api("GET", f"/users?limit=2&cursor={first['next_cursor']}").json
    assert [user["name"] for user in (*first["items"], *rest["items"])] == ["alice", "Bob", "Carol"]
    assert rest["next_cursor"] is None
    assert [user["name"] for user in api("GET", "/users?search=B%40EXAMPLE").json["items"]] == ["Bob"]


def test_there_is_always_an_administrator(app: Flask, api: Api, make_user: Callable[..., int]) -> None:
    """The last one stays, and none can demote, deactivate or delete themselves."""
    first = make_user("first", "admin")
    for change in ({"role": "viewer"}, {"active": False}):
        answer = api("PATCH", f"/users/{first}", change)
        assert (answer.status_code, "last active administrator" in answer.json["detail"]) == (409, True)
    assert api("DELETE", f"/users/{first}").status_code == 409
    second = make_user("second", "admin")
    client = app.test_client()
    log_in(client, "second")
    headers = {"X-CSRFToken": csrf_of(client, "/")}
    for change in ({"role": "viewer"}, {"active": False}):
        own = client.patch(f"/api/v1/users/{second}", json=change, headers=headers)
        assert (own.status_code, "themselves" in own.json["detail"]) == (409, True)
    assert client.delete(f"/api/v1/users/{second}", headers=headers).status_code == 409
    assert client.patch(f"/api/v1/users/{first}", json={"role": "viewer"}, headers=headers).status_code == 200


def test_a_host_gets_what_it_needs_to_enrol(api: Api, settings: Settings, engine: Engine) -> None:
    """Token, roots, addresses; the token is kept as a hash; an odd host name is refused; no roots, no token."""
    missing = api("POST", "/enrolment-tokens", {"host": "alpha"})
    assert api("GET", "/enrolment").status_code == missing.status_code
    assert (missing.status_code, "root certificate" in missing.json["detail"]) == (503, True)
    folder = settings.data_dir / "ca"
    folder.mkdir(parents=True)
    (folder / "root.pem").write_text("-----BEGIN CERTIFICATE-----\nA")
    (folder / "root-next.pem").write_text("B\n")
    (folder / "root.key").write_text("secret")
    reach = api("GET", "/enrolment").json
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM enrolment_tokens")).scalar_one() == 0
    values = {"host": "alpha.example.org", "site": "berlin", "labels": {"os": "linux"}, "groups": ["edge"]}
    answer = api("POST", "/enrolment-tokens", values)
    assert answer.status_code == 201
    assert answer.json["ca_pem"] == "-----BEGIN CERTIFICATE-----\nA\nB\n"
    assert answer.json["enrolment"] == settings.public_enrolment
    assert answer.json["gateways"] == list(settings.public_gateways)
    assert answer.json["trust_domain"] == "streamswarm.local"
    assert reach == {name: answer.json[name] for name in ("ca_pem", "enrolment", "gateways", "trust_domain")}
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM enrolment_tokens")).one()
        assert bytes(row.token_hash) == hashlib.sha256(answer.json["token"].encode()).digest()
        assert (row.host_name, row.site, row.labels, row.groups) == (
            "alpha.example.org",
            "berlin",
            {"os": "linux"},
            ["edge"],
        )
        assert row.created_by == "token:a-admin"
        audit = str(connection.execute(text("SELECT detail FROM audit")).all())
        assert answer.json["token"] not in audit
    for host in ("", "-x", "a b", "a;b", "$(id)", "a\nb", "a\0b", "{{ x }}", "x" * 300):
        assert list(paths(api("POST", "/enrolment-tokens", {"host": host}))) == ["host"], host


def test_only_who_may_revoke_lets_a_revoked_worker_enrol_again(
    api: Api, app: Flask, token: Callable[[str], str], worker: str, settings: Settings
) -> None:
    """An operator's token would take the revocation back; of a host without a worker, or with a deleted one, it is good."""
    folder = settings.data_dir / "ca"
    folder.mkdir(parents=True)
    (folder / "root.pem").write_text("-----BEGIN CERTIFICATE-----\nA")
    operator, host = Api(app.test_client(), token("operator")), {"host": "alpha.example.org"}
    assert operator("POST", "/enrolment-tokens", host).status_code == 201
    api("POST", f"/workers/{worker}/revoke")
    refused = operator("POST", "/enrolment-tokens", host)
    assert refused.status_code == 403
    assert "was revoked" in refused.json["detail"]
    assert "administrator" in refused.json["mend"]
    assert operator("POST", "/enrolment-tokens", {"host": "beta.example.org"}).status_code == 201
    assert api("POST", "/enrolment-tokens", host).status_code == 201
    api("DELETE", f"/workers/{worker}")
    assert operator("POST", "/enrolment-tokens", host).status_code == 201


def test_the_audit_log_tells_who_changed_what(api: Api, app: Flask) -> None:
    """Newest first, page by page, by object; with the difference of the fields."""
    test = make_test(api)
    api("PATCH", f"/tests/{test['id']}", {"version": 1, "interval_s": 5})
    entries = api("GET", f"/audit?object_type=test&object_id={test['id']}").json["items"]
    assert [entry["action"] for entry in entries] == ["test.update", "test.create"]
    assert entries[0]["detail"] == {"name": "T", "interval_s": {"from": 2.0, "to": 5.0}}
    assert (entries[0]["actor"], entries[0]["address"]) == ("token:a-admin", "127.0.0.1")
    seen, cursor = [], ""
    while cursor is not None:
        page = api("GET", f"/audit?limit=1{f'&cursor={cursor}' if cursor else ''}").json
        seen += [entry["id"] for entry in page["items"]]
        cursor = page["next_cursor"]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(api("GET", "/audit").json["items"]) == 4
