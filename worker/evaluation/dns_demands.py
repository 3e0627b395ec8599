"""What a test demands of the answers to its question: response codes, and patterns for the records of the sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dns.message
import dns.rcode

from streamswarm.patterns import PatternError, compiled
from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.dns_pb2 import DnsSpec
from worker.detached import TooManyHungCallsError
from worker.evaluation.dns_answers import Answer, data_of
from worker.failures import internal_failure, target_failure, vantage_failure
from worker.http import patterns
from worker.probing import ProbeFailure


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One pattern, where it is looked for, and whether it must be there or must not."""

    #: `answer`, `authority` or `additional`.
    section: str
    pattern: str
    wanted: bool = True


@dataclass(frozen=True, kw_only=True)
class Demands:
    """All that a test demands."""

    rcodes: tuple[str, ...]
    patterns: tuple[Demand, ...]
    #: Whether the patterns are regular expressions.
    regex: bool

    @classmethod
    def of(cls, spec: DnsSpec) -> Demands:
        """Return a test's demands; raises ProbeFailure when a pattern is none."""
        demands = (
            Demand(section="answer", pattern=spec.answer_pattern),
            Demand(section="answer", pattern=spec.unwanted_pattern, wanted=False),
            Demand(section="authority", pattern=spec.authority_pattern),
            Demand(section="additional", pattern=spec.additional_pattern),
        )
        found = cls(
            rcodes=tuple(spec.valid_rcodes) or ("NOERROR",),
            patterns=tuple(demand for demand in demands if demand.pattern),
            regex=spec.pattern_syntax == "regex",
        )
        for demand in found.patterns if found.regex else ():
            try:
                compiled(demand.pattern)
            except PatternError as error:
                raise internal_failure(
                    f"`{shown(demand.pattern)}` is not a regular expression: {error}; correct the test's patterns",
                    reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
                ) from error
        return found

    async def first_unmet(self, answers: Sequence[Answer]) -> tuple[Answer | None, ProbeFailure | None]:
        """Return the first answer that does not meet the demands and why; otherwise the last one and None."""
        for answer in answers:
            failure = await self._failure(answer.message)
            if failure is not None:
                return answer, failure
        return (answers[-1] if answers else None), None

    async def _failure(self, message: dns.message.Message) -> ProbeFailure | None:
        rcode = dns.rcode.to_text(message.rcode())
        if rcode not in self.rcodes:
            return target_failure(
                f"the server answered {rcode}; the test wants {' or '.join(self.rcodes)}",
                reason=probe_pb2.FAILURE_REASON_WRONG_STATUS,
            )
        for demand in self.patterns:
            failure = await self._unmet(demand, message)
            if failure is not None:
                return failure
        return None

    async def _unmet(self, demand: Demand, message: dns.message.Message) -> ProbeFailure | None:
        records = data_of(getattr(message, demand.section))
        try:
            there = await self._matches(demand.pattern, records)
        except patterns.PatternTooSlowError as error:
            return internal_failure(
                f"`{shown(demand.pattern)}` could not be looked for: {error}; simplify the pattern",
                reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
            )
        except TooManyHungCallsError as error:
            return vantage_failure(str(error), reason=probe_pb2.FAILURE_REASON_NO_ROOM)
        if there == demand.wanted:
            return None
        how = "matches" if self.regex else "contains"
        text = (
            f"none of {len(records)} {demand.section} records {how} `{shown(demand.pattern)}`"
            if demand.wanted
            else f"an {demand.section} record {how} `{shown(demand.pattern)}`, which the test forbids"
        )
        return target_failure(text, reason=probe_pb2.FAILURE_REASON_WRONG_CONTENT)

    async def _matches(self, pattern: str, records: Sequence[str]) -> bool:
        if not self.regex:
            return any(pattern in record for record in records)
        # One search for all: records stand in lines, at whose ends `^` and `$` match.
        return bool(records) and await patterns.occurs(f"(?m){pattern}", "\n".join(records))
