"""JSON Schema of suites, for editors: completion, tool tips and faults while one types."""

from __future__ import annotations

from typing import Any

from controller.planning.schedule_schema import SCHEDULE
from controller.suites.suite import DESTINATION_FIELDS, MAX_DESTINATIONS, MAX_TESTS, SUITE_FIELDS, TEST_FIELDS
from streamswarm import contract
from streamswarm.contract import Kind
from streamswarm.schemas import spec_schema

_NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": 100,
    "description": "One line, unique whatever its case.",
}
_TEXT = {"type": "string", "maxLength": 2000, "description": "For people."}
_WORD = {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9_.:/-]{0,61}[A-Za-z0-9])?$"}
_WORDS = {"type": "array", "items": _WORD, "maxItems": 32}


def suite_schema() -> dict[str, Any]:
    """Return the schema of a suite's file, every kind with its own parameters."""
    fields = {
        "suite": {**_NAME, "description": "Name of the suite; the file's name unless it is given."},
        "description": _TEXT,
        "destinations": {"type": "array", "maxItems": MAX_TESTS, "items": _destination()},
        "tests": {"type": "array", "minItems": 1, "maxItems": MAX_TESTS, "items": _test()},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "StreamSwarm suite",
        "description": "Tests and assertions that run once from this machine, or become a controller's tests.",
        "type": "object",
        "properties": {name: fields[name] for name in SUITE_FIELDS},
        "required": ["tests"],
        "additionalProperties": False,
    }


def _destination() -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": _NAME,
        "address": {
            "type": "string",
            "minLength": 1,
            "maxLength": 2048,
            "description": "Host, `host:port` or URL.",
        },
        "description": _TEXT,
        "tags": _WORDS,
    }
    return {
        "type": "object",
        "description": "A destination with a name, for several tests.",
        "properties": {name: fields[name] for name in DESTINATION_FIELDS},
        "required": ["name", "address"],
        "additionalProperties": False,
    }


def _test() -> dict[str, Any]:
    kinds = contract.kinds()
    fields: dict[str, Any] = {
        "name": _NAME,
        "description": _TEXT,
        "kind": {
            "enum": list(kinds),
            "description": " ".join(f"{kind.name}: {kind.description}" for kind in kinds.values()),
        },
        "spec": {
            "type": ["object", "null"],
            "description": "Parameters of the kind; what is left out has its default.",
        },
        "destinations": _one_or_more(
            {"type": "string", "minLength": 1},
            MAX_DESTINATIONS,
            "Names of this file's destinations, or addresses.",
        ),
        "assert": _one_or_more(
            {"type": "string", "minLength": 1, "maxLength": 1000},
            50,
            "What a run must have measured, such as `rtt_avg_ms < 20 ms` or `loss_pct == 0`.",
        ),
        "expect": {
            "enum": ["ok", "failed"],
            "default": "ok",
            "description": "`failed` proves that nothing answers.",
        },
        "selection": _selection(),
        "tags": _WORDS,
        **SCHEDULE,
        "paused": {"type": "boolean", "description": "Left out, it stays as it is on the controller."},
    }
    return {
        "type": "object",
        "properties": {name: fields[name] for name in TEST_FIELDS},
        "required": ["name", "kind"],
        "additionalProperties": False,
        "allOf": [_of_kind(kind) for kind in kinds.values()],
    }


def _of_kind(kind: Kind) -> dict[str, Any]:
    """Return what holds for tests of one kind: its parameters, its metrics in help, and whether it has destinations."""
    metrics = ", ".join(f"{metric.name} ({metric.unit})" for metric in kind.metrics)
    then: dict[str, Any] = {
        "properties": {
            "spec": spec_schema(kind) | {"type": ["object", "null"]},
            "assert": {"description": f"Metrics: {metrics}."},
        }
    }
    if kind.target == "none":
        then["properties"]["destinations"] = {"maxItems": 0}
    else:
        then["required"] = ["destinations"]
    return {"if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]}, "then": then}


def _selection() -> dict[str, Any]:
    labels = {"type": "object", "additionalProperties": _WORD, "maxProperties": 32}
    chosen: dict[str, Any] = {name: {**_WORDS, "maxItems": 1000} for name in ("sites", "groups")}
    chosen["workers"] = {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "maxItems": 10_000,
        "description": "Names of workers.",
    }
    return {
        "description": "Which workers of a controller; all unless it is given.",
        "oneOf": [
            {"type": "null"},
            {
                "type": "object",
                "properties": {"all": {"const": True}},
                "required": ["all"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {**chosen, "labels": labels},
                "minProperties": 1,
                "additionalProperties": False,
            },
        ],
    }


def _one_or_more(item: dict[str, Any], most: int, description: str) -> dict[str, Any]:
    return {"description": description, "anyOf": [item, {"type": "array", "items": item, "maxItems": most}]}
