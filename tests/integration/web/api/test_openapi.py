"""The OpenAPI document: right by its own rules, whole, and what the API really does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import Engine, text
from support.clients import Api, make_test
from support.conformance import check_answer

from controller.store import operation_words
from controller.store.commands import (
    definitions,
    destinations,
    operation_telling,
    reports,
    tokens,
    users,
    workers,
)
from controller.store.commands import operations as operation_commands
from controller.store.queries.users import Role
from streamswarm import contract
from web.api import bodies
from web.api.describing import FILE, description_of
from web.api.openapi import DOCUMENT, document, path_of, routes
from web.api.schemas import Named, gathered
from web.auth.roles import needed_role


@pytest.fixture
def spec(app: Flask) -> dict[str, Any]:
    """The document as a program."""
    with app.app_context():
        return document(app)


def test_the_document_is_openapi(spec: dict[str, Any], stranger: Api) -> None:
    """It keeps to OpenAPI 3.1 and JSON Schema, and everybody may read it."""
    assert [error.message for error in OpenAPIV31SpecValidator(spec).iter_errors()] == []
    answer = stranger("GET", "/openapi.json")
    assert answer.status_code == 200
    assert answer.json["info"]["title"] == "StreamSwarm"
    assert answer.json["paths"].keys() == spec["paths"].keys()


def test_every_route_is_described_with_its_role(app: Flask, spec: dict[str, Any]) -> None:
    """No route without a description, no description without a route, a summary and a unique id for each."""
    ids = []
    described = {(path, method) for path, item in spec["paths"].items() for method in item}
    for rule in routes(app):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation = spec["paths"][path_of(rule)][method.lower()]
            described.remove((path_of(rule), method.lower()))
            assert operation["x-role"] == needed_role(app, rule.endpoint)
            assert operation["summary"]
            ids.append(operation["operationId"])
    assert described == set()
    assert len(ids) == len(set(ids)) > 30


def test_every_kind_is_in_the_document(spec: dict[str, Any]) -> None:
    """Parameters, metrics and limits come from the contract."""
    schemas = spec["components"]["schemas"]
    for kind in contract.kinds().values():
        assert list(schemas[f"{kind.name}_spec"]["properties"]) == [item.name for item in kind.parameters]
        assert list(schemas[f"{kind.name}_metrics"]["properties"]) == [item.name for item in kind.metrics]
    assert (
        schemas["ping_spec"]["properties"]["count"]["maximum"] == contract.kind("ping").parameter("count").max
    )
    assert schemas["ping_metrics"]["properties"]["rtt_avg_ms"]["x-unit"] == "ms"


def test_answers_tell_of_which_kind_they_are(spec: dict[str, Any]) -> None:
    """Programs take the first schema whose required fields are there: none has all that another one requires."""
    schemas = spec["components"]["schemas"]
    for name in ("whole_{}_spec", "{}_metrics"):
        required = {kind: set(schemas[name.format(kind)]["required"]) for kind in contract.kinds()}
        assert all(required.values())
        assert [
            (one, two)
            for one in required
            for two in required
            if one != two and required[one] <= required[two]
        ] == []


def test_what_is_used_often_has_a_name(spec: dict[str, Any]) -> None:
    """Programs that are made from the document know one type of test, worker or page, whatever call answers it."""
    answers = [
        content["schema"]
        for item in spec["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
    ]
    assert [answer for answer in answers if list(answer) != ["$ref"] and answer not in (FILE, DOCUMENT)] == []
    assert {"$ref": "#/components/schemas/test_page"} in answers


def test_one_name_is_one_schema() -> None:
    """Whoever gives a second one the same name is told which."""
    twice = [Named("a", {"type": "string"}), Named("a", {"type": "integer"})]
    with pytest.raises(TypeError, match="two schemas of the API are named a "):
        gathered(twice, {})


def test_a_test_of_an_older_release_has_every_parameter(api: Api, engine: Engine) -> None:
    """What has come since has its default, whether one test is shown or all."""
    made = make_test(api, spec={"count": 7})
    assert "size_bytes" in made["spec"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE tests SET spec = spec - 'size_bytes'"))
    shown = api("GET", f"/tests/{made['id']}").json
    assert shown["spec"] == made["spec"]
    assert shown["spec"]["count"] == 7
    assert api("GET", "/tests").json["items"][0]["spec"] == made["spec"]


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (bodies.DESTINATION, destinations.FIELDS),
        (bodies.TEST, definitions.FIELDS),
        (bodies.WORKER, workers.FIELDS),
        (bodies.REPORT, reports.FIELDS),
        (bodies.OPERATION, operation_words.FIELDS),
        (bodies.OPERATION_BEGUN, operation_commands.BEGUN_FIELDS),
        (bodies.OPERATION_EVENTS, operation_telling.EVENT_FIELDS),
        (bodies.OPERATION_END, operation_telling.FINISH_FIELDS),
        (bodies.TOKEN, tokens.FIELDS),
        (bodies.USER, (*users.FIELDS, "password")),
        (bodies.USER_CHANGE, users.FIELDS),
    ],
)
def test_bodies_have_the_fields_that_commands_take(schema: dict[str, Any], fields: tuple[str, ...]) -> None:
    """Neither more nor fewer."""
    assert set(bodies.names(schema)) == set(fields)


def test_no_call_takes_what_it_does_not_know(app: Flask, api: Api) -> None:
    """An unknown parameter of the query is refused by every list, an unknown field by every action."""
    for rule in routes(app):
        found = description_of(app.view_functions[rule.endpoint])
        assert found is not None
        if found.query and not rule.arguments:
            answer = api("GET", f"{path_of(rule)}?nothing=1")
            assert answer.status_code == 422
            assert [error["path"] for error in answer.json["errors"]] == ["nothing"]
    test = api("POST", "/tests", {"name": "a", "kind": "system"}).json["id"]
    refused = api("POST", f"/tests/{test}/pause", {"why": "x"})
    assert refused.status_code == 422
    assert refused.json["errors"] == [
        {"path": "why", "message": "there is no such field; this call takes none"}
    ]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (418, {}),
        (200, {"items": []}),
        (200, {"items": [{"id": 1}], "next_cursor": None}),
        (200, {"items": [], "next_cursor": None, "more": 1}),
    ],
)
def test_an_answer_that_is_not_described_is_noticed(app: Flask, status: int, body: Any) -> None:
    """The check that every other test of the API makes can fail."""
    with app.app_context():
        answer: Response = app.json.response(body)
    answer.status_code = status
    with pytest.raises(AssertionError, match="document"):
        check_answer(app, "GET", "/destinations", answer)


def test_a_list_links_to_its_next_page(api: Api) -> None:
    """The header says the same as `next_cursor`, with the rest of the query kept."""
    for name in ("a1", "a2", "b"):
        api("POST", "/destinations", {"name": name, "address": "192.0.2.1"})
    first = api("GET", "/destinations?search=a&limit=1")
    link = first.headers["Link"]
    assert link.startswith("</api/v1/destinations?")
    assert link.endswith('>; rel="next"')
    following = api("GET", link.split(">")[0].removeprefix("</api/v1"))
    assert [item["name"] for item in following.json["items"]] == ["a2"]
    assert "Link" not in following.headers


def test_limits_are_told(api: Api, stranger: Api) -> None:
    """Each answer says what the limit is and what is left; being refused tells when to come back."""
    first, second = api("GET", "/me"), api("GET", "/me")
    assert first.headers["RateLimit-Policy"] == '"calls";q=600;w=60'
    left = [int(answer.headers["RateLimit"].split(";")[1].removeprefix("r=")) for answer in (first, second)]
    assert left[0] == left[1] + 1
    assert 0 < int(second.headers["RateLimit"].split("t=")[1]) <= 61
    assert stranger("GET", "/me").headers["RateLimit-Policy"] == '"stranger";q=600;w=60'


def test_each_token_has_a_limit_of_its_own(app: Flask, token: Callable[[Role], str]) -> None:
    """Also beside one of the same name."""
    left = []
    for secret in (token("operator"), token("operator")):
        answer = Api(app.test_client(), secret)("GET", "/me")
        left.append(int(answer.headers["RateLimit"].split(";")[1].removeprefix("r=")))
    assert left == [599, 599]
