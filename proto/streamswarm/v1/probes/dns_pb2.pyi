from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class DnsSpec(_message.Message):
    __slots__ = ("query_name", "record_type", "transport", "port", "timeout_ms", "recursion_desired", "valid_rcodes", "answer_pattern", "address_family", "dscp", "source", "must_be_unreachable", "count", "interval_ms", "keep_connection", "dnssec", "nsid", "server_name", "verify_tls", "http_path", "http_method", "pattern_syntax", "unwanted_pattern", "authority_pattern", "additional_pattern")
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
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    KEEP_CONNECTION_FIELD_NUMBER: _ClassVar[int]
    DNSSEC_FIELD_NUMBER: _ClassVar[int]
    NSID_FIELD_NUMBER: _ClassVar[int]
    SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    VERIFY_TLS_FIELD_NUMBER: _ClassVar[int]
    HTTP_PATH_FIELD_NUMBER: _ClassVar[int]
    HTTP_METHOD_FIELD_NUMBER: _ClassVar[int]
    PATTERN_SYNTAX_FIELD_NUMBER: _ClassVar[int]
    UNWANTED_PATTERN_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PATTERN_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_PATTERN_FIELD_NUMBER: _ClassVar[int]
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
    count: int
    interval_ms: int
    keep_connection: bool
    dnssec: bool
    nsid: bool
    server_name: str
    verify_tls: bool
    http_path: str
    http_method: str
    pattern_syntax: str
    unwanted_pattern: str
    authority_pattern: str
    additional_pattern: str
    def __init__(self, query_name: _Optional[str] = ..., record_type: _Optional[str] = ..., transport: _Optional[str] = ..., port: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., recursion_desired: _Optional[bool] = ..., valid_rcodes: _Optional[_Iterable[str]] = ..., answer_pattern: _Optional[str] = ..., address_family: _Optional[str] = ..., dscp: _Optional[int] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ..., count: _Optional[int] = ..., interval_ms: _Optional[int] = ..., keep_connection: _Optional[bool] = ..., dnssec: _Optional[bool] = ..., nsid: _Optional[bool] = ..., server_name: _Optional[str] = ..., verify_tls: _Optional[bool] = ..., http_path: _Optional[str] = ..., http_method: _Optional[str] = ..., pattern_syntax: _Optional[str] = ..., unwanted_pattern: _Optional[str] = ..., authority_pattern: _Optional[str] = ..., additional_pattern: _Optional[str] = ...) -> None: ...

class DnsResult(_message.Message):
    __slots__ = ("query_ms", "rcode", "answers", "ttl_min_s", "authenticated", "authoritative", "truncated", "bytes_sent", "bytes_received", "query_min_ms", "query_avg_ms", "query_max_ms", "repeated_ms", "connect_ms", "tls_ms", "http_status", "queries", "answered", "unanswered_pct", "cache_hit_pct", "ttl_max_s", "authority_records", "additional_records", "soa_serial", "answer_bytes", "recursion_available", "extended_error", "signatures")
    QUERY_MS_FIELD_NUMBER: _ClassVar[int]
    RCODE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    TTL_MIN_S_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATED_FIELD_NUMBER: _ClassVar[int]
    AUTHORITATIVE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    QUERY_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    QUERY_AVG_MS_FIELD_NUMBER: _ClassVar[int]
    QUERY_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MS_FIELD_NUMBER: _ClassVar[int]
    TLS_MS_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_PCT_FIELD_NUMBER: _ClassVar[int]
    CACHE_HIT_PCT_FIELD_NUMBER: _ClassVar[int]
    TTL_MAX_S_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_RECORDS_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    SOA_SERIAL_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECURSION_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_ERROR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    query_ms: float
    rcode: int
    answers: int
    ttl_min_s: int
    authenticated: bool
    authoritative: bool
    truncated: bool
    bytes_sent: int
    bytes_received: int
    query_min_ms: float
    query_avg_ms: float
    query_max_ms: float
    repeated_ms: float
    connect_ms: float
    tls_ms: float
    http_status: int
    queries: int
    answered: int
    unanswered_pct: float
    cache_hit_pct: float
    ttl_max_s: int
    authority_records: int
    additional_records: int
    soa_serial: int
    answer_bytes: int
    recursion_available: bool
    extended_error: int
    signatures: int
    def __init__(self, query_ms: _Optional[float] = ..., rcode: _Optional[int] = ..., answers: _Optional[int] = ..., ttl_min_s: _Optional[int] = ..., authenticated: _Optional[bool] = ..., authoritative: _Optional[bool] = ..., truncated: _Optional[bool] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., query_min_ms: _Optional[float] = ..., query_avg_ms: _Optional[float] = ..., query_max_ms: _Optional[float] = ..., repeated_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., tls_ms: _Optional[float] = ..., http_status: _Optional[int] = ..., queries: _Optional[int] = ..., answered: _Optional[int] = ..., unanswered_pct: _Optional[float] = ..., cache_hit_pct: _Optional[float] = ..., ttl_max_s: _Optional[int] = ..., authority_records: _Optional[int] = ..., additional_records: _Optional[int] = ..., soa_serial: _Optional[int] = ..., answer_bytes: _Optional[int] = ..., recursion_available: _Optional[bool] = ..., extended_error: _Optional[int] = ..., signatures: _Optional[int] = ...) -> None: ...
