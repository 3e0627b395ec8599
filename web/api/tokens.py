"""`/tokens`: people look after their own, administrators after all."""

from __future__ import annotations

from flask import Response, jsonify
from sqlalchemy.orm import Session

from controller.plain import plain
from controller.store.commands import tokens as commands
from controller.store.queries import tokens
from controller.store.queries.tokens import TokenRecord
from web.api import bodies
from web.api.asking import Query, asked_state, body
from web.api.blueprint import blueprint, listed, shown_state
from web.api.describing import described
from web.api.schemas import Named
from web.api.schemas import record as schema_of
from web.auth import Principal, principal, requires
from web.database import transaction
from web.errors import ForbiddenError

_SHOWN = schema_of(TokenRecord)
_MADE = Named(
    "made_token", schema_of(TokenRecord, token={"type": "string", "description": "In this answer only."})
)


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
            user_id=found.looks_after,
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


@blueprint.get("/tokens/<id:token_id>")
@requires("viewer")
@described(answers=_SHOWN, tagged=True)
def show_token(token_id: int) -> Response:
    """Show one token."""
    found = _caretaker()
    with transaction() as database:
        return _answer(_own(database, token_id, found))


@blueprint.patch("/tokens/<id:token_id>")
@requires("viewer")
@described(body=bodies.TOKEN_CHANGE, answers=_SHOWN, conflicts=True, tagged=True)
def update_token(token_id: int) -> Response:
    """Change name, description or end of a token."""
    found, values = _caretaker(), body()
    with transaction() as database:
        _own(database, token_id, found)
        record = commands.update(database, token_id, values, actor=found.actor, seen=asked_state())
    return _answer(record)


@blueprint.post("/tokens/<id:token_id>/regenerate")
@requires("viewer")
@described(body=bodies.NOTHING, body_optional=True, answers=_MADE, conflicts=True)
def regenerate_token(token_id: int) -> Response:
    """Give a token another secret; the answer is the only one that ever shows it."""
    found = _caretaker()
    body(optional=True)
    with transaction() as database:
        _own(database, token_id, found)
        record, token = commands.regenerate(database, token_id, actor=found.actor)
    return jsonify({**plain(record), "token": token})


@blueprint.post("/tokens/<id:token_id>/revoke")
@requires("viewer")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN, conflicts=True)
def revoke_token(token_id: int) -> Response:
    """End a token at once and for good."""
    found = _caretaker()
    body(optional=True)
    with transaction() as database:
        _own(database, token_id, found)
        record = commands.revoke(database, token_id, actor=found.actor)
    return jsonify(plain(record))


def _answer(record: TokenRecord) -> Response:
    return shown_state(record, plain(record), commands.CHANGEABLE)


def _caretaker() -> Principal:
    """Return who asks; a token that is not an administrator's cannot make tokens that outlive it."""
    found = principal()
    if found.by_token and not found.allows("admin"):
        raise ForbiddenError(
            f"the token `{found.name}` cannot look after tokens; its scope is {found.role}",
            mend="log in, or use a token of the scope admin",
        )
    return found


def _own(database: Session, token_id: int, asks: Principal) -> TokenRecord:
    """Return a token that the caller may look after; others' do not exist for them."""
    return tokens.get(database, token_id, user_id=asks.looks_after)
