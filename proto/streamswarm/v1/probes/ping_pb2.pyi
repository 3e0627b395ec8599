from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PingSpec(_message.Message):
    __slots__ = ("count", "interval_ms", "timeout_ms", "size_bytes", "dscp", "ttl", "dont_fragment", "mode", "address_family", "source", "flow_label", "must_be_unreachable")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    DONT_FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FLOW_LABEL_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    count: int
    interval_ms: int
    timeout_ms: int
    size_bytes: int
    dscp: int
    ttl: int
    dont_fragment: bool
    mode: str
    address_family: str
    source: str
    flow_label: int
    must_be_unreachable: bool
    def __init__(self, count: _Optional[int] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., size_bytes: _Optional[int] = ..., dscp: _Optional[int] = ..., ttl: _Optional[int] = ..., dont_fragment: _Optional[bool] = ..., mode: _Optional[str] = ..., address_family: _Optional[str] = ..., source: _Optional[str] = ..., flow_label: _Optional[int] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class PingResult(_message.Message):
    __slots__ = ("packets_sent", "packets_received", "loss_pct", "rtt_min_ms", "rtt_avg_ms", "rtt_median_ms", "rtt_max_ms", "rtt_stddev_ms", "rtt_p95_ms", "ipdv_avg_ms", "pdv_p95_ms", "rfc3550_jitter_ms", "duplicates", "reordered", "late", "reply_ttl", "icmp_errors", "kernel_timestamps", "bytes_sent", "bytes_received", "rtt_p90_ms", "rtt_p99_ms", "ipdv_max_ms", "loss_periods", "longest_loss_period", "reply_ttls", "addresses", "addresses_answering", "dropped_here", "p95_p50_ms", "by_address")
    PACKETS_SENT_FIELD_NUMBER: _ClassVar[int]
    PACKETS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    RTT_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_STDDEV_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_P95_MS_FIELD_NUMBER: _ClassVar[int]
    IPDV_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    PDV_P95_MS_FIELD_NUMBER: _ClassVar[int]
    RFC3550_JITTER_MS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REORDERED_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    REPLY_TTL_FIELD_NUMBER: _ClassVar[int]
    ICMP_ERRORS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    RTT_P90_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_P99_MS_FIELD_NUMBER: _ClassVar[int]
    IPDV_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    LOSS_PERIODS_FIELD_NUMBER: _ClassVar[int]
    LONGEST_LOSS_PERIOD_FIELD_NUMBER: _ClassVar[int]
    REPLY_TTLS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_ANSWERING_FIELD_NUMBER: _ClassVar[int]
    DROPPED_HERE_FIELD_NUMBER: _ClassVar[int]
    P95_P50_MS_FIELD_NUMBER: _ClassVar[int]
    BY_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    packets_sent: int
    packets_received: int
    loss_pct: float
    rtt_min_ms: float
    rtt_avg_ms: float
    rtt_median_ms: float
    rtt_max_ms: float
    rtt_stddev_ms: float
    rtt_p95_ms: float
    ipdv_avg_ms: float
    pdv_p95_ms: float
    rfc3550_jitter_ms: float
    duplicates: int
    reordered: int
    late: int
    reply_ttl: int
    icmp_errors: int
    kernel_timestamps: bool
    bytes_sent: int
    bytes_received: int
    rtt_p90_ms: float
    rtt_p99_ms: float
    ipdv_max_ms: float
    loss_periods: int
    longest_loss_period: int
    reply_ttls: int
    addresses: int
    addresses_answering: int
    dropped_here: int
    p95_p50_ms: float
    by_address: _containers.RepeatedCompositeFieldContainer[PingAddress]
    def __init__(self, packets_sent: _Optional[int] = ..., packets_received: _Optional[int] = ..., loss_pct: _Optional[float] = ..., rtt_min_ms: _Optional[float] = ..., rtt_avg_ms: _Optional[float] = ..., rtt_median_ms: _Optional[float] = ..., rtt_max_ms: _Optional[float] = ..., rtt_stddev_ms: _Optional[float] = ..., rtt_p95_ms: _Optional[float] = ..., ipdv_avg_ms: _Optional[float] = ..., pdv_p95_ms: _Optional[float] = ..., rfc3550_jitter_ms: _Optional[float] = ..., duplicates: _Optional[int] = ..., reordered: _Optional[int] = ..., late: _Optional[int] = ..., reply_ttl: _Optional[int] = ..., icmp_errors: _Optional[int] = ..., kernel_timestamps: _Optional[bool] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., rtt_p90_ms: _Optional[float] = ..., rtt_p99_ms: _Optional[float] = ..., ipdv_max_ms: _Optional[float] = ..., loss_periods: _Optional[int] = ..., longest_loss_period: _Optional[int] = ..., reply_ttls: _Optional[int] = ..., addresses: _Optional[int] = ..., addresses_answering: _Optional[int] = ..., dropped_here: _Optional[int] = ..., p95_p50_ms: _Optional[float] = ..., by_address: _Optional[_Iterable[_Union[PingAddress, _Mapping]]] = ...) -> None: ...

class PingAddress(_message.Message):
    __slots__ = ("address", "rtt_avg_ms", "loss_pct")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RTT_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    address: str
    rtt_avg_ms: float
    loss_pct: float
    def __init__(self, address: _Optional[str] = ..., rtt_avg_ms: _Optional[float] = ..., loss_pct: _Optional[float] = ...) -> None: ...
