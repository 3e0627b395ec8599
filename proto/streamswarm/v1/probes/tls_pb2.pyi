from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TlsSpec(_message.Message):
    __slots__ = ("port", "timeout_ms", "server_name", "verify", "min_days_left", "min_version", "alpn", "starttls", "dscp", "address_family", "source", "must_be_unreachable")
    PORT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    VERIFY_FIELD_NUMBER: _ClassVar[int]
    MIN_DAYS_LEFT_FIELD_NUMBER: _ClassVar[int]
    MIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    ALPN_FIELD_NUMBER: _ClassVar[int]
    STARTTLS_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    port: int
    timeout_ms: int
    server_name: str
    verify: bool
    min_days_left: int
    min_version: str
    alpn: _containers.RepeatedScalarFieldContainer[str]
    starttls: str
    dscp: int
    address_family: str
    source: str
    must_be_unreachable: bool
    def __init__(self, port: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., server_name: _Optional[str] = ..., verify: _Optional[bool] = ..., min_days_left: _Optional[int] = ..., min_version: _Optional[str] = ..., alpn: _Optional[_Iterable[str]] = ..., starttls: _Optional[str] = ..., dscp: _Optional[int] = ..., address_family: _Optional[str] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class TlsResult(_message.Message):
    __slots__ = ("dns_ms", "connect_ms", "starttls_ms", "handshake_ms", "validation_ms", "tls_version", "cipher_bits", "cert_days_left", "chain_days_left", "chain_length", "key_bits", "chain_valid", "name_valid", "problems", "certificate_changed", "ocsp_stapled", "bytes_sent", "bytes_received")
    DNS_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MS_FIELD_NUMBER: _ClassVar[int]
    STARTTLS_MS_FIELD_NUMBER: _ClassVar[int]
    HANDSHAKE_MS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_MS_FIELD_NUMBER: _ClassVar[int]
    TLS_VERSION_FIELD_NUMBER: _ClassVar[int]
    CIPHER_BITS_FIELD_NUMBER: _ClassVar[int]
    CERT_DAYS_LEFT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_DAYS_LEFT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    KEY_BITS_FIELD_NUMBER: _ClassVar[int]
    CHAIN_VALID_FIELD_NUMBER: _ClassVar[int]
    NAME_VALID_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    OCSP_STAPLED_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    dns_ms: float
    connect_ms: float
    starttls_ms: float
    handshake_ms: float
    validation_ms: float
    tls_version: float
    cipher_bits: int
    cert_days_left: float
    chain_days_left: float
    chain_length: int
    key_bits: int
    chain_valid: bool
    name_valid: bool
    problems: int
    certificate_changed: bool
    ocsp_stapled: bool
    bytes_sent: int
    bytes_received: int
    def __init__(self, dns_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., starttls_ms: _Optional[float] = ..., handshake_ms: _Optional[float] = ..., validation_ms: _Optional[float] = ..., tls_version: _Optional[float] = ..., cipher_bits: _Optional[int] = ..., cert_days_left: _Optional[float] = ..., chain_days_left: _Optional[float] = ..., chain_length: _Optional[int] = ..., key_bits: _Optional[int] = ..., chain_valid: _Optional[bool] = ..., name_valid: _Optional[bool] = ..., problems: _Optional[int] = ..., certificate_changed: _Optional[bool] = ..., ocsp_stapled: _Optional[bool] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ...) -> None: ...
