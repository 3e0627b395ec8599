from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QosSpec(_message.Message):
    __slots__ = ("classes", "count", "interval_ms", "timeout_ms", "size_bytes", "trace", "max_ttl", "port", "burst", "burst_size_bytes", "expected", "max_loss", "max_rtt", "ecn", "address_family", "far_end_port", "must_be_unreachable", "source")
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    MAX_TTL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    BURST_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    MAX_LOSS_FIELD_NUMBER: _ClassVar[int]
    MAX_RTT_FIELD_NUMBER: _ClassVar[int]
    ECN_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    FAR_END_PORT_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedScalarFieldContainer[str]
    count: int
    interval_ms: int
    timeout_ms: int
    size_bytes: int
    trace: bool
    max_ttl: int
    port: int
    burst: int
    burst_size_bytes: int
    expected: _containers.RepeatedScalarFieldContainer[str]
    max_loss: _containers.RepeatedScalarFieldContainer[str]
    max_rtt: _containers.RepeatedScalarFieldContainer[str]
    ecn: bool
    address_family: str
    far_end_port: int
    must_be_unreachable: bool
    source: str
    def __init__(self, classes: _Optional[_Iterable[str]] = ..., count: _Optional[int] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., size_bytes: _Optional[int] = ..., trace: _Optional[bool] = ..., max_ttl: _Optional[int] = ..., port: _Optional[int] = ..., burst: _Optional[int] = ..., burst_size_bytes: _Optional[int] = ..., expected: _Optional[_Iterable[str]] = ..., max_loss: _Optional[_Iterable[str]] = ..., max_rtt: _Optional[_Iterable[str]] = ..., ecn: _Optional[bool] = ..., address_family: _Optional[str] = ..., far_end_port: _Optional[int] = ..., must_be_unreachable: _Optional[bool] = ..., source: _Optional[str] = ...) -> None: ...

class QosResult(_message.Message):
    __slots__ = ("marks_kept_pct", "breaches", "worst_loss_pct", "worst_rtt_median_ms", "rtt_spread_ms", "first_change_hop", "end_seen", "policed_classes", "shaped_classes", "ecn_kept", "ecn_change_hop", "ce_marks", "packets_sent", "bytes_sent", "bytes_received", "survived_pct", "classes", "hops")
    MARKS_KEPT_PCT_FIELD_NUMBER: _ClassVar[int]
    BREACHES_FIELD_NUMBER: _ClassVar[int]
    WORST_LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    WORST_RTT_MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_SPREAD_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_CHANGE_HOP_FIELD_NUMBER: _ClassVar[int]
    END_SEEN_FIELD_NUMBER: _ClassVar[int]
    POLICED_CLASSES_FIELD_NUMBER: _ClassVar[int]
    SHAPED_CLASSES_FIELD_NUMBER: _ClassVar[int]
    ECN_KEPT_FIELD_NUMBER: _ClassVar[int]
    ECN_CHANGE_HOP_FIELD_NUMBER: _ClassVar[int]
    CE_MARKS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SURVIVED_PCT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    marks_kept_pct: float
    breaches: int
    worst_loss_pct: float
    worst_rtt_median_ms: float
    rtt_spread_ms: float
    first_change_hop: int
    end_seen: bool
    policed_classes: int
    shaped_classes: int
    ecn_kept: bool
    ecn_change_hop: int
    ce_marks: int
    packets_sent: int
    bytes_sent: int
    bytes_received: int
    survived_pct: float
    classes: _containers.RepeatedCompositeFieldContainer[QosClass]
    hops: _containers.RepeatedCompositeFieldContainer[QosHop]
    def __init__(self, marks_kept_pct: _Optional[float] = ..., breaches: _Optional[int] = ..., worst_loss_pct: _Optional[float] = ..., worst_rtt_median_ms: _Optional[float] = ..., rtt_spread_ms: _Optional[float] = ..., first_change_hop: _Optional[int] = ..., end_seen: _Optional[bool] = ..., policed_classes: _Optional[int] = ..., shaped_classes: _Optional[int] = ..., ecn_kept: _Optional[bool] = ..., ecn_change_hop: _Optional[int] = ..., ce_marks: _Optional[int] = ..., packets_sent: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., survived_pct: _Optional[float] = ..., classes: _Optional[_Iterable[_Union[QosClass, _Mapping]]] = ..., hops: _Optional[_Iterable[_Union[QosHop, _Mapping]]] = ...) -> None: ...

class QosClass(_message.Message):
    __slots__ = ("name", "dscp", "arrived_dscp", "reply_dscp", "change_hop", "cos", "user_priority", "packets_sent", "loss_pct", "rtt_min_ms", "rtt_median_ms", "rtt_max_ms", "rfc3550_jitter_ms", "burst_loss_pct", "burst_rise_ms", "policed", "far_end_dscp", "survived_pct", "far_end_ce_marks", "shaped")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_DSCP_FIELD_NUMBER: _ClassVar[int]
    REPLY_DSCP_FIELD_NUMBER: _ClassVar[int]
    CHANGE_HOP_FIELD_NUMBER: _ClassVar[int]
    COS_FIELD_NUMBER: _ClassVar[int]
    USER_PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PACKETS_SENT_FIELD_NUMBER: _ClassVar[int]
    LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    RTT_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    RFC3550_JITTER_MS_FIELD_NUMBER: _ClassVar[int]
    BURST_LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    BURST_RISE_MS_FIELD_NUMBER: _ClassVar[int]
    POLICED_FIELD_NUMBER: _ClassVar[int]
    FAR_END_DSCP_FIELD_NUMBER: _ClassVar[int]
    SURVIVED_PCT_FIELD_NUMBER: _ClassVar[int]
    FAR_END_CE_MARKS_FIELD_NUMBER: _ClassVar[int]
    SHAPED_FIELD_NUMBER: _ClassVar[int]
    name: str
    dscp: int
    arrived_dscp: int
    reply_dscp: int
    change_hop: int
    cos: int
    user_priority: int
    packets_sent: int
    loss_pct: float
    rtt_min_ms: float
    rtt_median_ms: float
    rtt_max_ms: float
    rfc3550_jitter_ms: float
    burst_loss_pct: float
    burst_rise_ms: float
    policed: bool
    far_end_dscp: int
    survived_pct: float
    far_end_ce_marks: int
    shaped: bool
    def __init__(self, name: _Optional[str] = ..., dscp: _Optional[int] = ..., arrived_dscp: _Optional[int] = ..., reply_dscp: _Optional[int] = ..., change_hop: _Optional[int] = ..., cos: _Optional[int] = ..., user_priority: _Optional[int] = ..., packets_sent: _Optional[int] = ..., loss_pct: _Optional[float] = ..., rtt_min_ms: _Optional[float] = ..., rtt_median_ms: _Optional[float] = ..., rtt_max_ms: _Optional[float] = ..., rfc3550_jitter_ms: _Optional[float] = ..., burst_loss_pct: _Optional[float] = ..., burst_rise_ms: _Optional[float] = ..., policed: _Optional[bool] = ..., far_end_dscp: _Optional[int] = ..., survived_pct: _Optional[float] = ..., far_end_ce_marks: _Optional[int] = ..., shaped: _Optional[bool] = ...) -> None: ...

class QosHop(_message.Message):
    __slots__ = ("name", "dscp", "kept")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dscp: int
    kept: bool
    def __init__(self, name: _Optional[str] = ..., dscp: _Optional[int] = ..., kept: _Optional[bool] = ...) -> None: ...
