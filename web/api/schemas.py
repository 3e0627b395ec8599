"""JSON Schema of the API's objects, from the frozen records that it answers with and from the contract."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import re
import types
import typing
import uuid
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union

from streamswarm import contract
from streamswarm.schemas import children_schema, metrics_schema, spec_schema

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    dt.datetime: {"type": "string", "format": "date-time"},
    Any: {},
}
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_FIELD = re.compile(r"\s+(\w+)\s*:")


class Named(Schema):
    """A schema that stands once in the document, under its name, and is referred to wherever it is used.

    Programs that make clients from the document call their types by it. What is derived from it has no name.
    """

    def __init__(self, name: str, schema: Schema) -> None:
        super().__init__(schema)
        self.name = name


def record(cls: type, *, without: tuple[str, ...] = (), **more: Schema) -> Named:
    """Return the schema of a record as `plain` shows it: every field is there, and nothing else.

    `more` adds or replaces fields. The name is that of the class.
    """
    hints = typing.get_type_hints(cls)
    properties = {
        field.name: _described(_of_type(hints[field.name]), _comments(cls).get(field.name, ""))
        for field in dataclasses.fields(cls)
        if field.name not in without
    }
    name = _WORD.sub("_", cls.__name__.removesuffix("Record")).lower()
    return Named(name, closed({**properties, **more}))


def or_null(schema: Schema, description: str) -> Schema:
    """Return the schema of something that may also be null."""
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def closed(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """Return the schema of an object with these fields, all required but the optional ones, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def listed(items: Named) -> Named:
    """Return the schema of a list that always comes whole."""
    whole = closed({"items": {"type": "array", "items": items}, "next_cursor": {"type": "null"}})
    return Named(f"{items.name}_list", whole)


def page_of(items: Named) -> Named:
    """Return the schema of one page of a list."""
    cursor = {
        "type": ["string", "null"],
        "description": "Send it as `cursor` to go on; null on the last page.",
    }
    page = closed({"items": {"type": "array", "items": items}, "next_cursor": cursor})
    return Named(f"{items.name}_page", page)


def kind_specs() -> Schema:
    """Return the schema of the parameters of any kind."""
    return {"anyOf": [_ref(f"{kind.name}_spec") for kind in contract.kinds().values()]}


def whole_specs() -> Schema:
    """Return the schema of all parameters of any kind, as answers have them.

    All are required, so that programs can tell from them of which kind they are.
    """
    return {
        "anyOf": [
            Named(f"whole_{kind.name}_spec", {**schema, "required": list(schema["properties"])})
            for kind in contract.kinds().values()
            for schema in [spec_schema(kind)]
        ]
    }


def kind_metrics() -> Schema:
    """Return the schema of the metrics of any kind."""
    return {"anyOf": [_ref(f"{kind.name}_metrics") for kind in contract.kinds().values()]}


def components() -> dict[str, Schema]:
    """Return the schemas that are referred to by name from anywhere: parameters, metrics and groups of each kind, and an error."""
    found: dict[str, Schema] = {}
    for kind in contract.kinds().values():
        metrics = metrics_schema(kind)
        found[f"{kind.name}_spec"] = spec_schema(kind)
        found[f"{kind.name}_metrics"] = {
            **metrics,
            "required": list(metrics["properties"]),
            "additionalProperties": False,
        }
        found[f"{kind.name}_children"] = children_schema(kind)
    fault = Named("fault", closed({"path": {"type": "string"}, "message": {"type": "string"}}))
    found["problem"] = {
        **closed(
            {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string", "description": "What happened."},
                "mend": {"type": "string", "description": "What to do."},
                "errors": {"type": "array", "items": fault, "description": "Every fault of an input."},
                "reference": {"type": "string", "description": "Under which the log has more."},
            },
            optional=("mend", "errors", "reference"),
        ),
        "description": "Problem details (RFC 9457).",
    }
    return found


def problem() -> Schema:
    """Return the schema of an error."""
    return _ref("problem")


def gathered(value: Any, found: dict[str, Schema]) -> Any:
    """Return a part of the document with references in place of what has a name, which comes into `found`.

    TypeError when one name stands for two schemas.
    """
    if isinstance(value, Mapping):
        plain = {key: gathered(part, found) for key, part in value.items()}
        if not isinstance(value, Named):
            return plain
        if found.setdefault(value.name, plain) != plain:
            raise TypeError(f"two schemas of the API are named {value.name} (web.api.schemas.Named)")
        return _ref(value.name)
    return [gathered(part, found) for part in value] if isinstance(value, list) else value


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: Schema, comment: str) -> Schema:
    if comment and isinstance(schema, Named):
        return {"allOf": [schema], "description": comment}
    return {**schema, "description": comment} if comment else schema


def _of_type(hint: Any) -> Schema:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union([_of_type(argument) for argument in arguments])
    if origin is tuple:
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_type(arguments[1])}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return record(hint)
    raise TypeError(f"{hint} has no schema")


def _union(schemas: list[Schema]) -> Schema:
    if all(set(schema) == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    [*others, last] = schemas
    alone = len(others) == 1 and not isinstance(others[0], Named)
    if last == {"type": "null"} and alone and isinstance(others[0].get("type"), str):
        return {**others[0], "type": [others[0]["type"], "null"]}
    return {"anyOf": schemas}


@cache
def _comments(cls: type) -> Mapping[str, str]:
    """Return what stands in `#:` lines before the fields of a record."""
    found: dict[str, str] = {}
    said: list[str] = []
    for line in inspect.getsource(cls).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            said.append(text[2:].strip())
            continue
        match = _FIELD.match(line)
        if match and said:
            found[match[1]] = " ".join(said)
        said = []
    return found
