"""JSON Schema (2020-12) of a kind's parameters and metrics, from the contract.

Suites' schema for editors and the API's document are made of these pieces.
"""

from __future__ import annotations

from typing import Any

from streamswarm.contract import Child, Kind, Metric
from streamswarm.values import Parameter

_BITS_32 = 2**31


def spec_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of a kind's parameters, none of which is required."""
    return {
        "type": "object",
        "description": f"Parameters of `{kind.name}`. {kind.description}",
        "properties": {parameter.name: parameter_schema(parameter) for parameter in kind.parameters},
        "additionalProperties": False,
    }


def parameter_schema(parameter: Parameter) -> dict[str, Any]:
    """Return the schema of one parameter: its type, limits, default, and unit as `x-unit`."""
    value = _value_schema(parameter)
    schema: dict[str, Any] = {"title": parameter.label, "description": parameter.description}
    if not parameter.repeated:
        schema |= value
    else:
        schema |= {"type": "array", "items": value, "maxItems": 100}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.unit:
        schema["x-unit"] = parameter.unit
    return schema


def metrics_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of what a run measures: each metric, null where it was not measured."""
    return {
        "type": "object",
        "description": f"What a run of `{kind.name}` measured; null is not measured.",
        "properties": {metric.name: metric_schema(metric) for metric in kind.metrics},
    }


def children_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of a run's repeated groups: name of the group, then key of the row, then its metrics."""
    return {
        "type": "object",
        "properties": {child.name: _rows_schema(child) for child in kind.children},
    }


def metric_schema(metric: Metric) -> dict[str, Any]:
    """Return the schema of one metric, with its unit as `x-unit`."""
    schema: dict[str, Any] = {
        "title": metric.label,
        "description": metric.description + (f" ({metric.reference})" if metric.reference else ""),
        "type": [metric.type, "null"],
    }
    if metric.type != "boolean":
        schema["x-unit"] = metric.unit
    return schema


def _rows_schema(child: Child) -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {metric.name: metric_schema(metric) for metric in child.metrics},
    }
    return {"type": "object", "description": f"By `{child.key}`.", "additionalProperties": row}


def _value_schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.type}
    if parameter.type == "string":
        return schema | _text_schema(parameter)
    if parameter.type in ("integer", "number"):
        low, high = (-_BITS_32, _BITS_32 - 1) if parameter.type == "integer" else (None, None)
        smallest = low if parameter.min is None else _plain(parameter.min)
        largest = high if parameter.max is None else _plain(parameter.max)
        schema |= {} if smallest is None else {"minimum": smallest}
        schema |= {} if largest is None else {"maximum": largest}
    return schema


def _text_schema(parameter: Parameter) -> dict[str, Any]:
    if parameter.choices:
        return {"enum": list(parameter.choices)}
    schema: dict[str, Any] = {}
    if parameter.min is not None:
        schema["minLength"] = _plain(parameter.min)
    if parameter.max is not None:
        schema["maxLength"] = _plain(parameter.max)
    if parameter.pattern:
        schema["pattern"] = f"^(?:{parameter.pattern})$"
    return schema


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number
