"""What TTLs tell of caches, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator

import dns.edns
import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation import dns_caches
from worker.evaluation.dns_caches import Timed


def at(seconds: float, *ttls: int, flags: int = 0, stale: bool = False) -> Timed:
    """Return an answer that came then: an address with the first TTL, behind names with the others."""
    query = dns.message.make_query("a.test", "A", use_edns=0)
    made = dns.message.make_response(query)
    names = [f"a{number}.test." for number in range(len(ttls))]
    for name, alias, ttl in zip(names[1:], names, ttls[1:], strict=False):
        made.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", alias))
    if ttls:
        made.answer.append(dns.rrset.from_text(names[0], ttls[0], "IN", "A", "192.0.2.1"))
    made.flags |= flags
    if stale:
        made.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.STALE_ANSWER)])
    return made, seconds


@pytest.mark.parametrize(
    ("passed_s", "fallen", "flags", "hit"),
    [
        (1.1, 1, 0, 100),
        (1.1, 2, 0, 100),  # the seconds of both clocks begin at other instants
        (5.0, 5, 0, 100),
        (5.0, 3, 0, 100),  # fetched anew by somebody else, and kept since
        (1.1, 0, 0, 0),  # time went by, the TTL did not fall
        (0.5, 0, 0, None),  # within a second that is not told
        (0.5, 1, 0, 100),
        (5.0, -295, 0, None),  # the zone's TTL, or a cache that has had it for less long
        (1.1, 200, 0, None),  # another cache behind the same address, or one with limits of its own
        (1.1, 1, dns.flags.AA, 0),
    ],
)
def test_a_second_answer_is_told_by_its_ttl(
    passed_s: float, fallen: int, flags: int, hit: float | None
) -> None:
    """By the rule that the contract states."""
    assert dns_caches.hit_pct([at(10.0, 300), at(10.0 + passed_s, 300 - fallen, flags=flags)]) == hit


def test_the_share_is_of_those_that_can_be_told() -> None:
    """Two hits, one miss, one that is not told; nothing told is no share."""
    answers = [at(0, 300), at(0.2, 300), at(2, 298), at(3, 297), at(4, 300)]
    assert dns_caches.hit_pct(answers) == pytest.approx(200 / 3)
    assert dns_caches.hit_pct([at(0, 300), at(0.2, 300)]) is None
    assert dns_caches.hit_pct([at(0, 300)]) is None
    assert dns_caches.hit_pct([]) is None


def test_an_answer_without_records_tells_nothing() -> None:
    """There is no TTL to fall."""
    assert dns_caches.hit_pct([at(0, 300), at(5)]) is None
    assert dns_caches.hit_pct([at(0), at(9, 300)]) is None


def test_a_count_is_gone_on_with_whichever_answer_began_it() -> None:
    """A short TTL ends and begins anew in the middle of the run, above the first answer's: the hits after that are hits."""
    # 3, 2, 1; fetched anew with 5, which is not told the first time; 4, 3, 2, 1; and 5 again, which is.
    answers = [at(1.1 * number, ttl) for number, ttl in enumerate([3, 2, 1, 5, 4, 3, 2, 1, 5, 4])]
    assert dns_caches.hit_pct(answers) == pytest.approx(100 * 7 / 8)


def test_caches_that_answer_in_turn_have_a_count_each() -> None:
    """None of their answers was fetched anew, though TTLs go up and down."""
    answers = [at(1.1 * number, (300, 120)[number % 2] - round(1.1 * number)) for number in range(12)]
    assert dns_caches.hit_pct(answers) == 100


def test_one_set_that_was_fetched_is_enough() -> None:
    """The name is kept for long, the address behind it is fetched each time: that is no answer from a cache."""
    answers = [at(0, 20, 300), at(1.1, 20, 299), at(2.2, 20, 298)]
    assert dns_caches.hit_pct(answers) == 0
    # The smallest of all TTLs is now one's and now the other's.
    answers = [at(0, 2, 6), at(1.1, 1, 5), at(3.3, 60, 3), at(4.4, 59, 2)]
    assert dns_caches.hit_pct(answers) == 100, (
        "that of the third is not told: the address may be another cache's"
    )
    assert dns_caches.hit_pct([at(0, 60), at(1.1, 59, 300)]) is None, "a name that was not there before"


def test_a_stale_answer_came_from_a_cache() -> None:
    """It says so itself; its TTL stands still (RFC 8767)."""
    assert dns_caches.hit_pct([at(0, 30), at(1.1, 30, stale=True), at(2.2, 30, stale=True)]) == 100


def _counts(ttls: list[int], steps: list[int]) -> Iterator[Timed]:
    """Yield what several caches answer that have had everything since before."""
    for number, which in enumerate(steps):
        seconds = 1.3 * number
        yield at(seconds, ttls[which % len(ttls)] - int(seconds))


@given(
    st.lists(st.integers(100, 10_000), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=2, max_size=30),
)
def test_what_only_caches_answer_is_never_all_fetched(ttls: list[int], steps: list[int]) -> None:
    """Whoever answers in whatever order: nothing of it is called fetched anew, but by the rarest of chances."""
    answers = list(_counts(ttls, steps))
    share = dns_caches.hit_pct(answers)
    if len({answer.answer[0].ttl for answer, _ in answers}) == len(answers):
        assert share in (None, 100)


@given(st.integers(1, 10_000), st.integers(2, 30))
def test_what_is_always_fetched_is_never_a_hit(ttl: int, count: int) -> None:
    """A forwarder without a cache."""
    assert dns_caches.hit_pct([at(1.1 * number, ttl) for number in range(count)]) == 0
