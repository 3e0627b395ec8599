"""What comes from the network may be anything: it is read, or refused with a failure, and never breaks the worker."""

import contextlib
import json

import dns.message
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from streamswarm.targets import Target
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.dns_pb2 import DnsResult, DnsSpec
from worker.evaluation import dns_answers
from worker.evaluation.dns_demands import Demands
from worker.http import requests
from worker.probing import ProbeFailure
from worker.wire import dns_transport, stamps, tcp_info

ANSWER = dns.message.make_response(dns.message.make_query("a.test", "TXT", use_edns=0, id=7))
ANSWER.answer = [
    dns.rrset.from_text("a.test.", 60, "IN", "TXT", '"one" "two"'),
    dns.rrset.from_text("a.test.", 60, "IN", "SRV", "1 2 3 b.test."),
]
WIRE = ANSWER.to_wire()


@given(
    st.lists(st.tuples(st.integers(2, len(WIRE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(2, len(WIRE)),
)
async def test_spoiled_dns_answers_are_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    """Up to six bytes changed, and cut anywhere: metrics that fit the message, or the target's failure."""
    data = bytearray(WIRE)
    for position, value in changes:
        data[position] = value
    metrics = DnsResult()
    try:
        message = dns_transport.parse(bytes(data[:length]), "192.0.2.1:53")
    except ProbeFailure as failure:
        assert failure.source == probe_pb2.FAILURE_SOURCE_TARGET
        return
    answer = dns_answers.Answer(message=message, size=length, elapsed_ms=1.0, at_s=0.0)
    demands = Demands.of(DnsSpec(answer_pattern="two", authority_pattern="three"))
    told, _failure = await demands.first_unmet([answer])
    dns_answers.fill(metrics, [answer], wrong=0, unanswered=0, told=told)
    metrics.SerializeToString()
    json.dumps(dns_answers.detail_of(message))


@given(st.binary(max_size=200))
def test_random_dns_answers_are_read_or_refused(data: bytes) -> None:
    """Not even the beginning of an answer."""
    with contextlib.suppress(ProbeFailure):
        dns_transport.parse(data, "192.0.2.1:53")


@given(st.text(max_size=100) | st.text(alphabet="/:?#[]@!$&=%.-ahtps0", max_size=40))
def test_any_location_is_followed_or_refused(location: str) -> None:
    """What is followed is an http or https URL of printable characters, fit for a request line."""
    try:
        target = requests.next_target("http://www.example.org/a/b?c", location)
    except ProbeFailure as failure:
        assert failure.source == probe_pb2.FAILURE_SOURCE_TARGET
        assert failure.message.isprintable()
        return
    assert isinstance(target, Target)
    assert target.url is not None
    assert target.url.startswith(("http://", "https://"))
    assert all(33 <= ord(character) <= 126 for character in target.url)
    json.dumps(target.url)


@given(
    st.binary(max_size=64),
    st.lists(
        st.tuples(st.sampled_from([0, 1, 41]), st.sampled_from([11, 25, 37]), st.binary(max_size=80)),
        max_size=4,
    ),
)
def test_random_queue_entries_do_not_break_their_reader(
    data: bytes, ancillary: list[tuple[int, int, bytes]]
) -> None:
    """Whatever a kernel of the future appends."""
    entry = stamps.parse_queued(data, ancillary)
    assert entry is None or isinstance(entry, (stamps.TransmitStamp, stamps.QueuedError))


@given(st.binary(max_size=300))
def test_a_tcp_info_of_any_length_is_read(data: bytes) -> None:
    """Fields within it are numbers, fields beyond it None."""
    info = tcp_info.parse(data)
    assert (info is None) == (not data)
    if info is not None and len(data) < 104:
        assert info.total_retrans is None
