"""`/openapi.json`: the OpenAPI 3.1 document of the API, made from what its views say of themselves."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, jsonify
from werkzeug.routing import Rule

from streamswarm import __version__
from web.api.blueprint import blueprint
from web.api.describing import ID, UUID, Description, described, description_of
from web.api.schemas import Named, Schema, components, gathered, problem
from web.auth import public
from web.auth.roles import PUBLIC, needed_role

_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")
_CONVERTERS: dict[str, Schema] = {"id": ID, "uuid": UUID, "": {"type": "string"}}
_PREFIX = "/api/v1"
DOCUMENT: Schema = {"type": "object", "required": ["openapi", "info", "paths"]}
_ABOUT = """\
Everything that the dashboard does, for machines. Unknown fields are refused, in bodies and in queries, and all faults of
an input come in one answer. Instants are ISO 8601 with a zone, of the years 2000 to 2199. What was not measured is null, never 0. Lists come in
pages: send `next_cursor` as `cursor` to go on."""


@blueprint.get("/openapi.json")
@public
@described(answers=DOCUMENT)
def show_openapi() -> Response:
    """Show this document."""
    # For everybody: it says nothing that the source does not, and generators fetch it without a token.
    return jsonify(document(current_app))


def document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(routes(app), key=lambda rule: rule.rule):
        methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        for method in methods:
            paths.setdefault(path_of(rule), {})[method.lower()] = _operation(app, rule, method)
    schemas: dict[str, Schema] = {}
    for name, schema in components().items():
        gathered(Named(name, schema), schemas)
    paths = gathered(paths, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "StreamSwarm",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "servers": [{"url": _PREFIX}],
        "security": [{"token": []}],
        "tags": [
            {"name": name} for name in dict.fromkeys(_tag(rule) for rule in sorted(routes(app), key=str))
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token that begins with `ssw_`. Its scope is a role: viewer, operator or admin.",
                }
            },
            "headers": {
                "ETag": _text_header(
                    "The state of the object, for `If-Match` of a change that is based on it."
                ),
                "RateLimit": _text_header('What is left of the limit: `"calls";r=599;t=12`.'),
                "RateLimit-Policy": _text_header('The limit: `"calls";q=600;w=60`.'),
                "Retry-After": {
                    "schema": {"type": "integer"},
                    "description": "Seconds after which trying again makes sense.",
                },
            },
            "responses": {
                name: {
                    "description": text,
                    "content": {"application/problem+json": {"schema": problem()}},
                }
                for name, text in _FAULTS.values()
            },
        },
    }


def routes(app: Flask) -> list[Rule]:
    """Return the API's routes."""
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith(f"{blueprint.name}.")]


def path_of(rule: Rule) -> str:
    """Return a route's path below the API's prefix, its parameters in braces."""
    return _PARAMETER.sub(r"{\2}", rule.rule.removeprefix(_PREFIX))


_FAULTS = {
    400: ("bad", "The body is not JSON, or a session's call lacks its CSRF token."),
    401: ("unauthorized", "No good token."),
    403: ("forbidden", "The role does not suffice."),
    404: ("missing", "There is no such object."),
    409: (
        "conflict",
        "Not possible in this state: changed meanwhile, name taken, in use, last administrator.",
    ),
    412: ("changed", "Changed since it had the tag in If-Match."),
    413: ("large", "The body is too large."),
    415: ("type", "The body is not JSON."),
    422: ("invalid", "An input is wrong; `errors` has every fault with its path."),
    428: ("unbased", "The change does not say what it is based on: neither `version` nor If-Match."),
    429: ("many", "Too many calls; `Retry-After` tells when to come back."),
    503: ("away", "The database is away or of another release; this mends itself when it is back."),
}


_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string", "pattern": '^(\\*|"[0-9a-f]{1,16}")$'},
    "description": "The ETag of the state that the change is based on, or `*` for any.",
}


def _operation(app: Flask, rule: Rule, method: str) -> dict[str, Any]:
    view = app.view_functions[rule.endpoint]
    description = description_of(view)
    if description is None:
        raise TypeError(f"the view {rule.endpoint} is not described (web.api.describing)")
    role = needed_role(app, rule.endpoint)
    summary, _, more = inspect.cleandoc(view.__doc__ or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.partition(".")[2],
        "tags": [_tag(rule)],
        "summary": " ".join(summary.split()).removesuffix("."),
        "x-role": role,
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(description),
            *([_IF_MATCH] if _takes_tag(method, description) else []),
        ],
        "responses": _responses(rule, method, description, role),
    }
    if more:
        operation["description"] = " ".join(more.split())
    if role == PUBLIC:
        operation["security"] = [{}, {"token": []}]
    if description.body is not None:
        operation["requestBody"] = {
            "required": not description.body_optional,
            "content": {"application/json": {"schema": description.body}},
        }
    return operation


def _takes_tag(method: str, description: Description) -> bool:
    return method == "PATCH" and description.tagged


def _tag(rule: Rule) -> str:
    return path_of(rule).split("/")[1]


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _CONVERTERS[converter]}
        for converter, name in _PARAMETER.findall(rule.rule)
    ]


def _query_parameters(description: Description) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "schema": {key: value for key, value in schema.items() if key != "description"},
            **({"description": schema["description"]} if "description" in schema else {}),
        }
        for name, schema in description.query.items()
    ]


def _responses(rule: Rule, method: str, description: Description, role: str | None) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(description.status).phrase}
    if description.answers is not None:
        good["content"] = {description.content: {"schema": description.answers}}
    told = ("RateLimit", "RateLimit-Policy", *(["ETag"] if description.tagged else []))
    good["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in told}
    answers: dict[str, Any] = {str(description.status): good}
    for status, text in description.also.items():
        answers[str(status)] = {**good, "description": text}
    faults = {429, 503}
    faults |= set() if role == PUBLIC else {401, 403}
    faults |= {404} if rule.arguments else set()
    faults |= {422} if description.query or description.body is not None else set()
    faults |= {400, 413, 415} if description.body is not None else set()
    faults |= {400} if method != "GET" else set()
    faults |= {409} if description.conflicts else set()
    if _takes_tag(method, description):
        faults |= {412, 428} if "version" in (description.body or {})["properties"] else {412}
    for status in sorted(faults):
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{_FAULTS[status][0]}"})
    return answers


def _text_header(description: str) -> dict[str, Any]:
    return {"schema": {"type": "string"}, "description": description}
