"""Reads the descriptors: which kinds there are, their parameters with limits, their metrics with units.

Forms, validation, database columns, charts and help all come from here, so that a new kind is one `.proto` file,
two lines in the oneofs and one probe. Nothing else in the product switches on a kind's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from streamswarm.targets import (
    Target,
    TargetError,
    parse_address,
    parse_host,
    parse_host_port,
    parse_url,
    shown,
)
from streamswarm.v1 import options_pb2, probe_pb2
from streamswarm.v1.comments_pb2 import COMMENTS
from streamswarm.values import (
    InvalidInputError,
    Parameter,
    Problem,
    ValueType,
    check_expressions,
    check_value,
)

__all__ = [
    "Child",
    "Contract",
    "ContractError",
    "InvalidInputError",
    "Kind",
    "Metric",
    "Parameter",
    "Problem",
    "UnknownKindError",
    "check_spec",
    "kind",
    "kind_of",
    "kinds",
    "make_spec",
    "parse_target",
    "result_kind",
    "spec_values",
]


#: Characters of `Result.detail_json`; a worker sends no more, and a gateway stores no more.
MOST_DETAIL_CHARACTERS = 65_536

_TYPES: dict[int, ValueType] = {
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_INT32: "integer",
    FieldDescriptor.TYPE_INT64: "integer",
    FieldDescriptor.TYPE_SFIXED32: "integer",
    FieldDescriptor.TYPE_SFIXED64: "integer",
    FieldDescriptor.TYPE_STRING: "string",
}
_WIDE = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SFIXED64}
_TARGETS = {
    options_pb2.TARGET_HOST: "host",
    options_pb2.TARGET_HOST_PORT: "host_port",
    options_pb2.TARGET_URL: "url",
    options_pb2.TARGET_NONE: "none",
    options_pb2.TARGET_HOST_OR_NETWORK: "host_or_network",
}


class ContractError(Exception):
    """The contract itself is wrong: a message breaks the rules that everything else derives from."""


class UnknownKindError(KeyError):
    """No such kind; the message names those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a kind, a column of its table."""

    name: str
    type: Literal["integer", "number", "boolean"]
    #: Integers only: 32 or 64 bits.
    bits: int
    label: str
    #: UCUM.
    unit: str
    description: str
    better: Literal["neither", "lower", "higher"]
    #: Metrics of one group share a chart.
    group: str
    #: `latency`, `loss`, `jitter`, `throughput`, `utilisation`, `status`, `volume` or `none`.
    role: str
    #: Roll-ups keep a mergeable sketch for percentiles.
    distribution: bool
    #: RFC or recommendation that defines it, or empty.
    reference: str
    #: The one metric that stands for the kind in lists.
    headline: bool
    #: Which part of a run's way it speaks of: `resolver`, `path`, `target`, `vantage` or `none`.
    layer: str
    #: The event that it tells of, or empty: a boolean when it is true, a number when it is another one than before.
    event: str


@dataclass(frozen=True, kw_only=True)
class Child:
    """A repeated group of metrics, a child table: one row per key (interface, disk, hop)."""

    #: Field name in the result, and the last part of the table's name.
    name: str
    #: Name of the field that names the row.
    key: str
    #: The comment on its message, for the manual; may be empty.
    manual: str = ""
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One probe kind."""

    name: str
    label: str
    description: str
    #: The comments on its two messages, for the manual: paragraphs, separated by an empty line.
    manual: str = ""
    #: `series`, `path`, `waterfall`, `matrix`, `channels` or `call`.
    view: str
    #: What it aims at: `host`, `host_or_network`, `host_port`, `url` or `none`.
    target: Literal["host", "host_or_network", "host_port", "url", "none"]
    #: Longest time of one run beyond what its parameters ask for.
    timeout_s: float
    parameters: tuple[Parameter, ...]
    metrics: tuple[Metric, ...]
    children: tuple[Child, ...]
    #: Classes of the two messages.
    spec_class: type[Message]
    result_class: type[Message]

    @property
    def headline(self) -> Metric:
        """The metric that stands for the kind."""
        return next((metric for metric in self.metrics if metric.headline), self.metrics[0])

    @property
    def events(self) -> Mapping[str, tuple[Metric, ...]]:
        """The metrics that tell of an event, by its name."""
        found: dict[str, tuple[Metric, ...]] = {}
        for metric in self.metrics:
            if metric.event:
                found[metric.event] = (*found.get(metric.event, ()), metric)
        return found

    def parameter(self, name: str) -> Parameter:
        """Return the parameter of that name."""
        return next(parameter for parameter in self.parameters if parameter.name == name)

    def metric(self, name: str) -> Metric:
        """Return the metric of that name; KeyError names the kind."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"`{shown(name)}` is not a metric of `{self.name}`")


class Contract:
    """The kinds that a pair of envelope messages defines.

    `spec_class` and `result_class` are the envelopes: messages with a oneof of all kinds. The product's own are
    found through the module's functions; tests hand in others.
    """

    def __init__(self, spec_class: type[Message], result_class: type[Message]) -> None:
        self._spec_class = spec_class
        self._result_class = result_class

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """All kinds by name, in the order of the oneof."""
        specs = {field.name: field for field in self._spec_class.DESCRIPTOR.oneofs_by_name["kind"].fields}
        results = {
            field.name: field for field in self._result_class.DESCRIPTOR.oneofs_by_name["metrics"].fields
        }
        if {name: field.number for name, field in specs.items()} != {
            name: field.number for name, field in results.items()
        }:
            raise ContractError(
                "Spec.kind and Result.metrics must list the same kinds under the same numbers"
            )
        return {name: _read_kind(name, _message(specs[name]), _message(results[name])) for name in specs}

    def kind(self, name: str) -> Kind:
        """Return a kind by name, or raise UnknownKindError."""
        try:
            return self.kinds[name]
        except KeyError:
            raise UnknownKindError(
                f"`{shown(str(name))}` is not a probe kind; there are {', '.join(self.kinds)}"
            ) from None

    def make_spec(self, kind: str, values: Mapping[str, Any], *, path: str = "spec") -> Any:
        """Return the Spec envelope for values as they come from a form, a file or JSON.

        Defaults are filled in; every fault is collected. Raises InvalidInputError or UnknownKindError.
        """
        known = self.kind(kind)
        problems: list[Problem] = []
        if not isinstance(values, Mapping):
            raise InvalidInputError([Problem(path=path, message="must be a mapping of parameters to values")])
        names = [parameter.name for parameter in known.parameters]
        for name in values:
            if name not in names:
                problems.append(
                    Problem(
                        path=f"{path}.{shown(str(name))}",
                        message=f"`{kind}` has no such parameter; it has {', '.join(names)}",
                    )
                )
        checked: dict[str, Any] = {}
        for parameter in known.parameters:
            value = values.get(parameter.name)
            if value is None or (value == "" and parameter.type != "string"):
                value = parameter.default
            if value is None:
                continue
            checked[parameter.name] = check_value(parameter, value, f"{path}.{parameter.name}", problems)
        problems += check_expressions(known.parameters, checked, path)
        if problems:
            raise InvalidInputError(problems)
        envelope = cast("Any", self._spec_class())
        message = getattr(envelope, kind)
        message.SetInParent()
        for name, value in checked.items():
            if isinstance(value, list):
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)
        return envelope

    def spec_values(self, spec: Any) -> dict[str, Any]:
        """Return the parameters in a Spec envelope as plain values, every parameter present."""
        kind = self.kind_of(spec)
        message = getattr(spec, kind.name)
        return {
            parameter.name: list(getattr(message, parameter.name))
            if parameter.repeated
            else getattr(message, parameter.name)
            for parameter in kind.parameters
        }

    def kind_of(self, spec: Any) -> Kind:
        """Return the kind of a Spec envelope."""
        name = spec.WhichOneof("kind")
        if name is None:
            raise InvalidInputError([Problem(path="spec", message="names no kind that this release knows")])
        return self.kind(name)

    def result_kind(self, result: Any) -> Kind:
        """Return the kind of a Result: from its metrics, or from its `kind` when nothing was measured."""
        name = result.WhichOneof("metrics") or result.kind
        return self.kind(name)

    def check_spec(self, spec: Any, *, path: str = "spec") -> None:
        """Check a Spec that came over the wire against the limits; raises InvalidInputError."""
        kind = self.kind_of(spec)
        self.make_spec(kind.name, self.spec_values(spec), path=path)


def parse_target(kind: Kind, text: str) -> Target:
    """Parse a target for a kind, or raise InvalidInputError with the path `target`."""
    try:
        if kind.target == "none":
            if text:
                raise TargetError(
                    f"tests of kind `{kind.name}` have no destination: they look at the worker's own host"
                )
            return Target(host="")
        if kind.target == "url":
            return parse_url(text)
        if kind.target == "host_port":
            return parse_host_port(text)
        if kind.target == "host_or_network" and "/" in text and "://" not in text:
            return parse_address(text)
        return Target(host=parse_host(text))
    except TargetError as error:
        raise InvalidInputError([Problem(path="target", message=str(error))]) from error


_CONTRACT = Contract(probe_pb2.Spec, probe_pb2.Result)

kind = _CONTRACT.kind
make_spec = _CONTRACT.make_spec
spec_values = _CONTRACT.spec_values
kind_of = _CONTRACT.kind_of
result_kind = _CONTRACT.result_kind
check_spec = _CONTRACT.check_spec


def kinds() -> Mapping[str, Kind]:
    """All kinds of this release by name."""
    return _CONTRACT.kinds


def _message(field: Any) -> Descriptor:
    if field.message_type is None:
        raise ContractError(f"{field.full_name} must be a message")
    return cast("Descriptor", field.message_type)


def _option(descriptor: Any, extension: Any) -> Any:
    """Return one of our options on a field or message; an unset one has its defaults."""
    return descriptor.GetOptions().Extensions[extension]


def _read_kind(name: str, spec: Descriptor, result: Descriptor) -> Kind:
    options = _option(spec, options_pb2.kind)
    if not options.label:
        raise ContractError(f"{spec.full_name} lacks `option (kind)` with a label")
    metrics = tuple(_read_metric(field) for field in result.fields if field.message_type is None)
    if sum(metric.headline for metric in metrics) != 1:
        raise ContractError(f"{result.full_name} must mark exactly one metric as headline")
    found = Kind(
        name=name,
        label=options.label,
        description=options.description,
        manual="\n\n".join(filter(None, (COMMENTS.get(message.full_name) for message in (spec, result)))),
        view=_enum_word(options_pb2.View.Name(options.view)),
        target=cast("Any", _TARGETS[options.target]),
        timeout_s=options.timeout_s,
        parameters=tuple(_read_parameter(field) for field in spec.fields),
        metrics=metrics,
        children=tuple(_read_child(field) for field in result.fields if field.message_type is not None),
        spec_class=GetMessageClass(spec),
        result_class=GetMessageClass(result),
    )
    for event, telling in found.events.items():
        types = [metric.type for metric in telling]
        if len(set(types)) < len(types) or "number" in types:
            raise ContractError(
                f"{result.full_name}: the event `{event}` must be told by a boolean, an integer, or one of each"
            )
    return found


def _read_parameter(field: FieldDescriptor) -> Parameter:
    options = _option(field, options_pb2.param)
    kind_of_value = _TYPES.get(field.type)
    if kind_of_value is None or not options.label:
        raise ContractError(f"{field.full_name} must be a number, bool or string with `(param)` and a label")
    parameter = Parameter(
        name=field.name,
        type=kind_of_value,
        repeated=field.is_repeated,
        label=options.label,
        description=options.description,
        unit=options.unit,
        default=None,
        min=options.min if options.HasField("min") else None,
        max=options.max if options.HasField("max") else None,
        pattern=options.pattern,
        choices=tuple(options.choices),
        advanced=options.advanced,
        multiline=options.multiline,
        regular_expression=options.regular_expression,
    )
    problems: list[Problem] = []
    default = check_value(parameter, options.default, field.full_name, problems) if options.default else None
    if problems:
        raise ContractError(f"the default of {problems[0]}")
    return Parameter(**{**parameter.__dict__, "default": default})


def _read_metric(field: FieldDescriptor) -> Metric:
    options = _option(field, options_pb2.metric)
    kind_of_value = _TYPES.get(field.type)
    if kind_of_value not in ("integer", "number", "boolean") or not field.has_presence or not options.label:
        raise ContractError(
            f"{field.full_name} must be an `optional` double, sfixed or bool with `(metric)` and a label"
        )
    return Metric(
        name=field.name,
        type=cast("Any", kind_of_value),
        bits=64 if field.type in _WIDE else 32,
        label=options.label,
        unit=options.unit,
        description=options.description,
        better=cast("Any", _enum_word(options_pb2.Better.Name(options.better))),
        group=options.group,
        role=_enum_word(options_pb2.Role.Name(options.role)),
        distribution=options.distribution,
        reference=options.reference,
        headline=options.headline,
        layer=_enum_word(options_pb2.Layer.Name(options.layer)),
        event=options.event,
    )


def _read_child(field: FieldDescriptor) -> Child:
    if not field.is_repeated:
        raise ContractError(f"{field.full_name}: a message among metrics must be repeated, with a key")
    message = _message(field)
    fields = list(message.fields)
    keys = [inner for inner in fields if _option(inner, options_pb2.key)]
    if len(keys) != 1 or keys[0].type != FieldDescriptor.TYPE_STRING:
        raise ContractError(f"{message.full_name} must have exactly one string field with `(key)`")
    return Child(
        name=field.name,
        key=keys[0].name,
        manual=COMMENTS.get(message.full_name, ""),
        metrics=tuple(_read_metric(inner) for inner in fields if inner is not keys[0]),
    )


def _enum_word(name: str) -> str:
    return name.split("_", 1)[1].lower()
