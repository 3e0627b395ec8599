"""`/tokens`: people look after their own, administrators after all."""

from __future__ import annotations

from typing import NoReturn

from flask import Response, jsonify

from controller.errors import NotFoundError
from controller.store.commands import tokens as commands
from controller.store.queries import tokens
from controller.store.queries.tokens import TokenRecord
from web.api import bodies
from web.api.asking import Query, body
from web.api.blueprint import blueprint, listed
from web.api.describing import described
from web.api.plain import plain
from web.api.schemas import record as schema_of
from web.auth import Principal, principal, requires
from web.database import transaction
from web.errors import ForbiddenError

_SHOWN = schema_of(TokenRecord)
_MADE = schema_of(TokenRecord, token={"type": "string", "description": "In this answer only."})


@blueprint.get("/tokens")
@requires("viewer")
@described(paged=True, answers=_SHOWN)
def list_tokens() -> Response:
    """List tokens, newest first: the caller's own, or all for an administrator."""
    found = _caretaker()
    query = Query()
    paging = query.paging()
    query.done()
    with transaction() as database:
        page = tokens.find(
            database,
            user_id=None if found.allows("admin") else found.user_id,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page)


@blueprint.post("/tokens")
@requires("viewer")
@described(body=bodies.TOKEN, answers=_MADE, status=201)
def create_token() -> tuple[Response, int]:
    """Make a token; the answer is the only one that ever shows it."""
    found = _caretaker()
    values = body()
    with transaction() as database:
        record, token = commands.create(
            database, values, actor=found.actor, user_id=found.user_id, role=found.role
        )
    return jsonify({**plain(record), "token": token}), 201


@blueprint.post("/tokens/<id:token_id>/revoke")
@requires("viewer")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN, conflicts=True)
def revoke_token(token_id: int) -> Response:
    """End a token at once and for good."""
    found = _caretaker()
    body(optional=True)
    with transaction() as database:
        record = tokens.get(database, token_id)
        if not found.allows("admin") and (found.user_id is None or record.user_id != found.user_id):
            _hide(token_id)
        record = commands.revoke(database, token_id, actor=found.actor)
    return jsonify(plain(record))


def _caretaker() -> Principal:
    """Return who asks; a token that is not an administrator's cannot make tokens that outlive it."""
    found = principal()
    if found.by_token and not found.allows("admin"):
        raise ForbiddenError(
            f"the token `{found.name}` cannot look after tokens; its scope is {found.role}",
            mend="log in, or use a token of the scope admin",
        )
    return found


def _hide(token_id: int) -> NoReturn:
    # As if it did not exist: others' tokens are nobody's business.
    raise NotFoundError(f"there is no token {token_id}", mend="list the tokens")
