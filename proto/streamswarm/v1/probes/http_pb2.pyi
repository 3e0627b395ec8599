from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HttpSpec(_message.Message):
    __slots__ = ("method", "timeout_ms", "max_redirects", "verify_tls", "valid_status", "body_contains", "max_body_bytes", "address_family", "requests", "connection", "version", "compression", "headers", "body", "header_matches", "body_lacks", "body_pattern", "json_matches", "min_cert_days", "dscp", "source", "must_be_unreachable")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_REDIRECTS_FIELD_NUMBER: _ClassVar[int]
    VERIFY_TLS_FIELD_NUMBER: _ClassVar[int]
    VALID_STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    MAX_BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FAMILY_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    HEADER_MATCHES_FIELD_NUMBER: _ClassVar[int]
    BODY_LACKS_FIELD_NUMBER: _ClassVar[int]
    BODY_PATTERN_FIELD_NUMBER: _ClassVar[int]
    JSON_MATCHES_FIELD_NUMBER: _ClassVar[int]
    MIN_CERT_DAYS_FIELD_NUMBER: _ClassVar[int]
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
    requests: int
    connection: str
    version: str
    compression: bool
    headers: str
    body: str
    header_matches: str
    body_lacks: str
    body_pattern: str
    json_matches: str
    min_cert_days: int
    dscp: int
    source: str
    must_be_unreachable: bool
    def __init__(self, method: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., max_redirects: _Optional[int] = ..., verify_tls: _Optional[bool] = ..., valid_status: _Optional[_Iterable[int]] = ..., body_contains: _Optional[str] = ..., max_body_bytes: _Optional[int] = ..., address_family: _Optional[str] = ..., requests: _Optional[int] = ..., connection: _Optional[str] = ..., version: _Optional[str] = ..., compression: _Optional[bool] = ..., headers: _Optional[str] = ..., body: _Optional[str] = ..., header_matches: _Optional[str] = ..., body_lacks: _Optional[str] = ..., body_pattern: _Optional[str] = ..., json_matches: _Optional[str] = ..., min_cert_days: _Optional[int] = ..., dscp: _Optional[int] = ..., source: _Optional[str] = ..., must_be_unreachable: _Optional[bool] = ...) -> None: ...

class HttpHop(_message.Message):
    __slots__ = ("number", "dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "transfer_ms", "status")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DNS_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_MS_FIELD_NUMBER: _ClassVar[int]
    TLS_MS_FIELD_NUMBER: _ClassVar[int]
    TTFB_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    number: str
    dns_ms: float
    connect_ms: float
    tls_ms: float
    ttfb_ms: float
    transfer_ms: float
    status: int
    def __init__(self, number: _Optional[str] = ..., dns_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., tls_ms: _Optional[float] = ..., ttfb_ms: _Optional[float] = ..., transfer_ms: _Optional[float] = ..., status: _Optional[int] = ...) -> None: ...

class HttpResult(_message.Message):
    __slots__ = ("dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "transfer_ms", "total_ms", "status", "redirects", "body_bytes", "cert_days_left", "bytes_sent", "bytes_received", "http_version", "content_bytes", "compression_ratio", "requests", "reused_pct", "repeat_ms", "reuse_saved_ms", "cache_hit_pct", "cache_age_s", "answers_2xx", "answers_3xx", "answers_4xx", "answers_5xx", "hops")
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
    HTTP_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_RATIO_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REUSED_PCT_FIELD_NUMBER: _ClassVar[int]
    REPEAT_MS_FIELD_NUMBER: _ClassVar[int]
    REUSE_SAVED_MS_FIELD_NUMBER: _ClassVar[int]
    CACHE_HIT_PCT_FIELD_NUMBER: _ClassVar[int]
    CACHE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_2XX_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_3XX_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_4XX_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_5XX_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
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
    http_version: float
    content_bytes: int
    compression_ratio: float
    requests: int
    reused_pct: float
    repeat_ms: float
    reuse_saved_ms: float
    cache_hit_pct: float
    cache_age_s: int
    answers_2xx: int
    answers_3xx: int
    answers_4xx: int
    answers_5xx: int
    hops: _containers.RepeatedCompositeFieldContainer[HttpHop]
    def __init__(self, dns_ms: _Optional[float] = ..., connect_ms: _Optional[float] = ..., tls_ms: _Optional[float] = ..., ttfb_ms: _Optional[float] = ..., transfer_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., status: _Optional[int] = ..., redirects: _Optional[int] = ..., body_bytes: _Optional[int] = ..., cert_days_left: _Optional[float] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., http_version: _Optional[float] = ..., content_bytes: _Optional[int] = ..., compression_ratio: _Optional[float] = ..., requests: _Optional[int] = ..., reused_pct: _Optional[float] = ..., repeat_ms: _Optional[float] = ..., reuse_saved_ms: _Optional[float] = ..., cache_hit_pct: _Optional[float] = ..., cache_age_s: _Optional[int] = ..., answers_2xx: _Optional[int] = ..., answers_3xx: _Optional[int] = ..., answers_4xx: _Optional[int] = ..., answers_5xx: _Optional[int] = ..., hops: _Optional[_Iterable[_Union[HttpHop, _Mapping]]] = ...) -> None: ...
