"""Log in by name and password or by a one-time link; log out."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from controller.store.commands import audit, login_links, logins
from controller.store.commands.logins import LockedError
from streamswarm.targets import shown
from web.auth import sessions
from web.auth.principal import client_address, current
from web.auth.roles import public
from web.database import transaction
from web.limits import LOGINS, Limits

blueprint = Blueprint("auth", __name__)

_LONGEST_NAME = 200
_LONGEST_PASSWORD = 1000


@blueprint.get("/login")
@public
def login() -> str | BaseResponse:
    """Show the form."""
    wanted = local_path(request.args.get("next", ""))
    if current() is not None:
        return redirect(wanted or url_for("pages.overview"))
    return render_template("login.html", problem="", next=wanted, name="")


@blueprint.post("/login", endpoint="log_in")
@public
def log_in() -> tuple[str, int] | BaseResponse:
    """Check name and password and begin a session."""
    name = request.form.get("name", "").strip()[:_LONGEST_NAME]
    password = request.form.get("password", "")[:_LONGEST_PASSWORD]
    wanted = local_path(request.form.get("next", ""))
    _limits().hit(LOGINS, "login", client_address())
    try:
        user = logins.log_in(transaction, name, password, client_address())
        problem, status = "Name or password is wrong.", 401
    except LockedError as error:
        user = None
        problem, status = f"{error.message[:1].upper()}{error.message[1:]}: {error.mend}.", 429
    if user is None:
        page = render_template("login.html", problem=problem, next=wanted, name=shown(name, _LONGEST_NAME))
        return page, status
    sessions.start(user)
    return redirect(wanted or url_for("pages.overview"))


@blueprint.get("/login/once/<token>")
@public
def login_link(token: str) -> tuple[str, int]:
    """Show the button that uses the link up: programs that look into links before people do press none."""
    with transaction() as database:
        user = login_links.user_of(database, token)
    if user is None:
        return _spent()
    return render_template("login_link.html", user=user), 200


@blueprint.post("/login/once/<token>")
@public
def use_login_link(token: str) -> tuple[str, int] | BaseResponse:
    """Use the link up and begin a session."""
    _limits().hit(LOGINS, "login", client_address())
    with transaction() as database:
        user = login_links.consume(database, token, address=client_address())
    if user is None:
        return _spent()
    sessions.start(user)
    return redirect(url_for("pages.overview"))


@blueprint.post("/logout")
@public
def logout() -> BaseResponse:
    """End the session of this browser."""
    found = current()
    with transaction() as database:
        if found is not None:
            audit.record(database, found.actor, "logout", "user", found.user_id or "", {"name": found.name})
        sessions.end(database)
    return redirect(url_for("auth.login"))


def local_path(wanted: str) -> str:
    """Return a path on this dashboard to go to after the login; empty when it leads anywhere else."""
    if not wanted.startswith("/") or wanted.startswith(("//", "/\\")) or "\\" in wanted:
        return ""
    if any(not character.isprintable() or character.isspace() for character in wanted):
        return ""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return ""
    if parts.scheme or parts.netloc or parts.path.startswith(("/login", "/logout", "/live", "/api/")):
        return ""
    return wanted


def _spent() -> tuple[str, int]:
    page = render_template(
        "errors/error.html",
        status=410,
        title="This link is spent",
        message="It has been used, has expired, or was never made.",
        mend="log in with name and password, or make another: streamswarm user login-link",
        reference="",
    )
    return page, 410


def _limits() -> Limits:
    found: Limits = current_app.extensions["streamswarm.limits"]
    return found
