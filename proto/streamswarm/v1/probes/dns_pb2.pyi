from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class DnsSpec(_message.Message):
    __slots__ = ("query_name", "record_type", "transport", "port", "timeout_ms", "recursion_desired", "valid_rcodes", "answer_pattern", "address_family", "dscp", "source", "must_be_unreachable")
    QUERY_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_TYPE_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    RECURSION_DESIRED_FIELD_NUMBER: _ClassVar[int]
    VALID_RCODES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_PATTERN_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    DSCP_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MUST_BE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    query_name: str
    record_type: str
    transport: str
    port: int
    timeout_ms: int
    recursion_desired: bool
    valid_rcodes: _containers.RepeatedScalarFieldContainer[str]
    answer_pattern: str
    address_family: str
    dscp: int
    source: str
    must_be_unreachable: bool
    def __init__(self, query_name: _Optional[str] = ..., record_type: _Optional[str] = ..., transport: _Optional[str] = ..., port: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., recursion_desired: _Optional[bool] = ..., valid_rcodes: _Optional[_Iterable[str]] = ..., answer_pattern: _Optional[str] = ..., address_family: _Optional[str] = ..., dscp: _Optional[int] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class DnsResult(_message.Message):
    __slots__ = ("query_ms", "rcode", "answers", "ttl_min_s", "authenticated", "authoritative", "truncated", "bytes_sent", "bytes_received")
    QUERY_MS_FIELD_NUMBER: _ClassVar[int]
    RCODE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    TTL_MIN_S_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATED_FIELD_NUMBER: _ClassVar[int]
    AUTHORITATIVE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    query_ms: float
    rcode: int
    answers: int
    ttl_min_s: int
    authenticated: bool
    authoritative: bool
    truncated: bool
    bytes_sent: int
    bytes_received: int
    def __init__(self, query_ms: _Optional[float] = ..., rcode: _Optional[int] = ..., answers: _Optional[int] = ..., ttl_min_s: _Optional[int] = ..., authenticated: _Optional[bool] = ..., authoritative: _Optional[bool] = ..., truncated: _Optional[bool] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ...) -> None: ...
