"""`/enrolment` and `/enrolment-tokens`: what a host needs to reach the controller and to enrol, for provisioning."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

from flask import Response, current_app, jsonify

from controller.checking import Checker
from controller.plain import instant
from controller.roots import trusted_roots
from controller.settings import Settings
from controller.store import run_time
from controller.store.commands.enrolment import RevokedError, make_enrolment_token
from streamswarm.contract import InvalidInputError, Problem
from web.api import bodies
from web.api.asking import body
from web.api.blueprint import blueprint
from web.api.describing import INSTANT, described
from web.api.schemas import Named, closed
from web.auth import principal, requires
from web.database import transaction
from web.errors import ForbiddenError

_TEXT = {"type": "string"}
_REACH: dict[str, Any] = {
    "ca_pem": _TEXT,
    "enrolment": {"type": "string", "description": "`host:port` where hosts enrol."},
    "gateways": {"type": "array", "items": _TEXT},
    "trust_domain": _TEXT,
}
_GRANT = Named(
    "enrolment_token",
    closed(
        {
            "token": {"type": "string", "description": "Good once, for this host; in this answer only."},
            "host": _TEXT,
            "expires_at": INSTANT,
            **_REACH,
        }
    ),
)


@blueprint.get("/enrolment")
@requires("operator")
@described(answers=Named("enrolment", closed(_REACH)))
def show_enrolment() -> Response:
    """Tell how workers reach the controller and whom they trust; makes no token."""
    return jsonify(_reach())


@blueprint.post("/enrolment-tokens")
@requires("operator")
@described(body=bodies.ENROLMENT, answers=_GRANT, status=201)
def create_enrolment_token() -> tuple[Response, int]:
    """Make a one-time token for one host of the inventory, and tell where to enrol with it.

    For a host whose worker was revoked it takes the role `admin`, as revoking does.
    """
    checker = Checker(body(), ("host", "site", "labels", "groups"))
    host = checker.text("host", longest=253, required=True)
    site = checker.value("site")
    site = "" if site in ("", None) else "".join(checker.words_of("site", [site]))
    labels, groups = checker.labels("labels"), checker.words("groups")
    checker.done()
    reach = _reach()
    with transaction() as database:
        minutes = run_time.value_of(database, _settings(), "enrolment_token_minutes")
        try:
            token = make_enrolment_token(
                database,
                host,
                minutes=minutes,
                actor=principal().actor,
                site=site,
                labels=labels,
                groups=groups,
                may_revoke=principal().allows("admin"),
            )
        except RevokedError as error:
            raise ForbiddenError(error.message, mend=error.mend) from error
        except InvalidInputError as error:
            raise InvalidInputError(
                [
                    Problem(
                        path="host" if problem.path == "host_name" else problem.path, message=problem.message
                    )
                    for problem in error.problems
                ]
            ) from error
    return (
        jsonify(
            {
                "token": token,
                "host": host,
                "expires_at": instant(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)),
                **reach,
            }
        ),
        201,
    )


def _settings() -> Settings:
    return cast("Settings", current_app.extensions["streamswarm.settings"])


def _reach() -> dict[str, Any]:
    settings = _settings()
    return {
        "ca_pem": trusted_roots(settings.data_dir),
        "enrolment": settings.public_enrolment,
        "gateways": list(settings.public_gateways),
        "trust_domain": settings.trust_domain,
    }
