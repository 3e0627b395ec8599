from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class MtuSpec(_message.Message):
    __slots__ = ("method", "port", "max_size_bytes", "timeout_ms", "tries", "confirmations", "min_mtu_bytes", "locate", "dscp", "address_family", "source", "must_be_unreachable")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    MAX_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    MIN_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOCATE_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    method: str
    port: int
    max_size_bytes: int
    timeout_ms: int
    tries: int
    confirmations: int
    min_mtu_bytes: int
    locate: bool
    dscp: int
    address_family: str
    source: str
    must_be_unreachable: bool
    def __init__(self, method: _Optional[str] = ..., port: _Optional[int] = ..., max_size_bytes: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., tries: _Optional[int] = ..., confirmations: _Optional[int] = ..., min_mtu_bytes: _Optional[int] = ..., locate: _Optional[bool] = ..., dscp: _Optional[int] = ..., address_family: _Optional[str] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class MtuResult(_message.Message):
    __slots__ = ("path_mtu_bytes", "interface_mtu_bytes", "kernel_mtu_bytes", "reported_mtu_bytes", "report_right", "reports", "black_hole", "black_hole_bytes", "confirmed", "limit_hop", "rtt_ms", "packets_sent", "packets_received", "lost", "bytes_sent", "bytes_received")
    PATH_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPORTED_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPORT_RIGHT_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    BLACK_HOLE_FIELD_NUMBER: _ClassVar[int]
    BLACK_HOLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_HOP_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_SENT_FIELD_NUMBER: _ClassVar[int]
    PACKETS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    path_mtu_bytes: int
    interface_mtu_bytes: int
    kernel_mtu_bytes: int
    reported_mtu_bytes: int
    report_right: bool
    reports: int
    black_hole: bool
    black_hole_bytes: int
    confirmed: bool
    limit_hop: int
    rtt_ms: float
    packets_sent: int
    packets_received: int
    lost: int
    bytes_sent: int
    bytes_received: int
    def __init__(self, path_mtu_bytes: _Optional[int] = ..., interface_mtu_bytes: _Optional[int] = ..., kernel_mtu_bytes: _Optional[int] = ..., reported_mtu_bytes: _Optional[int] = ..., report_right: _Optional[bool] = ..., reports: _Optional[int] = ..., black_hole: _Optional[bool] = ..., black_hole_bytes: _Optional[int] = ..., confirmed: _Optional[bool] = ..., limit_hop: _Optional[int] = ..., rtt_ms: _Optional[float] = ..., packets_sent: _Optional[int] = ..., packets_received: _Optional[int] = ..., lost: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ...) -> None: ...
