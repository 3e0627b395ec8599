"""The entities: what the controller keeps beside results.

Times are UTC instants (`timestamptz`). Rows that workers, tests and jobs hang on are never deleted while results
refer to them; they are marked `deleted_at` or `retired_at` instead, so that late results still find their job.
"""

from controller.store.entities.base import Base
from controller.store.entities.diagnosis import DiagnosisSeason, DiagnosisState
from controller.store.entities.jobs import Backlog, Job, JobVersion, Mark, OverdueJob, Quarantine
from controller.store.entities.operations import Operation, OperationEvent, OperationHost
from controller.store.entities.people import (
    ApiToken,
    AuditEntry,
    LoginAttempt,
    LoginLink,
    RunTimeSetting,
    User,
    WebSession,
)
from controller.store.entities.reports import Report
from controller.store.entities.tests import Destination, Test, test_destinations
from controller.store.entities.upkeep import (
    DirtyBucket,
    Expiry,
    PassedOver,
    RewrittenPartition,
    RollupFrontier,
    UpkeepClock,
    UpkeepTrouble,
)
from controller.store.entities.workers import (
    Certificate,
    Drain,
    EnrolmentToken,
    Process,
    TrustedRoot,
    Worker,
    WorkerRelease,
)

__all__ = [
    "ApiToken",
    "AuditEntry",
    "Backlog",
    "Base",
    "Certificate",
    "Destination",
    "DiagnosisSeason",
    "DiagnosisState",
    "DirtyBucket",
    "Drain",
    "EnrolmentToken",
    "Expiry",
    "Job",
    "JobVersion",
    "LoginAttempt",
    "LoginLink",
    "Mark",
    "Operation",
    "OperationEvent",
    "OperationHost",
    "OverdueJob",
    "PassedOver",
    "Process",
    "Quarantine",
    "Report",
    "RewrittenPartition",
    "RollupFrontier",
    "RunTimeSetting",
    "Test",
    "TrustedRoot",
    "UpkeepClock",
    "UpkeepTrouble",
    "User",
    "WebSession",
    "Worker",
    "WorkerRelease",
    "test_destinations",
]
