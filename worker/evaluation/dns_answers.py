"""What the answers of one run say together: times, flags, sections. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from streamswarm.targets import shown
from streamswarm.v1.probes.dns_pb2 import DnsResult
from worker.evaluation import dns_caches, statistics

#: Records of each section that the detail shows.
_SHOWN_RECORDS = 20
_LONGEST_SHOWN = 255


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, and when its query was sent."""

    message: dns.message.Message
    #: Bytes of its message.
    size: int
    elapsed_ms: float
    #: When the answer was there, in seconds of a clock that nobody sets.
    at_s: float


def fill(
    metrics: DnsResult, answers: Sequence[Answer], *, wrong: int, unanswered: int, told: Answer | None
) -> None:
    """Fill in what a run's answers say, of which `told` is told of.

    `wrong` answers came that were none to the question, and to `unanswered` queries came none.
    """
    queries = len(answers) + wrong + unanswered
    if not queries:
        return
    metrics.queries = queries
    metrics.answered = len(answers) + wrong
    metrics.unanswered_pct = 100.0 * unanswered / queries
    if told is None:
        return
    times = [answer.elapsed_ms for answer in answers]
    metrics.query_ms = times[0]
    metrics.query_min_ms, metrics.query_max_ms = min(times), max(times)
    metrics.query_avg_ms = statistics.mean(times) or 0.0
    repeated = statistics.mean(times[1:])
    if repeated is not None:
        metrics.repeated_ms = repeated
    hits = dns_caches.hit_pct([(answer.message, answer.at_s) for answer in answers])
    if hits is not None:
        metrics.cache_hit_pct = hits
    metrics.answer_bytes = told.size
    fill_from(metrics, told.message)


def fill_from(metrics: DnsResult, message: dns.message.Message) -> None:
    """Fill in what one message says."""
    metrics.rcode = int(message.rcode())
    metrics.answers = _records(message.answer)
    metrics.authority_records = _records(message.authority)
    metrics.additional_records = _records(message.additional)
    if message.answer:
        metrics.ttl_min_s = min(rrset.ttl for rrset in message.answer)
        metrics.ttl_max_s = max(rrset.ttl for rrset in message.answer)
    metrics.signatures = sum(len(rrset) for rrset in message.answer if rrset.rdtype == dns.rdatatype.RRSIG)
    metrics.authenticated = bool(message.flags & dns.flags.AD)
    metrics.authoritative = bool(message.flags & dns.flags.AA)
    metrics.recursion_available = bool(message.flags & dns.flags.RA)
    serial = _serial(message)
    if serial is not None:
        metrics.soa_serial = serial
    errors = extended_errors(message)
    if errors:
        metrics.extended_error = int(errors[0].code)


def detail_of(message: dns.message.Message) -> dict[str, Any]:
    """Return what is too long for columns: records of the sections, extended errors, the server's identifier."""
    detail: dict[str, Any] = {"answer": _texts(message.answer)}
    if message.authority:
        detail["authority"] = _texts(message.authority)
    if message.additional:
        detail["additional"] = _texts(message.additional)
    errors = extended_errors(message)
    if errors:
        detail["extended_errors"] = [shown(error.to_text(), _LONGEST_SHOWN) for error in errors]
    for option in message.options:
        if isinstance(option, dns.edns.NSIDOption):
            detail["nsid"] = shown(option.nsid.decode("utf-8", "backslashreplace"), _LONGEST_SHOWN)
    return detail


def extended_errors(message: dns.message.Message) -> list[dns.edns.EDEOption]:
    """Return the extended errors of an answer (RFC 8914)."""
    return [option for option in message.options if isinstance(option, dns.edns.EDEOption)]


def data_of(section: Sequence[dns.rrset.RRset]) -> list[str]:
    """Return the data of each record of a section as text."""
    return [record.to_text() for rrset in section for record in rrset]


def _records(section: Sequence[dns.rrset.RRset]) -> int:
    return sum(len(rrset) for rrset in section)


def _serial(message: dns.message.Message) -> int | None:
    for section in (message.answer, message.authority):
        for rrset in section:
            if rrset.rdtype == dns.rdatatype.SOA:
                return int(rrset[0].serial)
    return None


def _texts(section: Sequence[dns.rrset.RRset]) -> list[str]:
    records = [record for rrset in section for record in rrset.to_text().splitlines()]
    return [shown(record, _LONGEST_SHOWN) for record in records[:_SHOWN_RECORDS]]
