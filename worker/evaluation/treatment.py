"""How a path treats classes of traffic: bursts that are cut or delayed, breaches of a policy. Pure.

Thresholds stand in the comments of qos.proto, which people read; they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.evaluation import dscp
from worker.evaluation.dscp import CodePoint

#: A burst is cut from this loss on, so much above that of paced packets, both in percent.
_POLICED_PCT = 10.0
#: A burst is delayed from this rise of the median round-trip time on.
_SHAPED_MS = 10.0
#: Another class must have suffered less than this share of it.
_OTHER_SHARE = 0.5
#: Stands for all classes that a bound does not name.
_ALL = "ALL"


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What a burst of a class met, beside its paced packets; None where that is not known."""

    #: Loss of paced packets and of the burst, percent; None when this host itself may have lost replies.
    paced_loss_pct: float | None
    loss_pct: float | None
    #: Rise of the median round-trip time over that of the paced packets.
    rise_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a class when the policy is looked at; None where it was not measured."""

    point: CodePoint
    #: None when it was not sent, or when this host itself may have lost replies.
    loss_pct: float | None
    #: None when no reply came in time.
    rtt_median_ms: float | None
    #: Code point where the path was last seen, and the hop at which it was first another.
    arrived: int | None
    change_hop: int | None
    #: Classes of which the destination told, while it told nothing of this one although it was asked in the same way.
    lost_beside: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a test demands of classes, by code point; None stands for all that are not named."""

    #: Mark with which a class must arrive.
    expected: Mapping[int, CodePoint]
    max_loss_pct: Mapping[int | None, float]
    max_rtt_ms: Mapping[int | None, float]

    @classmethod
    def parse(cls, expected: Sequence[str], max_loss: Sequence[str], max_rtt: Sequence[str]) -> Policy:
        """Read the parameters of a test; raises DscpError."""
        pairs = [text.partition("=") for text in expected]
        return cls(
            expected={dscp.parse(name).number: dscp.parse(mark) for name, _, mark in pairs},
            max_loss_pct=_bounds(max_loss),
            max_rtt_ms=_bounds(max_rtt),
        )

    def strangers(self, points: Sequence[CodePoint]) -> list[str]:
        """Return the names of the classes that the policy names and that are not among these, by code point."""
        sent = {point.number for point in points}
        named = {*self.expected, *self.max_loss_pct, *self.max_rtt_ms}
        return [dscp.code_point(number).name for number in range(64) if number in named - sent]

    @property
    def states_anything(self) -> bool:
        """Whether there is anything to break."""
        return bool(self.expected or self.max_loss_pct or self.max_rtt_ms)

    def unjudged(self, classes: Sequence[Seen]) -> list[str]:
        """Return the names of the classes with a bound that this host itself keeps from being judged."""
        return [
            seen.point.name
            for seen in classes
            if seen.loss_pct is None
            and (
                self._most_loss(seen) is not None
                or (seen.rtt_median_ms is None and self._longest(seen) is not None)
            )
        ]

    def unseen(self, classes: Sequence[Seen]) -> list[str]:
        """Return the names of the classes with an expected mark of which nobody told, whether it arrives or not."""
        return [
            seen.point.name
            for seen in classes
            if seen.point.number in self.expected and seen.arrived is None and not seen.lost_beside
        ]

    def breaches(self, classes: Sequence[Seen]) -> list[str]:
        """Return a sentence for each breach; a class that is lost where others arrive, and a time that did not come, are some.

        What could not be measured is none: see `unjudged` and `unseen`.
        """
        found = []
        for seen in classes:
            name = seen.point.name
            mark = self.expected.get(seen.point.number)
            if mark is not None and seen.arrived is None and seen.lost_beside:
                found.append(
                    f"{name} was not seen to arrive as {mark.name}: "
                    f"the destination told of {', '.join(seen.lost_beside)} and not of this class"
                )
            elif mark is not None and seen.arrived is not None and seen.arrived != mark.number:
                arrived = dscp.code_point(seen.arrived).name
                where = f", changed before hop {seen.change_hop}" if seen.change_hop is not None else ""
                found.append(f"{name} arrived as {arrived} instead of {mark.name}{where}")
            most = self._most_loss(seen)
            if most is not None and seen.loss_pct is not None and seen.loss_pct > most:
                found.append(f"{name} lost {seen.loss_pct:.1f} % of its packets, more than {most:g} %")
            longest = self._longest(seen)
            if longest is not None and seen.rtt_median_ms is None and seen.loss_pct is not None:
                found.append(
                    f"{name}: whether its median round-trip time is within {longest:g} ms could not be seen, "
                    "because no reply came in time"
                )
            elif longest is not None and seen.rtt_median_ms is not None and seen.rtt_median_ms > longest:
                found.append(
                    f"{name} had a median round-trip time of {seen.rtt_median_ms:.1f} ms, longer than {longest:g} ms"
                )
        return found

    def _most_loss(self, seen: Seen) -> float | None:
        return self.max_loss_pct.get(seen.point.number, self.max_loss_pct.get(None))

    def _longest(self, seen: Seen) -> float | None:
        return self.max_rtt_ms.get(seen.point.number, self.max_rtt_ms.get(None))


def policed(name: str, bursts: Mapping[str, Burst]) -> bool | None:
    """Whether the burst of a class was cut where another was not; None with nothing to compare it with."""
    own, paced = bursts[name].loss_pct, bursts[name].paced_loss_pct
    others = [
        burst.loss_pct for other, burst in bursts.items() if other != name and burst.loss_pct is not None
    ]
    if own is None or paced is None or not others:
        return None
    cut = own >= _POLICED_PCT and own - paced >= _POLICED_PCT
    return cut and min(others) < _OTHER_SHARE * own


def shaped(name: str, bursts: Mapping[str, Burst]) -> bool | None:
    """Whether the burst of a class was delayed where another was not; None with nothing to compare it with."""
    own = bursts[name].rise_ms
    others = [burst.rise_ms for other, burst in bursts.items() if other != name and burst.rise_ms is not None]
    if own is None or not others:
        return None
    return own >= _SHAPED_MS and min(others) < _OTHER_SHARE * own


def _bounds(texts: Sequence[str]) -> dict[int | None, float]:
    bounds: dict[int | None, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        bounds[None if name == _ALL else dscp.parse(name).number] = float(value)
    return bounds
