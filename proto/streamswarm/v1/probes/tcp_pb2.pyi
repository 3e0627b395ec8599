from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TcpSpec(_message.Message):
    __slots__ = ("port", "timeout_ms", "dscp", "address_family", "count", "interval_ms", "send", "expect", "split", "source", "must_be_unreachable")
    PORT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    port: int
    timeout_ms: int
    dscp: int
    address_family: str
    count: int
    interval_ms: int
    send: str
    expect: str
    split: bool
    source: str
    must_be_unreachable: bool
    def __init__(self, port: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., dscp: _Optional[int] = ..., address_family: _Optional[str] = ..., count: _Optional[int] = ..., interval_ms: _Optional[int] = ..., send: _Optional[str] = ..., expect: _Optional[str] = ..., split: _Optional[bool] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class TcpResult(_message.Message):
    __slots__ = ("dns_ms", "connect_ms", "kernel_rtt_ms", "kernel_min_rtt_ms", "syn_retransmits", "mss_bytes", "path_mtu_bytes", "connect_min_ms", "connect_median_ms", "connect_max_ms", "connect_p90_ms", "connect_p95_ms", "connect_stddev_ms", "attempts", "connected", "failed_pct", "refused", "timed_out", "unreachable", "other_failures", "network_delay_ms", "server_processing_ms", "server_processing_error_ms", "syn_to_synack_ms", "synack_to_ack_ms", "connect_class", "first_byte_ms", "bytes_sent", "bytes_received")
    DNS_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RTT_MS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_MIN_RTT_MS_FIELD_NUMBER: _ClassVar[int]
    SYN_RETRANSMITS_FIELD_NUMBER: _ClassVar[int]
    MSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    PATH_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_P90_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_P95_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_STDDEV_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    FAILED_PCT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FAILURES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    SERVER_PROCESSING_MS_FIELD_NUMBER: _ClassVar[int]
    SERVER_PROCESSING_ERROR_MS_FIELD_NUMBER: _ClassVar[int]
    SYN_TO_SYNACK_MS_FIELD_NUMBER: _ClassVar[int]
    SYNACK_TO_ACK_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    FIRST_BYTE_MS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    dns_ms: float
    connect_ms: float
    kernel_rtt_ms: float
    kernel_min_rtt_ms: float
    syn_retransmits: int
    mss_bytes: int
    path_mtu_bytes: int
    connect_min_ms: float
    connect_median_ms: float
    connect_max_ms: float
    connect_p90_ms: float
    connect_p95_ms: float
    connect_stddev_ms: float
    attempts: int
    connected: int
    failed_pct: float
    refused: int
    timed_out: int
    unreachable: int
    other_failures: int
    network_delay_ms: float
    server_processing_ms: float
    server_processing_error_ms: float
    syn_to_synack_ms: float
    synack_to_ack_ms: float
    connect_class: int
    first_byte_ms: float
    bytes_sent: int
    bytes_received: int
    def __init__(self, dns_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., kernel_rtt_ms: _Optional[float] = ..., kernel_min_rtt_ms: _Optional[float] = ..., syn_retransmits: _Optional[int] = ..., mss_bytes: _Optional[int] = ..., path_mtu_bytes: _Optional[int] = ..., connect_min_ms: _Optional[float] = ..., connect_median_ms: _Optional[float] = ..., connect_max_ms: _Optional[float] = ..., connect_p90_ms: _Optional[float] = ..., connect_p95_ms: _Optional[float] = ..., connect_stddev_ms: _Optional[float] = ..., attempts: _Optional[int] = ..., connected: _Optional[int] = ..., failed_pct: _Optional[float] = ..., refused: _Optional[int] = ..., timed_out: _Optional[int] = ..., unreachable: _Optional[int] = ..., other_failures: _Optional[int] = ..., network_delay_ms: _Optional[float] = ..., server_processing_ms: _Optional[float] = ..., server_processing_error_ms: _Optional[float] = ..., syn_to_synack_ms: _Optional[float] = ..., synack_to_ack_ms: _Optional[float] = ..., connect_class: _Optional[int] = ..., first_byte_ms: _Optional[float] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ...) -> None: ...
