from streamswarm.v1 import probe_pb2 as _probe_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolRequest(_message.Message):
    __slots__ = ("token", "csr_der", "host_name", "worker_version")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKER_VERSION_FIELD_NUMBER: _ClassVar[int]
    token: str
    csr_der: bytes
    host_name: str
    worker_version: str
    def __init__(self, token: _Optional[str] = ..., csr_der: _Optional[bytes] = ..., host_name: _Optional[str] = ..., worker_version: _Optional[str] = ...) -> None: ...

class EnrolReply(_message.Message):
    __slots__ = ("worker_id", "certificate_chain_pem", "ca_bundle_pem", "trust_domain", "gateways")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_CHAIN_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    certificate_chain_pem: bytes
    ca_bundle_pem: bytes
    trust_domain: str
    gateways: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., certificate_chain_pem: _Optional[bytes] = ..., ca_bundle_pem: _Optional[bytes] = ..., trust_domain: _Optional[str] = ..., gateways: _Optional[_Iterable[str]] = ...) -> None: ...

class WorkerMessage(_message.Message):
    __slots__ = ("hello", "results", "heartbeat", "renew")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    results: ResultBatch
    heartbeat: Heartbeat
    renew: RenewRequest
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., results: _Optional[_Union[ResultBatch, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., renew: _Optional[_Union[RenewRequest, _Mapping]] = ...) -> None: ...

class GatewayMessage(_message.Message):
    __slots__ = ("welcome", "jobs", "ack", "renewed", "goodbye", "heartbeat")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    jobs: JobSet
    ack: Ack
    renewed: RenewReply
    goodbye: Goodbye
    heartbeat: HeartbeatReply
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., jobs: _Optional[_Union[JobSet, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., renewed: _Optional[_Union[RenewReply, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., heartbeat: _Optional[_Union[HeartbeatReply, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("worker_version", "contract_version", "instance_id", "boot_id", "spool_id", "first_unacked_seq", "next_seq", "clock_us", "kinds", "facts", "policy_json")
    WORKER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SPOOL_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_UNACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_JSON_FIELD_NUMBER: _ClassVar[int]
    worker_version: str
    contract_version: int
    instance_id: str
    boot_id: str
    spool_id: str
    first_unacked_seq: int
    next_seq: int
    clock_us: int
    kinds: _containers.RepeatedCompositeFieldContainer[KindAvailability]
    facts: Facts
    policy_json: str
    def __init__(self, worker_version: _Optional[str] = ..., contract_version: _Optional[int] = ..., instance_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., spool_id: _Optional[str] = ..., first_unacked_seq: _Optional[int] = ..., next_seq: _Optional[int] = ..., clock_us: _Optional[int] = ..., kinds: _Optional[_Iterable[_Union[KindAvailability, _Mapping]]] = ..., facts: _Optional[_Union[Facts, _Mapping]] = ..., policy_json: _Optional[str] = ...) -> None: ...

class KindAvailability(_message.Message):
    __slots__ = ("kind", "available", "reason", "mend")
    KIND_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MEND_FIELD_NUMBER: _ClassVar[int]
    kind: str
    available: bool
    reason: str
    mend: str
    def __init__(self, kind: _Optional[str] = ..., available: _Optional[bool] = ..., reason: _Optional[str] = ..., mend: _Optional[str] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("host_name", "os", "kernel", "architecture", "python", "cpu_count", "memory_bytes", "boot_time_us", "addresses", "started_at_us", "memory_max_bytes", "tasks_max", "open_files_max")
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    CPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BOOT_TIME_US_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    TASKS_MAX_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_MAX_FIELD_NUMBER: _ClassVar[int]
    host_name: str
    os: str
    kernel: str
    architecture: str
    python: str
    cpu_count: int
    memory_bytes: int
    boot_time_us: int
    addresses: _containers.RepeatedScalarFieldContainer[str]
    started_at_us: int
    memory_max_bytes: int
    tasks_max: int
    open_files_max: int
    def __init__(self, host_name: _Optional[str] = ..., os: _Optional[str] = ..., kernel: _Optional[str] = ..., architecture: _Optional[str] = ..., python: _Optional[str] = ..., cpu_count: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., boot_time_us: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ..., started_at_us: _Optional[int] = ..., memory_max_bytes: _Optional[int] = ..., tasks_max: _Optional[int] = ..., open_files_max: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("session_epoch", "spool_id", "acked_seq", "credit_results", "credit_bytes", "clock_us", "hello_clock_us", "worker_id", "worker_name", "heartbeat_s")
    SESSION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SPOOL_ID_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    CREDIT_RESULTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    HELLO_CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_NAME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    session_epoch: int
    spool_id: str
    acked_seq: int
    credit_results: int
    credit_bytes: int
    clock_us: int
    hello_clock_us: int
    worker_id: str
    worker_name: str
    heartbeat_s: int
    def __init__(self, session_epoch: _Optional[int] = ..., spool_id: _Optional[str] = ..., acked_seq: _Optional[int] = ..., credit_results: _Optional[int] = ..., credit_bytes: _Optional[int] = ..., clock_us: _Optional[int] = ..., hello_clock_us: _Optional[int] = ..., worker_id: _Optional[str] = ..., worker_name: _Optional[str] = ..., heartbeat_s: _Optional[int] = ...) -> None: ...

class JobSet(_message.Message):
    __slots__ = ("revision", "full", "jobs", "removed")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    full: bool
    jobs: _containers.RepeatedCompositeFieldContainer[_probe_pb2.Job]
    removed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, revision: _Optional[int] = ..., full: _Optional[bool] = ..., jobs: _Optional[_Iterable[_Union[_probe_pb2.Job, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ...) -> None: ...

class ResultBatch(_message.Message):
    __slots__ = ("spool_id", "seqs", "results")
    SPOOL_ID_FIELD_NUMBER: _ClassVar[int]
    SEQS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    spool_id: str
    seqs: _containers.RepeatedScalarFieldContainer[int]
    results: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, spool_id: _Optional[str] = ..., seqs: _Optional[_Iterable[int]] = ..., results: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("spool_id", "acked_seq")
    SPOOL_ID_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    spool_id: str
    acked_seq: int
    def __init__(self, spool_id: _Optional[str] = ..., acked_seq: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("clock_us", "jobs_revision", "spool_records", "spool_bytes", "running", "clock_offset_ms", "spool_alarm", "vantage_alarm")
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    JOBS_REVISION_FIELD_NUMBER: _ClassVar[int]
    SPOOL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_MS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_ALARM_FIELD_NUMBER: _ClassVar[int]
    VANTAGE_ALARM_FIELD_NUMBER: _ClassVar[int]
    clock_us: int
    jobs_revision: int
    spool_records: int
    spool_bytes: int
    running: int
    clock_offset_ms: float
    spool_alarm: str
    vantage_alarm: str
    def __init__(self, clock_us: _Optional[int] = ..., jobs_revision: _Optional[int] = ..., spool_records: _Optional[int] = ..., spool_bytes: _Optional[int] = ..., running: _Optional[int] = ..., clock_offset_ms: _Optional[float] = ..., spool_alarm: _Optional[str] = ..., vantage_alarm: _Optional[str] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("clock_us", "heartbeat_clock_us", "heartbeat_s")
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    clock_us: int
    heartbeat_clock_us: int
    heartbeat_s: int
    def __init__(self, clock_us: _Optional[int] = ..., heartbeat_clock_us: _Optional[int] = ..., heartbeat_s: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr_der",)
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    csr_der: bytes
    def __init__(self, csr_der: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("certificate_chain_pem", "ca_bundle_pem", "error")
    CERTIFICATE_CHAIN_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    certificate_chain_pem: bytes
    ca_bundle_pem: bytes
    error: str
    def __init__(self, certificate_chain_pem: _Optional[bytes] = ..., ca_bundle_pem: _Optional[bytes] = ..., error: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason", "message", "reconnect_after_ms")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Goodbye.Reason]
        REASON_SUPERSEDED: _ClassVar[Goodbye.Reason]
        REASON_DRAINING: _ClassVar[Goodbye.Reason]
        REASON_REVOKED: _ClassVar[Goodbye.Reason]
        REASON_CONTRACT_NEWER: _ClassVar[Goodbye.Reason]
        REASON_EXPIRED: _ClassVar[Goodbye.Reason]
        REASON_PROTOCOL: _ClassVar[Goodbye.Reason]
    REASON_UNSPECIFIED: Goodbye.Reason
    REASON_SUPERSEDED: Goodbye.Reason
    REASON_DRAINING: Goodbye.Reason
    REASON_REVOKED: Goodbye.Reason
    REASON_CONTRACT_NEWER: Goodbye.Reason
    REASON_EXPIRED: Goodbye.Reason
    REASON_PROTOCOL: Goodbye.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: Goodbye.Reason
    message: str
    reconnect_after_ms: int
    def __init__(self, reason: _Optional[_Union[Goodbye.Reason, str]] = ..., message: _Optional[str] = ..., reconnect_after_ms: _Optional[int] = ...) -> None: ...
