"""What the answers of a run say together, on messages of the test's own."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from streamswarm.v1.probes.dns_pb2 import DnsResult
from worker.evaluation import dns_answers
from worker.evaluation.dns_answers import Answer
from worker.probing import ProbeFailure
from worker.wire import dns_transport


def message(*records: str, authority: tuple[str, ...] = (), flags: int = 0) -> dns.message.Message:
    """Return an answer with records such as `a.test. 60 IN A 192.0.2.1`."""
    made = dns.message.make_response(dns.message.make_query("a.test", "A", use_edns=0))
    made.answer = [dns.rrset.from_text(*_parts(record)) for record in records]
    made.authority = [dns.rrset.from_text(*_parts(record)) for record in authority]
    made.flags |= flags
    return made


def _parts(record: str) -> tuple[str, int, str, str, str]:
    name, ttl, rdclass, rdtype, data = record.split(" ", 4)
    return name, int(ttl), rdclass, rdtype, data


def at(seconds: float, ttl: int, flags: int = 0) -> Answer:
    """Return an answer that came then, with that TTL."""
    return Answer(
        message=message(f"a.test. {ttl} IN A 192.0.2.1", flags=flags), size=40, elapsed_ms=1.0, at_s=seconds
    )


def test_times_of_several_answers() -> None:
    """The first stands for the run; the repeated ones have a mean of their own."""
    metrics = DnsResult()
    answers = [
        Answer(message=message("a.test. 60 IN A 192.0.2.1"), size=40, elapsed_ms=ms, at_s=ms)
        for ms in (9.0, 1.0, 3.0)
    ]
    dns_answers.fill(metrics, answers, wrong=0, unanswered=1, told=answers[-1])
    assert (metrics.query_ms, metrics.query_min_ms, metrics.query_max_ms) == (9.0, 1.0, 9.0)
    assert metrics.query_avg_ms == pytest.approx(13 / 3)
    assert metrics.repeated_ms == 2.0
    assert (metrics.queries, metrics.answered, metrics.unanswered_pct) == (4, 3, 25.0)


def test_one_answer_has_no_repeated_time() -> None:
    """Unset, not zero."""
    metrics = DnsResult()
    answer = at(0, 60)
    dns_answers.fill(metrics, [answer], wrong=0, unanswered=0, told=answer)
    assert not metrics.HasField("repeated_ms")
    assert not metrics.HasField("cache_hit_pct")
    assert not metrics.HasField("soa_serial")
    assert not metrics.HasField("extended_error")


def test_no_answer_leaves_counts_only() -> None:
    """All was in vain."""
    metrics = DnsResult()
    dns_answers.fill(metrics, [], wrong=0, unanswered=2, told=None)
    assert (metrics.queries, metrics.answered, metrics.unanswered_pct) == (2, 0, 100.0)
    assert not metrics.HasField("query_ms")
    assert not metrics.HasField("rcode")


def test_sections_flags_and_sizes() -> None:
    """Each where it stands."""
    metrics = DnsResult()
    dns_answers.fill_from(
        metrics,
        message(
            "a.test. 300 IN CNAME b.test.",
            "b.test. 60 IN A 192.0.2.1",
            "b.test. 60 IN RRSIG A 13 2 60 20300101000000 20290101000000 1 test. AAAA",
            authority=("test. 900 IN SOA ns.test. root.test. 4294967295 1 2 3 4",),
            flags=dns.flags.AA | dns.flags.RA,
        ),
    )
    assert (metrics.answers, metrics.authority_records, metrics.additional_records) == (3, 1, 0)
    assert (metrics.ttl_min_s, metrics.ttl_max_s) == (60, 300)
    assert metrics.signatures == 1
    assert metrics.soa_serial == 4294967295
    assert (metrics.authoritative, metrics.recursion_available, metrics.authenticated) == (True, True, False)


def test_the_answers_soa_goes_before_the_authoritys() -> None:
    """A parent's SOA in the authority section is another zone's."""
    metrics = DnsResult()
    dns_answers.fill_from(
        metrics,
        message(
            "a.test. 300 IN SOA ns.test. root.test. 7 1 2 3 4",
            authority=("test. 900 IN SOA ns.test. root.test. 8 1 2 3 4",),
        ),
    )
    assert metrics.soa_serial == 7


def test_extended_errors_and_identifiers_are_read() -> None:
    """RFC 8914 and RFC 5001, from the message's bytes."""
    made = message()
    made.set_rcode(dns.rcode.SERVFAIL)
    made.use_edns(
        0,
        options=[
            dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "no\x1bsignature"),
            dns.edns.GenericOption(dns.edns.OptionType.NSID, b"ns1\xff"),
        ],
    )
    read = dns.message.from_wire(made.to_wire())
    metrics = DnsResult()
    dns_answers.fill_from(metrics, read)
    assert metrics.extended_error == 6
    detail = dns_answers.detail_of(read)
    assert len(detail["extended_errors"]) == 1
    assert "Bogus" in detail["extended_errors"][0]
    assert "\x1b" not in detail["extended_errors"][0]
    assert detail["nsid"] == "ns1\\xff"


def test_records_of_one_name_keep_their_own_ttls() -> None:
    """Nothing is merged, whatever RFC 2181, section 5.2 demands of servers; the smallest TTL is the answer's."""
    made = message(
        "a.test. 300 IN A 192.0.2.1",
        "a.test. 60 IN A 192.0.2.2",
        "a.test. 300 IN A 192.0.2.1",
        "a.test. 90 IN CNAME b.test.",
        "a.test. 30 IN CNAME c.test.",
    )
    read = dns_transport.parse(made.to_wire(), "192.0.2.1:53")
    metrics = DnsResult()
    dns_answers.fill_from(metrics, read)
    assert (metrics.answers, metrics.ttl_min_s, metrics.ttl_max_s) == (5, 30, 300)
    assert dns_answers.detail_of(read)["answer"] == [
        "a.test. 300 IN A 192.0.2.1",
        "a.test. 60 IN A 192.0.2.2",
        "a.test. 300 IN A 192.0.2.1",
        "a.test. 90 IN CNAME b.test.",
        "a.test. 30 IN CNAME c.test.",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", ""),
        (b"\0", ""),
        (b"at 192.0.2.5\0", ": at 192.0.2.5"),
        (b"broken \xc3\x28\xff", ": broken \ufffd(\ufffd"),
        (b"cut \xe2\x82", ": cut \ufffd"),
    ],
)
def test_the_text_of_an_extended_error_discards_no_answer(text: bytes, shown: str) -> None:
    """What stands beside it is read: the record, the extended response code, the other options."""
    made = message("a.test. 60 IN A 192.0.2.1")
    made.use_edns(
        0,
        options=[
            dns.edns.GenericOption(dns.edns.OptionType.EDE, b"\0\x16" + text),
            dns.edns.GenericOption(dns.edns.OptionType.NSID, b"ns1"),
        ],
    )
    made.set_rcode(dns.rcode.BADVERS)
    read = dns_transport.parse(made.to_wire(), "192.0.2.1:53")
    metrics = DnsResult()
    dns_answers.fill_from(metrics, read)
    assert (metrics.answers, metrics.rcode, metrics.extended_error) == (1, 16, 22)
    detail = dns_answers.detail_of(read)
    assert detail["extended_errors"] == [f"EDE 22 (No Reachable Authority){shown}"]
    assert detail["nsid"] == "ns1"


def test_an_extended_error_without_its_code_is_no_answer() -> None:
    """One byte is no code (RFC 8914, section 2)."""
    made = message("a.test. 60 IN A 192.0.2.1")
    made.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.EDE, b"\0")])
    with pytest.raises(ProbeFailure, match="not a DNS message"):
        dns_transport.parse(made.to_wire(), "192.0.2.1:53")
