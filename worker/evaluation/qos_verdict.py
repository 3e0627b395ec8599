"""What a test's policy makes of the classes of a `qos` run: kept, broken, or not to be judged from this host. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.qos_pb2 import QosResult
from worker.evaluation.treatment import Policy, Seen
from worker.failures import network_failure, vantage_failure
from worker.probing import ProbeFailure


@dataclass(frozen=True, kw_only=True)
class Hindrance:
    """What kept marks from being seen."""

    #: For people; goes on from `because`.
    text: str
    reason: probe_pb2.FailureReason


#: Nothing kept this host from looking.
SILENCE = Hindrance(text="no hop quoted them", reason=probe_pb2.FAILURE_REASON_TIMED_OUT)


@dataclass(kw_only=True)
class Look:
    """Classes whose marks were looked at in one way, such as by traces."""

    #: Those that were looked at, nothing of this host's own being in the way.
    asked: list[str] = field(default_factory=list)
    #: Those of which the destination told.
    told: list[str] = field(default_factory=list)

    def lost_beside(self, name: str) -> Sequence[str]:
        """Return the classes of which the destination told when it told nothing of this one."""
        return self.told if name in self.asked and name not in self.told else ()


def judge(
    policy: Policy,
    classes: Sequence[Seen],
    metrics: QosResult,
    *,
    where: str,
    hindrances: Sequence[Hindrance],
) -> ProbeFailure | None:
    """Return what a policy makes of the classes, None when all is well; fills in the breaches where they are known.

    `where` is the destination; `hindrances` are what kept marks from being seen, the weightiest first.
    """
    if not policy.states_anything:
        return None
    breaches = policy.breaches(classes)
    unjudged, unseen = policy.unjudged(classes), policy.unseen(classes)
    if breaches or not (unjudged or unseen):
        metrics.breaches = len(breaches)
    if breaches:
        return network_failure(
            f"the path to {where} breaks the test's policy: {'; '.join(breaches)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS,
        )
    if unseen:
        known = hindrances or (SILENCE,)
        return vantage_failure(
            f"whether the marks of {', '.join(unseen)} arrive at {where} as the test's policy demands "
            f"cannot be judged, because {', and '.join(each.text for each in known)}",
            metrics,
            reason=known[0].reason,
        )
    if unjudged:
        return vantage_failure(
            f"{', '.join(unjudged)} on the path to {where} cannot be judged, because this host "
            "did not send the requests or had no room for packets that it received; give it more memory for "
            "sockets, or the test fewer packets",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        )
    return None
