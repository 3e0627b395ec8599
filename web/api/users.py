"""`/users`: for administrators."""

from __future__ import annotations

from flask import Response, jsonify

from controller.checking import Checker
from controller.plain import plain
from controller.store.commands import login_links
from controller.store.commands import users as commands
from controller.store.queries import users
from controller.store.queries.users import UserRecord
from web.api import bodies
from web.api.asking import Query, asked_state, body
from web.api.blueprint import blueprint, listed, shown_state
from web.api.describing import TEXT, described, said
from web.api.schemas import Named, closed
from web.api.schemas import record as schema_of
from web.auth import principal, requires
from web.database import transaction

_SHOWN = schema_of(UserRecord, without=("session_generation",))


@blueprint.get("/users")
@requires("admin")
@described(
    query={"search": said(TEXT, "A part of the name or the e-mail address.")}, paged=True, answers=_SHOWN
)
def list_users() -> Response:
    """List users by name."""
    query = Query()
    search, paging = query.text("search"), query.paging()
    query.done()
    with transaction() as database:
        page = users.find(database, search=search, limit=paging.limit, cursor=paging.cursor)
    return listed(page, _shown)


@blueprint.post("/users")
@requires("admin")
@described(body=bodies.USER, answers=_SHOWN, status=201, conflicts=True, tagged=True)
def create_user() -> Response:
    """Make a user."""
    values = body()
    with transaction() as database:
        record = commands.create(database, values, actor=principal().actor)
    return _answer(record, 201)


@blueprint.get("/users/<id:user_id>")
@requires("admin")
@described(answers=_SHOWN, tagged=True)
def show_user(user_id: int) -> Response:
    """Show one user."""
    with transaction() as database:
        return _answer(users.get(database, user_id))


@blueprint.patch("/users/<id:user_id>")
@requires("admin")
@described(body=bodies.USER_CHANGE, answers=_SHOWN, conflicts=True, tagged=True)
def update_user(user_id: int) -> Response:
    """Change name, e-mail address, role or activation."""
    values, found = body(), principal()
    with transaction() as database:
        record = commands.update(
            database, user_id, values, actor=found.actor, by_user=found.user_id, seen=asked_state()
        )
    return _answer(record)


@blueprint.delete("/users/<id:user_id>")
@requires("admin")
@described(status=204, conflicts=True)
def delete_user(user_id: int) -> tuple[str, int]:
    """Delete a user with the user's tokens."""
    found = principal()
    with transaction() as database:
        commands.delete(database, user_id, actor=found.actor, by_user=found.user_id)
    return "", 204


@blueprint.post("/users/<id:user_id>/password")
@requires("admin")
@described(body=bodies.PASSWORD, answers=_SHOWN)
def set_password(user_id: int) -> Response:
    """Give a user another password, which ends the user's sessions."""
    checker = Checker(body(), ("password",))
    password = checker.value("password")
    if not isinstance(password, str):
        checker.add("password", "must be text")
    checker.done()
    with transaction() as database:
        record = commands.set_password(database, user_id, password, actor=principal().actor)
    return jsonify(_shown(record))


@blueprint.post("/users/<id:user_id>/end-sessions")
@requires("admin")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN)
def end_sessions(user_id: int) -> Response:
    """Log a user out on every browser."""
    body(optional=True)
    with transaction() as database:
        record = commands.end_sessions(database, user_id, actor=principal().actor)
    return jsonify(_shown(record))


@blueprint.post("/users/<id:user_id>/login-link")
@requires("admin")
@described(
    body=bodies.LINK,
    body_optional=True,
    answers=Named("login_link", closed({"path": {"type": "string"}, "minutes": {"type": "number"}})),
    status=201,
    conflicts=True,
)
def create_login_link(user_id: int) -> tuple[Response, int]:
    """Make a one-time link that logs the user in."""
    checker = Checker(body(optional=True), ("minutes",))
    minutes = checker.number("minutes", smallest=1, largest=24 * 60, unit="min") or 15.0
    checker.done()
    with transaction() as database:
        name = users.get(database, user_id).name
        token = login_links.create_login_link(database, name, minutes=minutes, actor=principal().actor)
    return jsonify({"path": f"{login_links.PATH}{token}", "minutes": minutes}), 201


def _answer(record: UserRecord, status: int = 200) -> Response:
    return shown_state(record, _shown(record), commands.FIELDS, status)


def _shown(record: UserRecord) -> dict[str, object]:
    shown: dict[str, object] = plain(record)
    del shown["session_generation"]
    return shown
