from streamswarm.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SystemSpec(_message.Message):
    __slots__ = ("window_ms", "disks", "interfaces")
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    INTERFACES_FIELD_NUMBER: _ClassVar[int]
    window_ms: int
    disks: bool
    interfaces: bool
    def __init__(self, window_ms: _Optional[int] = ..., disks: _Optional[bool] = ..., interfaces: _Optional[bool] = ...) -> None: ...

class SystemResult(_message.Message):
    __slots__ = ("cpu_busy_pct", "cpu_user_pct", "cpu_system_pct", "cpu_iowait_pct", "cpu_steal_pct", "cpu_count", "load1", "load5", "load15", "context_switches_per_s", "interrupts_per_s", "memory_total_bytes", "memory_available_bytes", "memory_used_pct", "memory_cached_bytes", "swap_used_bytes", "process_count", "uptime_s", "temperature_max_cel", "interfaces", "disks")
    CPU_BUSY_PCT_FIELD_NUMBER: _ClassVar[int]
    CPU_USER_PCT_FIELD_NUMBER: _ClassVar[int]
    CPU_SYSTEM_PCT_FIELD_NUMBER: _ClassVar[int]
    CPU_IOWAIT_PCT_FIELD_NUMBER: _ClassVar[int]
    CPU_STEAL_PCT_FIELD_NUMBER: _ClassVar[int]
    CPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOAD1_FIELD_NUMBER: _ClassVar[int]
    LOAD5_FIELD_NUMBER: _ClassVar[int]
    LOAD15_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_SWITCHES_PER_S_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_PCT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_CACHED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SWAP_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_MAX_CEL_FIELD_NUMBER: _ClassVar[int]
    INTERFACES_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    cpu_busy_pct: float
    cpu_user_pct: float
    cpu_system_pct: float
    cpu_iowait_pct: float
    cpu_steal_pct: float
    cpu_count: int
    load1: float
    load5: float
    load15: float
    context_switches_per_s: float
    interrupts_per_s: float
    memory_total_bytes: int
    memory_available_bytes: int
    memory_used_pct: float
    memory_cached_bytes: int
    swap_used_bytes: int
    process_count: int
    uptime_s: float
    temperature_max_cel: float
    interfaces: _containers.RepeatedCompositeFieldContainer[SystemInterface]
    disks: _containers.RepeatedCompositeFieldContainer[SystemDisk]
    def __init__(self, cpu_busy_pct: _Optional[float] = ..., cpu_user_pct: _Optional[float] = ..., cpu_system_pct: _Optional[float] = ..., cpu_iowait_pct: _Optional[float] = ..., cpu_steal_pct: _Optional[float] = ..., cpu_count: _Optional[int] = ..., load1: _Optional[float] = ..., load5: _Optional[float] = ..., load15: _Optional[float] = ..., context_switches_per_s: _Optional[float] = ..., interrupts_per_s: _Optional[float] = ..., memory_total_bytes: _Optional[int] = ..., memory_available_bytes: _Optional[int] = ..., memory_used_pct: _Optional[float] = ..., memory_cached_bytes: _Optional[int] = ..., swap_used_bytes: _Optional[int] = ..., process_count: _Optional[int] = ..., uptime_s: _Optional[float] = ..., temperature_max_cel: _Optional[float] = ..., interfaces: _Optional[_Iterable[_Union[SystemInterface, _Mapping]]] = ..., disks: _Optional[_Iterable[_Union[SystemDisk, _Mapping]]] = ...) -> None: ...

class SystemInterface(_message.Message):
    __slots__ = ("name", "receive_bytes_per_s", "transmit_bytes_per_s", "receive_packets_per_s", "transmit_packets_per_s", "errors_per_s", "drops_per_s", "mtu_bytes", "up")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    TRANSMIT_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_PACKETS_PER_S_FIELD_NUMBER: _ClassVar[int]
    TRANSMIT_PACKETS_PER_S_FIELD_NUMBER: _ClassVar[int]
    ERRORS_PER_S_FIELD_NUMBER: _ClassVar[int]
    DROPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    name: str
    receive_bytes_per_s: float
    transmit_bytes_per_s: float
    receive_packets_per_s: float
    transmit_packets_per_s: float
    errors_per_s: float
    drops_per_s: float
    mtu_bytes: int
    up: bool
    def __init__(self, name: _Optional[str] = ..., receive_bytes_per_s: _Optional[float] = ..., transmit_bytes_per_s: _Optional[float] = ..., receive_packets_per_s: _Optional[float] = ..., transmit_packets_per_s: _Optional[float] = ..., errors_per_s: _Optional[float] = ..., drops_per_s: _Optional[float] = ..., mtu_bytes: _Optional[int] = ..., up: _Optional[bool] = ...) -> None: ...

class SystemDisk(_message.Message):
    __slots__ = ("mount_point", "total_bytes", "free_bytes", "used_pct", "read_bytes_per_s", "write_bytes_per_s")
    MOUNT_POINT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_PCT_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    WRITE_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    mount_point: str
    total_bytes: int
    free_bytes: int
    used_pct: float
    read_bytes_per_s: float
    write_bytes_per_s: float
    def __init__(self, mount_point: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., used_pct: _Optional[float] = ..., read_bytes_per_s: _Optional[float] = ..., write_bytes_per_s: _Optional[float] = ...) -> None: ...
