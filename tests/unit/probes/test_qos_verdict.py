"""Whether a policy is kept, broken, or not to be judged from this host."""

from __future__ import annotations

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.qos_pb2 import QosResult
from worker.evaluation import dscp, qos_verdict
from worker.evaluation.qos_verdict import Hindrance, Look
from worker.evaluation.treatment import Policy, Seen
from worker.probing import ProbeFailure

EF = dscp.parse("EF")
NO_KEY = Hindrance(text="10.1.0.1:7862 was not asked", reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE)
NO_RIGHT = Hindrance(text="this host cannot trace", reason=probe_pb2.FAILURE_REASON_NO_PERMISSION)


def judged(seen: Seen, *hindrances: Hindrance) -> tuple[ProbeFailure | None, QosResult]:
    """Return the verdict on EF that must arrive as it is and lose at most 1 %, and the metrics."""
    metrics = QosResult()
    policy = Policy.parse(["EF=EF"], ["EF=1"], [])
    return qos_verdict.judge(policy, [seen], metrics, where="10.1.0.1", hindrances=hindrances), metrics


def ef(*, loss: float | None = 0.0, arrived: int | None = None, beside: tuple[str, ...] = ()) -> Seen:
    return Seen(
        point=EF, loss_pct=loss, rtt_median_ms=1.0, arrived=arrived, change_hop=None, lost_beside=beside
    )


def test_a_policy_that_is_kept_has_no_breaches() -> None:
    """Known as none."""
    failure, metrics = judged(ef(arrived=46))
    assert failure is None
    assert metrics.HasField("breaches")
    assert metrics.breaches == 0


def test_a_policy_that_states_nothing_is_not_judged() -> None:
    """Nothing is told."""
    metrics = QosResult()
    assert qos_verdict.judge(Policy.parse([], [], []), [ef()], metrics, where="", hindrances=[]) is None
    assert not metrics.HasField("breaches")


def test_marks_of_which_nobody_told_are_not_judged() -> None:
    """The vantage point's error; how many breaches there are stays unset, and all that was in the way is named."""
    failure, metrics = judged(ef(), NO_RIGHT, NO_KEY)
    assert failure is not None
    assert (failure.status, failure.source, failure.reason) == (
        probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_PERMISSION,
    )  # fmt: skip
    assert failure.message == (
        "whether the marks of EF arrive at 10.1.0.1 as the test's policy demands cannot be judged, "
        "because this host cannot trace, and 10.1.0.1:7862 was not asked"
    )
    assert not metrics.HasField("breaches")


def test_where_nobody_quotes_nothing_is_known() -> None:
    """Silence of all hops about all classes breaks no policy."""
    failure, metrics = judged(ef())
    assert failure is not None
    assert failure.message.endswith("cannot be judged, because no hop quoted them")
    assert (failure.source, failure.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_TIMED_OUT,
    )  # fmt: skip
    assert not metrics.HasField("breaches")


def test_breaches_go_before_what_is_not_known() -> None:
    """A loss beside a mark of which nobody told, and a class that is lost beside others."""
    for seen in (ef(loss=5), ef(beside=("CS0",))):
        failure, metrics = judged(seen, NO_KEY)
        assert failure is not None
        assert (failure.status, failure.reason) == (
            probe_pb2.STATUS_FAILED, probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS,
        )  # fmt: skip
        assert metrics.breaches == 1


def test_a_loss_that_this_host_may_have_caused_is_not_judged() -> None:
    """Its own want of room."""
    failure, metrics = judged(ef(loss=None, arrived=46))
    assert failure is not None
    assert failure.reason == probe_pb2.FAILURE_REASON_NO_ROOM
    assert not metrics.HasField("breaches")


def test_a_class_is_lost_beside_others_only_when_it_was_looked_at() -> None:
    """Not where looking ended before it, nor where it was told of."""
    look = Look(asked=["EF", "CS0"], told=["CS0"])
    assert look.lost_beside("EF") == ["CS0"]
    assert not look.lost_beside("CS0")
    assert not look.lost_beside("LE")
    assert not Look(asked=["EF"]).lost_beside("EF")
