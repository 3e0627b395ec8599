"""Checks that the API's answers are what its OpenAPI document says."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException

from web.api.openapi import document, path_of

#: Answers that any path may give, described once in words and not for each call.
EVERYWHERE = {405, 421}


@lru_cache(maxsize=4)
def _document(app: Flask) -> dict[str, Any]:
    with app.app_context():
        return document(app)


def check_answer(app: Flask, method: str, path: str, answer: Any) -> None:
    """Fail unless an answer has a status and a body that the document allows for the call."""
    problem = answer.mimetype == "application/problem+json"
    if problem:
        _check(app, "#/components/schemas/problem", answer.get_json(), f"{method} {path}")
    try:
        rule, _ = app.url_map.bind("localhost").match(
            f"/api/v1{path.partition('?')[0]}", method, return_rule=True
        )
    except HTTPException:
        return
    if answer.status_code in EVERYWHERE:
        return
    operation = _document(app)["paths"][path_of(rule)][method.lower()]
    said = operation["responses"].get(str(answer.status_code))
    assert said is not None, (
        f"{method} {path} answers {answer.status_code}, of which the document says nothing"
    )
    if problem or "content" not in said:
        assert problem or not answer.get_data(), (
            f"{method} {path} answers with a body that the document does not have"
        )
        return
    assert answer.mimetype in said["content"], f"{method} {path} answers {answer.mimetype}"
    if answer.mimetype == "application/json":
        parts = ("paths", path_of(rule), method.lower(), "responses", str(answer.status_code))
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in parts)
        schema = f"#/{pointer}/content/application~1json/schema"
        _check(app, schema, answer.get_json(), f"{method} {path}")


def _check(app: Flask, pointer: str, value: Any, what: str) -> None:
    faults = _validator(app, pointer).iter_errors(value)
    said = [f"{fault.json_path}: {fault.message[:300]}" for fault in faults]
    assert not said, f"{what} answers what its document does not say: {'; '.join(said[:5])}"


@lru_cache(maxsize=500)
def _validator(app: Flask, pointer: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"components": _document(app)["components"], "paths": _document(app)["paths"], "$ref": pointer},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
