"""Pages of users, API tokens, the audit log and the visitor's own profile."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.store.entities import ApiToken, User
from controller.store.queries import users
from streamswarm import zones

PASSWORD = "correct horse battery"


def user_of(engine: Engine, name: str) -> Any:
    """Return a user's record."""
    with Session(engine) as session:
        found = users.by_name(session, name)
    assert found is not None
    return found


@pytest.fixture
def admin(visit: Callable[[str], Any]) -> Any:
    """An administrator."""
    return visit("admin")


def test_a_long_list_of_users_comes_piece_by_piece(admin: Any, engine: Engine) -> None:
    """What follows is asked for at the end of what is there, and suits the search."""
    with Session(engine) as session, session.begin():
        session.add_all(
            User(name=f"user{number:02}", role="viewer", password_hash="") for number in range(52)
        )
    first = admin.get("/users?q=user")
    more = re.search(r'hx-get="(/users\?[^"]*)"[^>]*>Show more', first)
    assert more
    assert first.count('class="name"') == 50
    rest = admin.fragment(html.unescape(more[1]))
    assert re.findall(r">(user\d+)</a>", rest) == ["user50", "user51"]
    assert "Show more" not in rest


def test_a_user_is_made_changed_and_deleted(admin: Any, engine: Engine) -> None:
    """Through the forms; what is wrong is told at its field, and the password is never sent back."""
    wrong = admin.post("/users/new", {"name": "a b", "role": "viewer", "password": "x"}, form="/users/new")
    assert wrong.status_code == 422
    text = wrong.get_data(as_text=True)
    assert "must be letters, digits" in text
    assert "must have at least" in text
    assert 'value="x"' not in text
    values = {"name": "Grace", "email": "grace@example.org", "role": "operator", "password": PASSWORD}
    assert admin.post("/users/new", values, form="/users/new").location == "/users"
    grace = user_of(engine, "grace")
    assert (grace.role, grace.email, grace.active) == ("operator", "grace@example.org", True)
    path = f"/users/{grace.id}"
    change = {"name": "Grace", "email": "", "role": "viewer"}
    assert admin.post(path, change, form=path).location == path
    assert (user_of(engine, "grace").role, user_of(engine, "grace").active) == ("viewer", False)
    assert "deactivated" in admin.fragment("/users?q=grace")
    assert "Nothing found" in admin.fragment("/users?q=nobody")
    assert admin.post(f"{path}/delete", form=path).location == "/users"
    with Session(engine) as session:
        assert users.by_name(session, "grace") is None


def test_administrators_cannot_take_away_their_own_rights(admin: Any, engine: Engine) -> None:
    """The form says why, and nothing is changed."""
    own = user_of(engine, "the-admin")
    path = f"/users/{own.id}"
    refused = admin.post(path, {"name": own.name, "role": "viewer", "active": "yes"}, form=path)
    assert refused.status_code == 422
    assert "administrators cannot demote or deactivate themselves" in refused.get_data(as_text=True)
    admin.post(f"{path}/delete", form=path)
    assert "administrators cannot delete themselves" in admin.get(path)
    assert user_of(engine, "the-admin").role == "admin"


def test_a_password_and_a_link_let_somebody_in(
    admin: Any, engine: Engine, make_user: Callable[..., None], app: Any
) -> None:
    """Another password ends sessions; a link is in one answer, and logs in once."""
    make_user("grace", "viewer")
    grace = user_of(engine, "grace")
    path = f"/users/{grace.id}"
    refused = admin.post(f"{path}/password", {"password": "short"}, form=path)
    assert refused.status_code == 422
    assert "must have at least" in refused.get_data(as_text=True)
    assert admin.post(f"{path}/password", {"password": "another good one"}, form=path).location == path
    assert user_of(engine, "grace").session_generation > grace.session_generation
    shown = admin.post(f"{path}/login-link", form=path)
    assert shown.headers["Cache-Control"] == "no-store"
    (link,) = re.findall(r"http://[^/]+(/login/once/[\w-]+)", shown.get_data(as_text=True))
    assert link not in admin.get(path)
    with app.test_client() as stranger:
        assert "Go on" in stranger.get(link).get_data(as_text=True)
    assert admin.post(f"{path}/end-sessions", form=path).location == path


def test_a_token_is_shown_once(operator: Any, engine: Engine, app: Any) -> None:
    """It works, is kept as a hash, is given another secret, and is refused when revoked."""
    assert "No tokens yet" in operator.get("/tokens")
    refused = operator.post("/tokens", {"name": "ci", "scope": "admin"}, form="/tokens")
    assert refused.status_code == 422
    assert "is more than your own role" in refused.get_data(as_text=True)
    made = operator.post("/tokens", {"name": "ci", "scope": "operator", "expires_at": ""}, form="/tokens")
    assert made.headers["Cache-Control"] == "no-store"
    (secret,) = set(re.findall(r'id="secret">(ssw_[\w-]{43})<', made.get_data(as_text=True)))
    assert secret not in operator.get("/tokens")

    def status(token: str) -> int:
        client = app.test_client()
        return int(client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code)

    assert status(secret) == 200
    with Session(engine) as session:
        token_id = session.scalars(select(ApiToken.id).where(ApiToken.name == "ci")).one()
    path = f"/tokens/{token_id}"
    another = operator.post(f"{path}/regenerate", form=path).get_data(as_text=True)
    (fresh,) = set(re.findall(r'id="secret">(ssw_[\w-]{43})<', another))
    assert (status(secret), status(fresh)) == (401, 200)
    change = {"name": "ci of main", "description": "builds", "expires_at": "2000-01-01T00:00:00Z"}
    assert "must lie in the future" in operator.post(path, change, form=path).get_data(as_text=True)
    assert operator.post(path, {**change, "expires_at": ""}, form=path).location == "/tokens"
    assert "ci of main" in operator.get("/tokens")
    assert operator.post(f"{path}/revoke", form="/tokens").location == "/tokens"
    assert status(fresh) == 401
    assert "refused since" in operator.get(path)
    operator.post(f"{path}/regenerate", form="/tokens")
    assert "is revoked already" in operator.get("/tokens")


def test_tokens_of_others_do_not_exist(operator: Any, viewer: Any, admin: Any, engine: Engine) -> None:
    """Neither to see nor to end; an administrator has them all."""
    with Session(engine) as session, session.begin():
        owner = user_of(engine, "the-operator").id
        values = {"name": "ci", "scope": "viewer"}
        token_id = tokens.create(session, values, actor=SYSTEM, user_id=owner, role="operator")[0].id
    assert "ci" in operator.get("/tokens")
    assert "No tokens yet" in viewer.get("/tokens")
    assert viewer.client.get(f"/tokens/{token_id}").status_code == 404
    for what in ("", "/revoke", "/regenerate"):
        assert viewer.post(f"/tokens/{token_id}{what}", {"name": "x"}, form="/tokens").status_code == 404
    assert "the-operator" in admin.get("/tokens")
    assert admin.post(f"/tokens/{token_id}/revoke", form="/tokens").location == "/tokens"


def test_the_audit_log_tells_who_changed_what(admin: Any, rows: Any, engine: Engine) -> None:
    """The newest first, with what was before; filters narrow it, and its end asks for what follows."""
    test = rows.test("<b>Uptime</b>", "system")
    path = f"/tests/{test}"
    admin.post(f"{path}/pause", form=path)
    page = admin.get("/audit")
    assert "test.pause" in page
    assert "user:the-admin" in page
    assert f'href="{path}"' in page
    assert "&lt;b&gt;Uptime&lt;/b&gt;" in page
    ours = admin.fragment("/audit?actor=user:the-admin&type=test")
    assert "test.pause" in ours
    assert "test.create" not in ours
    assert "<html" not in ours
    assert "Nothing found" in admin.fragment("/audit?actor=nobody")
    with Session(engine) as session, session.begin():
        for number in range(60):
            tokens.create(
                session, {"name": f"t{number}", "scope": "viewer"}, actor=SYSTEM, user_id=None, role="admin"
            )
    first = admin.get("/audit?type=token")
    assert first.count("token.create") == 50
    (address,) = re.findall(r'hx-get="(/audit\?cursor[^"]+)"', first)
    assert admin.fragment(address.replace("&amp;", "&")).count("token.create") == 10


def test_somebody_changes_their_own_password(
    open_window: Callable[..., Any], make_user: Callable[..., None], engine: Engine
) -> None:
    """This browser stays logged in, the other is sent to the login; a wrong password is told at its field."""
    make_user("grace", "viewer")
    here, there = open_window(), open_window()
    page = here.log_in("grace")
    there.log_in("grace")
    page.get_by_role("link", name="grace").click()
    page.get_by_label("Password now").fill("not this one")
    page.get_by_label("New password", exact=True).fill("battery staple")
    page.get_by_label("New password again").fill("battery staple")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_label("Password now")).to_have_attribute("aria-invalid", "true")
    here.troubles.clear()  # the 422 is in the console too
    page.get_by_label("Password now").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("battery staple")
    page.get_by_label("New password again").fill("battery staples")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_label("New password again")).to_have_attribute("aria-invalid", "true")
    here.troubles.clear()
    page.get_by_label("Password now").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("battery staple")
    page.get_by_label("New password again").fill("battery staple")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("status").filter(has_text="Your password is changed")).to_be_visible()
    there.open("/tests")
    expect(there.page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_role("button", name="End other sessions").click()
    expect(page.get_by_role("status").filter(has_text="are ended")).to_be_visible()
    assert here.troubles == []


def test_an_administrator_makes_a_user_and_a_token_in_the_browser(
    open_window: Callable[..., Any], engine: Engine
) -> None:
    """From the navigation to the one page that shows the secret."""
    window = open_window()
    page = window.log_in()
    page.get_by_role("link", name="Users", exact=True).click()
    page.get_by_role("link", name="New user").click()
    page.get_by_label("Name", exact=True).fill("grace")
    page.get_by_label("Role").select_option("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_role("row", name="grace")).to_contain_text("operator")
    page.get_by_role("link", name="API tokens", exact=True).click()
    page.get_by_label("Name", exact=True).fill("ci")
    page.get_by_role("button", name="Make token").click()
    expect(page.locator("#secret")).to_contain_text("ssw_")
    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_role("row", name="ci")).to_contain_text("good")
    page.get_by_role("link", name="Audit log", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="token.create").first).to_contain_text("user:ada")
    with Session(engine) as session:
        assert session.scalars(select(User.role).where(User.name == "grace")).one() == "operator"
    assert window.troubles == []


def test_time_and_numbers_are_shown_as_somebody_likes(
    open_window: Callable[..., Any], rows: Any, make_user: Callable[..., None]
) -> None:
    """The zone of the profile rules charts, forms and titles, and its form of numbers every page."""
    make_user("grace", "operator")
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Round trip", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=20)
    rows.run(job, at, rtt_avg_ms=1500.0)
    window = open_window(timezone_id="UTC")
    page = window.log_in("grace")
    page.get_by_role("link", name="grace").click()
    page.get_by_label("Time zone").fill("Mars")
    page.get_by_label("Numbers").select_option(label="1.234,5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Time zone")).to_have_attribute("aria-invalid", "true")
    window.troubles.clear()  # the 422 is in the console too
    page.get_by_label("Time zone").fill("Asia/Kathmandu")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    window.open(f"/tests/{test}")
    expect(page.locator(".chart-legend").first).to_contain_text("1.500")
    expect(page.locator("#results tbody")).to_contain_text("1.500")
    there = at.astimezone(zones.load("Asia/Kathmandu"))
    page.get_by_text("As a table").first.click()
    expect(page.get_by_role("region", name="Values of Round-trip time")).to_contain_text(f"{there:%H:%M:%S}")
    title = page.locator("#results tbody time").first.get_attribute("title")
    assert title is not None
    assert f"{there:%Y-%m-%d %H:%M:%S}" in title
    window.open("/reports")
    page.get_by_role("radio", name="From … to").check()
    page.locator("#field-from-shown").fill("2026-03-01T12:00")
    page.locator("#field-from-shown").blur()
    assert page.locator("#field-from").input_value() == "2026-03-01T06:15:00.000Z"
    assert window.troubles == []
