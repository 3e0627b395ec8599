from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TcpSpec(_message.Message):
    __slots__ = ("port", "timeout_ms", "dscp", "address_family", "source", "must_be_unreachable")
    PORT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    port: int
    timeout_ms: int
    dscp: int
    address_family: str
    source: str
    must_be_unreachable: bool
    def __init__(self, port: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., dscp: _Optional[int] = ..., address_family: _Optional[str] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class TcpResult(_message.Message):
    __slots__ = ("dns_ms", "connect_ms", "kernel_rtt_ms", "kernel_min_rtt_ms", "syn_retransmits", "mss_bytes", "path_mtu_bytes")
    DNS_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RTT_MS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_MIN_RTT_MS_FIELD_NUMBER: _ClassVar[int]
    SYN_RETRANSMITS_FIELD_NUMBER: _ClassVar[int]
    MSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    PATH_MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    dns_ms: float
    connect_ms: float
    kernel_rtt_ms: float
    kernel_min_rtt_ms: float
    syn_retransmits: int
    mss_bytes: int
    path_mtu_bytes: int
    def __init__(self, dns_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., kernel_rtt_ms: _Optional[float] = ..., kernel_min_rtt_ms: _Optional[float] = ..., syn_retransmits: _Optional[int] = ..., mss_bytes: _Optional[int] = ..., path_mtu_bytes: _Optional[int] = ...) -> None: ...
