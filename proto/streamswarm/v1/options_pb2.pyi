from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Better(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BETTER_NEITHER: _ClassVar[Better]
    BETTER_LOWER: _ClassVar[Better]
    BETTER_HIGHER: _ClassVar[Better]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_NONE: _ClassVar[Role]
    ROLE_LATENCY: _ClassVar[Role]
    ROLE_LOSS: _ClassVar[Role]
    ROLE_JITTER: _ClassVar[Role]
    ROLE_THROUGHPUT: _ClassVar[Role]
    ROLE_UTILISATION: _ClassVar[Role]
    ROLE_STATUS: _ClassVar[Role]
    ROLE_VOLUME: _ClassVar[Role]

class Layer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAYER_NONE: _ClassVar[Layer]
    LAYER_RESOLVER: _ClassVar[Layer]
    LAYER_PATH: _ClassVar[Layer]
    LAYER_TARGET: _ClassVar[Layer]
    LAYER_VANTAGE: _ClassVar[Layer]

class View(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIEW_SERIES: _ClassVar[View]
    VIEW_PATH: _ClassVar[View]
    VIEW_WATERFALL: _ClassVar[View]
    VIEW_MATRIX: _ClassVar[View]
    VIEW_CHANNELS: _ClassVar[View]
    VIEW_CALL: _ClassVar[View]

class Target(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TARGET_HOST: _ClassVar[Target]
    TARGET_HOST_PORT: _ClassVar[Target]
    TARGET_URL: _ClassVar[Target]
    TARGET_NONE: _ClassVar[Target]
    TARGET_HOST_OR_NETWORK: _ClassVar[Target]
BETTER_NEITHER: Better
BETTER_LOWER: Better
BETTER_HIGHER: Better
ROLE_NONE: Role
ROLE_LATENCY: Role
ROLE_LOSS: Role
ROLE_JITTER: Role
ROLE_THROUGHPUT: Role
ROLE_UTILISATION: Role
ROLE_STATUS: Role
ROLE_VOLUME: Role
LAYER_NONE: Layer
LAYER_RESOLVER: Layer
LAYER_PATH: Layer
LAYER_TARGET: Layer
LAYER_VANTAGE: Layer
VIEW_SERIES: View
VIEW_PATH: View
VIEW_WATERFALL: View
VIEW_MATRIX: View
VIEW_CHANNELS: View
VIEW_CALL: View
TARGET_HOST: Target
TARGET_HOST_PORT: Target
TARGET_URL: Target
TARGET_NONE: Target
TARGET_HOST_OR_NETWORK: Target
PARAM_FIELD_NUMBER: _ClassVar[int]
param: _descriptor.FieldDescriptor
METRIC_FIELD_NUMBER: _ClassVar[int]
metric: _descriptor.FieldDescriptor
KEY_FIELD_NUMBER: _ClassVar[int]
key: _descriptor.FieldDescriptor
KIND_FIELD_NUMBER: _ClassVar[int]
kind: _descriptor.FieldDescriptor

class Param(_message.Message):
    __slots__ = ("label", "description", "unit", "default", "min", "max", "pattern", "choices", "advanced", "multiline", "regular_expression")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    ADVANCED_FIELD_NUMBER: _ClassVar[int]
    MULTILINE_FIELD_NUMBER: _ClassVar[int]
    REGULAR_EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    label: str
    description: str
    unit: str
    default: str
    min: float
    max: float
    pattern: str
    choices: _containers.RepeatedScalarFieldContainer[str]
    advanced: bool
    multiline: bool
    regular_expression: str
    def __init__(self, label: _Optional[str] = ..., description: _Optional[str] = ..., unit: _Optional[str] = ..., default: _Optional[str] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., pattern: _Optional[str] = ..., choices: _Optional[_Iterable[str]] = ..., advanced: _Optional[bool] = ..., multiline: _Optional[bool] = ..., regular_expression: _Optional[str] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("label", "unit", "description", "better", "group", "role", "distribution", "reference", "headline", "layer", "event")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BETTER_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    label: str
    unit: str
    description: str
    better: Better
    group: str
    role: Role
    distribution: bool
    reference: str
    headline: bool
    layer: Layer
    event: str
    def __init__(self, label: _Optional[str] = ..., unit: _Optional[str] = ..., description: _Optional[str] = ..., better: _Optional[_Union[Better, str]] = ..., group: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., distribution: _Optional[bool] = ..., reference: _Optional[str] = ..., headline: _Optional[bool] = ..., layer: _Optional[_Union[Layer, str]] = ..., event: _Optional[str] = ...) -> None: ...

class Kind(_message.Message):
    __slots__ = ("label", "description", "view", "target", "timeout_s")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    label: str
    description: str
    view: View
    target: Target
    timeout_s: float
    def __init__(self, label: _Optional[str] = ..., description: _Optional[str] = ..., view: _Optional[_Union[View, str]] = ..., target: _Optional[_Union[Target, str]] = ..., timeout_s: _Optional[float] = ...) -> None: ...
