"""What each call takes and answers, said once beside its view: the check of queries and the OpenAPI document read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import current_app, request

from controller.store.queries.paging import DEFAULT_LIMIT, MAX_LIMIT
from web.api.schemas import Named, Schema, page_of

View = TypeVar("View", bound=Callable[..., Any])

_MARK = "streamswarm_description"

#: Printable text on one line; the same with more than spaces in it; and the same on several lines.
LINE = r"^[^\x00-\x1f\x7f-\x9f\xad\u2028\u2029]*$"
NAMED = r"^[ \xa0]*[^\x00-\x20\x7f-\xa0\xad\u2028\u2029][^\x00-\x1f\x7f-\x9f\xad\u2028\u2029]*$"
LINES = r"^[^\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad]*$"

TEXT: Schema = {"type": "string", "maxLength": 200, "pattern": LINE}
FLAG: Schema = {"type": "boolean"}
ID: Schema = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
UUID: Schema = {"type": "string", "format": "uuid"}
#: What is no JSON.
FILE: Schema = {}
INSTANT: Schema = {"type": "string", "format": "date-time"}
PAGING: Mapping[str, Schema] = {
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_LIMIT,
        "default": DEFAULT_LIMIT,
        "description": "Size of the page.",
    },
    "cursor": {"type": "string", "format": "cursor", "description": "`next_cursor` of the page before."},
}


def one_of(words: Iterable[str]) -> Schema:
    """Return the schema of a parameter that is one of some words, or empty for the first of them."""
    return {"type": "string", "maxLength": 200, "enum": ["", *words]}


def said(schema: Schema, description: str) -> Schema:
    """Return a schema with a description."""
    return {**schema, "description": description}


@dataclass(frozen=True, kw_only=True)
class Description:
    """One call."""

    #: Parameters of the query by name; all are optional.
    query: Mapping[str, Schema] = field(default_factory=dict)
    #: Schema of the JSON body; None when the call takes none.
    body: Schema | None = None
    #: Whether the body may be left out.
    body_optional: bool = False
    #: Schema of the answer; None when it is empty.
    answers: Schema | None = None
    #: Status of a good answer.
    status: int = 200
    #: Type of the answer's content.
    content: str = "application/json"
    #: Further statuses that carry an answer like the good one.
    also: Mapping[int, str] = field(default_factory=dict)
    #: Whether the call may meet a conflict.
    conflicts: bool = False
    #: Whether the answer carries an ETag; then a change takes it as `If-Match`.
    tagged: bool = False


def described(
    *,
    query: Mapping[str, Schema] | None = None,
    paged: bool = False,
    body: Schema | None = None,
    body_optional: bool = False,
    answers: Schema | None = None,
    status: int = 200,
    content: str = "application/json",
    also: Mapping[int, str] | None = None,
    conflicts: bool = False,
    tagged: bool = False,
) -> Callable[[View], View]:
    """Describe a view. `paged` adds `limit` and `cursor` and makes the answer a page of `answers`."""
    if paged:
        if not isinstance(answers, Named):
            raise TypeError("a page is of something that has a name (web.api.schemas.Named)")
        answers = page_of(answers)
    description = Description(
        query={**(query or {}), **(PAGING if paged else {})},
        body=body,
        body_optional=body_optional,
        answers=answers,
        status=status,
        content=content,
        also=also or {},
        conflicts=conflicts,
        tagged=tagged,
    )

    def mark(view: View) -> View:
        setattr(view, _MARK, description)
        return view

    return mark


def description_of(view: Callable[..., Any]) -> Description | None:
    """Return what is said about a view, None when nothing is."""
    found: Description | None = getattr(view, _MARK, None)
    return found


def current_description() -> Description:
    """Return the description of the call under way; TypeError when it has none."""
    found = description_of(current_app.view_functions[request.endpoint or ""])
    if found is None:
        raise TypeError(f"the view {request.endpoint} is not described (web.api.describing)")
    return found
