"""What a call asks: its JSON body and its query, both checked whole, unknown names refused."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.routing import IntegerConverter

from controller.checking import MAX_ID, Checker
from controller.errors import ChangedError
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.targets import shown
from web.api.describing import current_description
from web.api.schemas import Schema
from web.errors import VersionMissingError

#: Largest body of a call, bytes.
MAX_BODY = 256 * 1024
_DEEPEST = 12
#: Floating-point numbers below are told apart from their neighbours.
_EXACT = 2.0**53
_NO_INSTANT = "must be an instant such as `2030-01-31T08:00:00Z`"
_TAG = re.compile(r'(?:W/)?"([^"]*)"\Z')
#: Longest range of time that one call may ask for: longer than anything was measured, and still reckoned at once.
LONGEST_RANGE = dt.timedelta(days=50 * 366)


class IdConverter(IntegerConverter):
    """An id in a path: a whole number that the database can hold.

    By its form alone: a number that is refused only when it is read makes a call with another method of the same path
    answer that it does not take this one, instead of that there is nothing.
    """

    regex = "[1-9][0-9]{0,17}"

    def __init__(self, map: Any) -> None:  # noqa: A002  werkzeug's name
        super().__init__(map, min=1, max=MAX_ID)


def body(*, optional: bool = False) -> Mapping[str, Any]:
    """Return the JSON object that was sent; an empty one for an empty body when that is allowed."""
    request.max_content_length = MAX_BODY
    if request.content_length is not None and request.content_length > MAX_BODY:
        raise RequestEntityTooLarge(f"The body has more than {MAX_BODY} bytes.")
    raw = request.get_data(cache=False)
    if optional and not raw:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with `Content-Type: application/json`.")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_number
        )
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not UTF-8.") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.") from error
    except ValueError as error:
        why = "a number has too many digits" if "int_max_str_digits" in str(error) else shown(str(error), 200)
        raise BadRequest(f"The body is not JSON: {why}.") from error
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    problems = list(_unstorable(value, "", 0))
    described = current_description().body
    if described is not None and not described["properties"]:
        problems += (
            Problem(path=shown(name), message="there is no such field; this call takes none")
            for name in value
        )
    elif described is not None:
        problems += _as_from_a_form(value, described, "")
    if problems:
        raise InvalidInputError(problems[:20])
    return value


def take_version(values: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Split the version that a change is based on off its fields: `version`, or else the header `If-Match`.

    None means any version (`If-Match: *`). Raises VersionMissingError when neither is there.
    """
    fields = dict(values)
    tag = asked_state()
    if "version" in fields:
        seen = fields.pop("version")
        if isinstance(seen, bool) or not isinstance(seen, int):
            raise InvalidInputError([Problem(path="version", message="must be a whole number")])
        return fields, seen
    if "If-Match" not in request.headers:
        raise VersionMissingError(
            "the change does not say which version it is based on, so a change of others could be lost",
            mend="send the `version` that you have read, or its `ETag` in the header `If-Match`",
        )
    if tag is None:
        return fields, None
    if not tag.isascii() or not tag.isdigit() or len(tag) >= 10:
        raise ChangedError(f"there is no version `{shown(tag)}`", mend="send the `ETag` that you have read")
    return fields, int(tag)


def asked_state() -> str | None:
    """Return the tag in the header `If-Match` that a change is based on; None for any state: no header, or `*`."""
    text = request.headers.get("If-Match", "*").strip()
    if text == "*":
        return None
    # Proxies that compress make weak tags of ours.
    found = _TAG.match(text)
    if found is None:
        raise BadRequest("The header If-Match must be `*` or one tag in quotes, as an `ETag` was sent.")
    return found[1]


@dataclass(frozen=True, kw_only=True)
class Paging:
    """Which part of a list is asked for."""

    limit: int
    cursor: str | None


class Query:
    """The query of a call as its view describes it; `done` refuses what is not in there and raises what was wrong."""

    def __init__(self) -> None:
        self._known = current_description().query
        self._checker = Checker(request.args.to_dict(), tuple(self._known))
        for name in request.args:
            if len(request.args.getlist(name)) > 1:
                self._checker.add(shown(name), "is there more than once")

    def text(self, name: str) -> str:
        """Return text, empty when absent."""
        return self._checker.text(name, longest=self._described(name, "string")["maxLength"])

    def instant(self, name: str) -> dt.datetime | None:
        """Return an instant, None when absent."""
        self._described(name, "string", "date-time")
        if self._checker.value(name) == "":
            self._checker.add(name, _NO_INSTANT)
        return self._checker.instant(name)

    def range(self, *, usual: dt.timedelta) -> tuple[dt.datetime, dt.datetime]:
        """Return `from` and `to`: up to now when `to` is absent, the usual length when `from` is."""
        start, end = self.instant("from"), self.instant("to")
        end = end or dt.datetime.now(dt.UTC)
        start = start or end - usual
        if end <= start:
            self.add("to", "must lie after `from`")
        elif end - start > LONGEST_RANGE:
            self.add("from", f"lies more than {LONGEST_RANGE.days} days before `to`")
        return start, end

    def flag(self, name: str) -> bool | None:
        """Return `true` or `false`, None when absent."""
        self._described(name, "boolean")
        value = self._checker.value(name)
        if value not in (None, "true", "false"):
            self._checker.add(name, "must be true or false")
        return None if value is None else value == "true"

    def id(self, name: str) -> int | None:
        """Return an id, None when absent."""
        self._described(name, "integer")
        value = self._checker.value(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > 19 or not 0 < int(value) <= MAX_ID:
            self._checker.add(name, "must be an id, a whole number")
            return None
        return int(value)

    def uuid(self, name: str) -> uuid.UUID | None:
        """Return a worker's id, None when absent."""
        self._described(name, "string", "uuid")
        value = self._checker.value(name)
        if value is None:
            return None
        try:
            return uuid.UUID(value)
        except ValueError:
            self._checker.add(name, f"`{shown(value)}` is not a worker's id")
            return None

    def paging(self) -> Paging:
        """Return limit and cursor."""
        described = self._described("limit", "integer")
        most, limit = described["maximum"], described["default"]
        value = self._checker.value("limit")
        if value is not None:
            if value.isascii() and value.isdigit() and len(value) < 6 and 1 <= int(value) <= most:
                limit = int(value)
            else:
                self._checker.add("limit", f"must be a whole number from 1 to {most}")
        return Paging(limit=limit, cursor=self._checker.value("cursor") or None)

    def add(self, path: str, message: str) -> None:
        """Note a fault that the call itself has found."""
        self._checker.add(path, message)

    def done(self) -> None:
        """Raise InvalidInputError when anything was wrong."""
        self._checker.done()

    def _described(self, name: str, sort: str, form: str | None = None) -> Schema:
        """Return what the view's description says of a parameter; it must be what the view reads it as."""
        schema = self._known[name]
        if (schema["type"], schema.get("format")) != (sort, form):
            raise TypeError(f"`{name}` is read as {form or sort} and described as {schema}")
        return schema


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same name twice")
    return result


def _number(text: str) -> float:
    """Return a number; one without a fraction as a whole one, however it is written: `5.0` is `5` in JSON."""
    value = float(text)
    return int(value) if abs(value) < _EXACT and value.is_integer() else value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _as_from_a_form(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Find text where a number or an instant is described: a form has nothing else to send, JSON has.

    Ids are left to those who look for what they name.
    """
    if isinstance(value, dict):
        for name, described in schema.get("properties", {}).items():
            if name in value:
                yield from _as_from_a_form(value[name], described, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value if "items" in schema else ()):
            yield from _as_from_a_form(inner, schema["items"], f"{path}[{index}]")
    elif isinstance(value, str) and {"number", "integer", "null"} >= _sorts(schema) != {"integer"}:
        yield Problem(path=path, message="must be a number, without quotes")
    elif value == "" and schema.get("format") == "date-time":
        yield Problem(path=path, message=f"{_NO_INSTANT}, or null")


def _sorts(schema: Schema) -> set[str]:
    """Return the types that a schema allows; where it tells none, one that no value has."""
    sorts = schema.get("type", "any")
    return {sorts} if isinstance(sorts, str) else set(sorts)


def _unstorable(value: Any, path: str, depth: int) -> Iterator[Problem]:
    """Find text that PostgreSQL cannot hold, wherever it is."""
    if depth > _DEEPEST:
        yield Problem(path=path, message=f"is nested more than {_DEEPEST} deep")
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            yield Problem(path=path, message="has a NUL or half a character, which no text may have")
    elif isinstance(value, dict):
        for key, inner in value.items():
            at = f"{path}.{shown(key)}" if path else shown(key)
            yield from _unstorable(key, at, depth)
            yield from _unstorable(inner, at, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unstorable(inner, f"{path}[{index}]", depth + 1)
