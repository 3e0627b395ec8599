from streamswarm.v1.probes import dns_pb2 as _dns_pb2
from streamswarm.v1.probes import http_pb2 as _http_pb2
from streamswarm.v1.probes import mtu_pb2 as _mtu_pb2
from streamswarm.v1.probes import ping_pb2 as _ping_pb2
from streamswarm.v1.probes import qos_pb2 as _qos_pb2
from streamswarm.v1.probes import system_pb2 as _system_pb2
from streamswarm.v1.probes import tcp_pb2 as _tcp_pb2
from streamswarm.v1.probes import tls_pb2 as _tls_pb2
from streamswarm.v1.probes import tcp_window_pb2 as _tcp_window_pb2
from streamswarm.v1.probes import traceroute_pb2 as _traceroute_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_OK: _ClassVar[Status]
    STATUS_FAILED: _ClassVar[Status]
    STATUS_ERROR: _ClassVar[Status]
    STATUS_MISSED: _ClassVar[Status]

class FailureSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_SOURCE_NONE: _ClassVar[FailureSource]
    FAILURE_SOURCE_TARGET: _ClassVar[FailureSource]
    FAILURE_SOURCE_NETWORK: _ClassVar[FailureSource]
    FAILURE_SOURCE_RESOLVER: _ClassVar[FailureSource]
    FAILURE_SOURCE_POLICY: _ClassVar[FailureSource]
    FAILURE_SOURCE_VANTAGE: _ClassVar[FailureSource]
    FAILURE_SOURCE_SCHEDULE: _ClassVar[FailureSource]
    FAILURE_SOURCE_INTERNAL: _ClassVar[FailureSource]

class FailureReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_REASON_UNSPECIFIED: _ClassVar[FailureReason]
    FAILURE_REASON_TIMED_OUT: _ClassVar[FailureReason]
    FAILURE_REASON_UNREACHABLE: _ClassVar[FailureReason]
    FAILURE_REASON_REFUSED: _ClassVar[FailureReason]
    FAILURE_REASON_BROKEN_OFF: _ClassVar[FailureReason]
    FAILURE_REASON_BAD_ANSWER: _ClassVar[FailureReason]
    FAILURE_REASON_TLS_FAILED: _ClassVar[FailureReason]
    FAILURE_REASON_BAD_CERTIFICATE: _ClassVar[FailureReason]
    FAILURE_REASON_WRONG_STATUS: _ClassVar[FailureReason]
    FAILURE_REASON_WRONG_CONTENT: _ClassVar[FailureReason]
    FAILURE_REASON_TOO_MUCH: _ClassVar[FailureReason]
    FAILURE_REASON_OUT_OF_BOUNDS: _ClassVar[FailureReason]
    FAILURE_REASON_REACHED: _ClassVar[FailureReason]
    FAILURE_REASON_NO_SUCH_NAME: _ClassVar[FailureReason]
    FAILURE_REASON_RESOLVER_FAILED: _ClassVar[FailureReason]
    FAILURE_REASON_FORBIDDEN: _ClassVar[FailureReason]
    FAILURE_REASON_LIMIT_USED_UP: _ClassVar[FailureReason]
    FAILURE_REASON_NO_PERMISSION: _ClassVar[FailureReason]
    FAILURE_REASON_CANNOT_SEND: _ClassVar[FailureReason]
    FAILURE_REASON_NO_ROOM: _ClassVar[FailureReason]
    FAILURE_REASON_NOT_AVAILABLE: _ClassVar[FailureReason]
    FAILURE_REASON_VANTAGE_BROKEN: _ClassVar[FailureReason]
    FAILURE_REASON_STOPPED: _ClassVar[FailureReason]
    FAILURE_REASON_OVERLAP: _ClassVar[FailureReason]
    FAILURE_REASON_EXPIRED: _ClassVar[FailureReason]
    FAILURE_REASON_SLEPT: _ClassVar[FailureReason]
    FAILURE_REASON_SUSPENDED: _ClassVar[FailureReason]
    FAILURE_REASON_INVALID_TEST: _ClassVar[FailureReason]
    FAILURE_REASON_OVERRAN: _ClassVar[FailureReason]
    FAILURE_REASON_FAULT: _ClassVar[FailureReason]

class FaultDomain(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_DOMAIN_UNKNOWN: _ClassVar[FaultDomain]
    FAULT_DOMAIN_TARGET_FAULT: _ClassVar[FaultDomain]
    FAULT_DOMAIN_PATH_FAULT: _ClassVar[FaultDomain]
    FAULT_DOMAIN_VANTAGE_FAULT: _ClassVar[FaultDomain]
    FAULT_DOMAIN_RESOLVER_FAULT: _ClassVar[FaultDomain]
    FAULT_DOMAIN_INTERNAL: _ClassVar[FaultDomain]
STATUS_UNSPECIFIED: Status
STATUS_OK: Status
STATUS_FAILED: Status
STATUS_ERROR: Status
STATUS_MISSED: Status
FAILURE_SOURCE_NONE: FailureSource
FAILURE_SOURCE_TARGET: FailureSource
FAILURE_SOURCE_NETWORK: FailureSource
FAILURE_SOURCE_RESOLVER: FailureSource
FAILURE_SOURCE_POLICY: FailureSource
FAILURE_SOURCE_VANTAGE: FailureSource
FAILURE_SOURCE_SCHEDULE: FailureSource
FAILURE_SOURCE_INTERNAL: FailureSource
FAILURE_REASON_UNSPECIFIED: FailureReason
FAILURE_REASON_TIMED_OUT: FailureReason
FAILURE_REASON_UNREACHABLE: FailureReason
FAILURE_REASON_REFUSED: FailureReason
FAILURE_REASON_BROKEN_OFF: FailureReason
FAILURE_REASON_BAD_ANSWER: FailureReason
FAILURE_REASON_TLS_FAILED: FailureReason
FAILURE_REASON_BAD_CERTIFICATE: FailureReason
FAILURE_REASON_WRONG_STATUS: FailureReason
FAILURE_REASON_WRONG_CONTENT: FailureReason
FAILURE_REASON_TOO_MUCH: FailureReason
FAILURE_REASON_OUT_OF_BOUNDS: FailureReason
FAILURE_REASON_REACHED: FailureReason
FAILURE_REASON_NO_SUCH_NAME: FailureReason
FAILURE_REASON_RESOLVER_FAILED: FailureReason
FAILURE_REASON_FORBIDDEN: FailureReason
FAILURE_REASON_LIMIT_USED_UP: FailureReason
FAILURE_REASON_NO_PERMISSION: FailureReason
FAILURE_REASON_CANNOT_SEND: FailureReason
FAILURE_REASON_NO_ROOM: FailureReason
FAILURE_REASON_NOT_AVAILABLE: FailureReason
FAILURE_REASON_VANTAGE_BROKEN: FailureReason
FAILURE_REASON_STOPPED: FailureReason
FAILURE_REASON_OVERLAP: FailureReason
FAILURE_REASON_EXPIRED: FailureReason
FAILURE_REASON_SLEPT: FailureReason
FAILURE_REASON_SUSPENDED: FailureReason
FAILURE_REASON_INVALID_TEST: FailureReason
FAILURE_REASON_OVERRAN: FailureReason
FAILURE_REASON_FAULT: FailureReason
FAULT_DOMAIN_UNKNOWN: FaultDomain
FAULT_DOMAIN_TARGET_FAULT: FaultDomain
FAULT_DOMAIN_PATH_FAULT: FaultDomain
FAULT_DOMAIN_VANTAGE_FAULT: FaultDomain
FAULT_DOMAIN_RESOLVER_FAULT: FaultDomain
FAULT_DOMAIN_INTERNAL: FaultDomain

class Spec(_message.Message):
    __slots__ = ("ping", "tcp", "dns", "http", "system", "traceroute", "tls", "tcp_window", "qos", "mtu")
    PING_FIELD_NUMBER: _ClassVar[int]
    TCP_FIELD_NUMBER: _ClassVar[int]
    DNS_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    TRACEROUTE_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    TCP_WINDOW_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    ping: _ping_pb2.PingSpec
    tcp: _tcp_pb2.TcpSpec
    dns: _dns_pb2.DnsSpec
    http: _http_pb2.HttpSpec
    system: _system_pb2.SystemSpec
    traceroute: _traceroute_pb2.TracerouteSpec
    tls: _tls_pb2.TlsSpec
    tcp_window: _tcp_window_pb2.TcpWindowSpec
    qos: _qos_pb2.QosSpec
    mtu: _mtu_pb2.MtuSpec
    def __init__(self, ping: _Optional[_Union[_ping_pb2.PingSpec, _Mapping]] = ..., tcp: _Optional[_Union[_tcp_pb2.TcpSpec, _Mapping]] = ..., dns: _Optional[_Union[_dns_pb2.DnsSpec, _Mapping]] = ..., http: _Optional[_Union[_http_pb2.HttpSpec, _Mapping]] = ..., system: _Optional[_Union[_system_pb2.SystemSpec, _Mapping]] = ..., traceroute: _Optional[_Union[_traceroute_pb2.TracerouteSpec, _Mapping]] = ..., tls: _Optional[_Union[_tls_pb2.TlsSpec, _Mapping]] = ..., tcp_window: _Optional[_Union[_tcp_window_pb2.TcpWindowSpec, _Mapping]] = ..., qos: _Optional[_Union[_qos_pb2.QosSpec, _Mapping]] = ..., mtu: _Optional[_Union[_mtu_pb2.MtuSpec, _Mapping]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("job_id", "job_version", "scheduled_at_us", "started_at_us", "duration_ms", "status", "failure_source", "error", "clock_offset_ms", "detail_json", "kind", "start_error_us", "failure_reason", "ping", "tcp", "dns", "http", "system", "traceroute", "tls", "tcp_window", "qos", "mtu")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_AT_US_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_MS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_JSON_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_ERROR_US_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    TCP_FIELD_NUMBER: _ClassVar[int]
    DNS_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    TRACEROUTE_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    TCP_WINDOW_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    job_version: int
    scheduled_at_us: int
    started_at_us: int
    duration_ms: float
    status: Status
    failure_source: FailureSource
    error: str
    clock_offset_ms: float
    detail_json: str
    kind: str
    start_error_us: int
    failure_reason: FailureReason
    ping: _ping_pb2.PingResult
    tcp: _tcp_pb2.TcpResult
    dns: _dns_pb2.DnsResult
    http: _http_pb2.HttpResult
    system: _system_pb2.SystemResult
    traceroute: _traceroute_pb2.TracerouteResult
    tls: _tls_pb2.TlsResult
    tcp_window: _tcp_window_pb2.TcpWindowResult
    qos: _qos_pb2.QosResult
    mtu: _mtu_pb2.MtuResult
    def __init__(self, job_id: _Optional[int] = ..., job_version: _Optional[int] = ..., scheduled_at_us: _Optional[int] = ..., started_at_us: _Optional[int] = ..., duration_ms: _Optional[float] = ..., status: _Optional[_Union[Status, str]] = ..., failure_source: _Optional[_Union[FailureSource, str]] = ..., error: _Optional[str] = ..., clock_offset_ms: _Optional[float] = ..., detail_json: _Optional[str] = ..., kind: _Optional[str] = ..., start_error_us: _Optional[int] = ..., failure_reason: _Optional[_Union[FailureReason, str]] = ..., ping: _Optional[_Union[_ping_pb2.PingResult, _Mapping]] = ..., tcp: _Optional[_Union[_tcp_pb2.TcpResult, _Mapping]] = ..., dns: _Optional[_Union[_dns_pb2.DnsResult, _Mapping]] = ..., http: _Optional[_Union[_http_pb2.HttpResult, _Mapping]] = ..., system: _Optional[_Union[_system_pb2.SystemResult, _Mapping]] = ..., traceroute: _Optional[_Union[_traceroute_pb2.TracerouteResult, _Mapping]] = ..., tls: _Optional[_Union[_tls_pb2.TlsResult, _Mapping]] = ..., tcp_window: _Optional[_Union[_tcp_window_pb2.TcpWindowResult, _Mapping]] = ..., qos: _Optional[_Union[_qos_pb2.QosResult, _Mapping]] = ..., mtu: _Optional[_Union[_mtu_pb2.MtuResult, _Mapping]] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("days", "from_min", "to_min")
    DAYS_FIELD_NUMBER: _ClassVar[int]
    FROM_MIN_FIELD_NUMBER: _ClassVar[int]
    TO_MIN_FIELD_NUMBER: _ClassVar[int]
    days: _containers.RepeatedScalarFieldContainer[int]
    from_min: int
    to_min: int
    def __init__(self, days: _Optional[_Iterable[int]] = ..., from_min: _Optional[int] = ..., to_min: _Optional[int] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("interval_us", "anchor_us", "starts_at_us", "ends_at_us", "cron", "zone", "windows")
    INTERVAL_US_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_US_FIELD_NUMBER: _ClassVar[int]
    STARTS_AT_US_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_US_FIELD_NUMBER: _ClassVar[int]
    CRON_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    interval_us: int
    anchor_us: int
    starts_at_us: int
    ends_at_us: int
    cron: str
    zone: str
    windows: _containers.RepeatedCompositeFieldContainer[Window]
    def __init__(self, interval_us: _Optional[int] = ..., anchor_us: _Optional[int] = ..., starts_at_us: _Optional[int] = ..., ends_at_us: _Optional[int] = ..., cron: _Optional[str] = ..., zone: _Optional[str] = ..., windows: _Optional[_Iterable[_Union[Window, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "version", "target", "spec", "schedule", "expires_at_us", "paused")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_US_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    version: int
    target: str
    spec: Spec
    schedule: Schedule
    expires_at_us: int
    paused: bool
    def __init__(self, job_id: _Optional[int] = ..., version: _Optional[int] = ..., target: _Optional[str] = ..., spec: _Optional[_Union[Spec, _Mapping]] = ..., schedule: _Optional[_Union[Schedule, _Mapping]] = ..., expires_at_us: _Optional[int] = ..., paused: _Optional[bool] = ...) -> None: ...
