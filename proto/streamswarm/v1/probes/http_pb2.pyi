from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class HttpSpec(_message.Message):
    __slots__ = ("method", "timeout_ms", "max_redirects", "verify_tls", "valid_status", "body_contains", "max_body_bytes", "address_family", "dscp", "source", "must_be_unreachable")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_REDIRECTS_FIELD_NUMBER: _ClassVar[int]
    VERIFY_TLS_FIELD_NUMBER: _ClassVar[int]
    VALID_STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    MAX_BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    method: str
    timeout_ms: int
    max_redirects: int
    verify_tls: bool
    valid_status: _containers.RepeatedScalarFieldContainer[int]
    body_contains: str
    max_body_bytes: int
    address_family: str
    dscp: int
    source: str
    must_be_unreachable: bool
    def __init__(self, method: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., max_redirects: _Optional[int] = ..., verify_tls: _Optional[bool] = ..., valid_status: _Optional[_Iterable[int]] = ..., body_contains: _Optional[str] = ..., max_body_bytes: _Optional[int] = ..., address_family: _Optional[str] = ..., dscp: _Optional[int] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class HttpResult(_message.Message):
    __slots__ = ("dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "transfer_ms", "total_ms", "status", "redirects", "body_bytes", "cert_days_left", "bytes_sent", "bytes_received")
    DNS_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MS_FIELD_NUMBER: _ClassVar[int]
    TLS_MS_FIELD_NUMBER: _ClassVar[int]
    TTFB_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REDIRECTS_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CERT_DAYS_LEFT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    dns_ms: float
    connect_ms: float
    tls_ms: float
    ttfb_ms: float
    transfer_ms: float
    total_ms: float
    status: int
    redirects: int
    body_bytes: int
    cert_days_left: float
    bytes_sent: int
    bytes_received: int
    def __init__(self, dns_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., tls_ms: _Optional[float] = ..., ttfb_ms: _Optional[float] = ..., transfer_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., status: _Optional[int] = ..., redirects: _Optional[int] = ..., body_bytes: _Optional[int] = ..., cert_days_left: _Optional[float] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ...) -> None: ...
