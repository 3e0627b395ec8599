from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TracerouteSpec(_message.Message):
    __slots__ = ("protocol", "port", "rounds", "round_interval_ms", "timeout_ms", "max_ttl", "first_ttl", "gap_limit", "probes_per_hop", "paths", "size_bytes", "dscp", "address_family", "reverse_names", "source", "dont_fragment", "flow_label", "must_be_unreachable")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ROUND_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_TTL_FIELD_NUMBER: _ClassVar[int]
    FIRST_TTL_FIELD_NUMBER: _ClassVar[int]
    GAP_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PROBES_PER_HOP_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    REVERSE_NAMES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DONT_FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    FLOW_LABEL_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    port: int
    rounds: int
    round_interval_ms: int
    timeout_ms: int
    max_ttl: int
    first_ttl: int
    gap_limit: int
    probes_per_hop: int
    paths: int
    size_bytes: int
    dscp: int
    address_family: str
    reverse_names: bool
    source: str
    dont_fragment: bool
    flow_label: int
    must_be_unreachable: bool
    def __init__(self, protocol: _Optional[str] = ..., port: _Optional[int] = ..., rounds: _Optional[int] = ..., round_interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., max_ttl: _Optional[int] = ..., first_ttl: _Optional[int] = ..., gap_limit: _Optional[int] = ..., probes_per_hop: _Optional[int] = ..., paths: _Optional[int] = ..., size_bytes: _Optional[int] = ..., dscp: _Optional[int] = ..., address_family: _Optional[str] = ..., reverse_names: _Optional[bool] = ..., source: _Optional[str] = ..., dont_fragment: _Optional[bool] = ..., flow_label: _Optional[int] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class TracerouteResult(_message.Message):
    __slots__ = ("reached", "hop_count", "rtt_avg_ms", "rtt_min_ms", "rtt_max_ms", "ipdv_avg_ms", "loss_pct", "responding_hops", "silent_hops", "rate_limited_hops", "widest_hop", "path_hash", "path_changed", "mpls_hops", "as_count", "distance_km", "direct_distance_km", "geographic_efficiency_pct", "probes_sent", "probes_answered", "kernel_timestamps", "bytes_sent", "bytes_received", "hops")
    REACHED_FIELD_NUMBER: _ClassVar[int]
    HOP_COUNT_FIELD_NUMBER: _ClassVar[int]
    RTT_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    IPDV_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    RESPONDING_HOPS_FIELD_NUMBER: _ClassVar[int]
    SILENT_HOPS_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_HOPS_FIELD_NUMBER: _ClassVar[int]
    WIDEST_HOP_FIELD_NUMBER: _ClassVar[int]
    PATH_HASH_FIELD_NUMBER: _ClassVar[int]
    PATH_CHANGED_FIELD_NUMBER: _ClassVar[int]
    MPLS_HOPS_FIELD_NUMBER: _ClassVar[int]
    AS_COUNT_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_KM_FIELD_NUMBER: _ClassVar[int]
    DIRECT_DISTANCE_KM_FIELD_NUMBER: _ClassVar[int]
    GEOGRAPHIC_EFFICIENCY_PCT_FIELD_NUMBER: _ClassVar[int]
    PROBES_SENT_FIELD_NUMBER: _ClassVar[int]
    PROBES_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    KERNEL_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    reached: bool
    hop_count: int
    rtt_avg_ms: float
    rtt_min_ms: float
    rtt_max_ms: float
    ipdv_avg_ms: float
    loss_pct: float
    responding_hops: int
    silent_hops: int
    rate_limited_hops: int
    widest_hop: int
    path_hash: int
    path_changed: bool
    mpls_hops: int
    as_count: int
    distance_km: float
    direct_distance_km: float
    geographic_efficiency_pct: float
    probes_sent: int
    probes_answered: int
    kernel_timestamps: bool
    bytes_sent: int
    bytes_received: int
    hops: _containers.RepeatedCompositeFieldContainer[TracerouteHop]
    def __init__(self, reached: _Optional[bool] = ..., hop_count: _Optional[int] = ..., rtt_avg_ms: _Optional[float] = ..., rtt_min_ms: _Optional[float] = ..., rtt_max_ms: _Optional[float] = ..., ipdv_avg_ms: _Optional[float] = ..., loss_pct: _Optional[float] = ..., responding_hops: _Optional[int] = ..., silent_hops: _Optional[int] = ..., rate_limited_hops: _Optional[int] = ..., widest_hop: _Optional[int] = ..., path_hash: _Optional[int] = ..., path_changed: _Optional[bool] = ..., mpls_hops: _Optional[int] = ..., as_count: _Optional[int] = ..., distance_km: _Optional[float] = ..., direct_distance_km: _Optional[float] = ..., geographic_efficiency_pct: _Optional[float] = ..., probes_sent: _Optional[int] = ..., probes_answered: _Optional[int] = ..., kernel_timestamps: _Optional[bool] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., hops: _Optional[_Iterable[_Union[TracerouteHop, _Mapping]]] = ...) -> None: ...

class TracerouteHop(_message.Message):
    __slots__ = ("hop", "probes_sent", "probes_answered", "unanswered_pct", "loss_pct", "rate_limited", "rtt_avg_ms", "rtt_min_ms", "rtt_max_ms", "ipdv_avg_ms", "addresses", "reply_ttl", "quoted_ttl", "quoted_dscp", "mpls_labels", "mpls_label", "as_number", "latitude_deg", "longitude_deg", "mtu_bytes")
    HOP_FIELD_NUMBER: _ClassVar[int]
    PROBES_SENT_FIELD_NUMBER: _ClassVar[int]
    PROBES_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_PCT_FIELD_NUMBER: _ClassVar[int]
    LOSS_PCT_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_FIELD_NUMBER: _ClassVar[int]
    RTT_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    RTT_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    IPDV_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    REPLY_TTL_FIELD_NUMBER: _ClassVar[int]
    QUOTED_TTL_FIELD_NUMBER: _ClassVar[int]
    QUOTED_DSCP_FIELD_NUMBER: _ClassVar[int]
    MPLS_LABELS_FIELD_NUMBER: _ClassVar[int]
    MPLS_LABEL_FIELD_NUMBER: _ClassVar[int]
    AS_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_DEG_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_DEG_FIELD_NUMBER: _ClassVar[int]
    MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    hop: str
    probes_sent: int
    probes_answered: int
    unanswered_pct: float
    loss_pct: float
    rate_limited: bool
    rtt_avg_ms: float
    rtt_min_ms: float
    rtt_max_ms: float
    ipdv_avg_ms: float
    addresses: int
    reply_ttl: int
    quoted_ttl: int
    quoted_dscp: int
    mpls_labels: int
    mpls_label: int
    as_number: int
    latitude_deg: float
    longitude_deg: float
    mtu_bytes: int
    def __init__(self, hop: _Optional[str] = ..., probes_sent: _Optional[int] = ..., probes_answered: _Optional[int] = ..., unanswered_pct: _Optional[float] = ..., loss_pct: _Optional[float] = ..., rate_limited: _Optional[bool] = ..., rtt_avg_ms: _Optional[float] = ..., rtt_min_ms: _Optional[float] = ..., rtt_max_ms: _Optional[float] = ..., ipdv_avg_ms: _Optional[float] = ..., addresses: _Optional[int] = ..., reply_ttl: _Optional[int] = ..., quoted_ttl: _Optional[int] = ..., quoted_dscp: _Optional[int] = ..., mpls_labels: _Optional[int] = ..., mpls_label: _Optional[int] = ..., as_number: _Optional[int] = ..., latitude_deg: _Optional[float] = ..., longitude_deg: _Optional[float] = ..., mtu_bytes: _Optional[int] = ...) -> None: ...
