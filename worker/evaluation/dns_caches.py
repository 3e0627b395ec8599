"""Which of the answers to a repeated question came from a cache, as far as their TTLs tell it. Pure.

A cache counts the TTL of what it keeps down by the second (RFC 1035, section 3.2.1); what is fetched anew has the zone's TTL, which is
the largest that is ever seen. Several caches may answer at one address in turn, each with its own count: an answer goes on
with the count of any earlier one, or with none. What was fetched meanwhile, by whomever, and what another cache may
have is not told apart, and is not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdatatype

#: RFC 8914: the answer is one that a cache has kept beyond its time; its TTL does not count down.
_STALE = dns.edns.EDECode.STALE_ANSWER
#: TTLs are whole seconds, and the seconds of two clocks begin at other instants.
_ROUNDING_S = 1

#: Whose TTL it is: name, type, and the type that a signature covers.
_Key = tuple[dns.name.Name, dns.rdatatype.RdataType, dns.rdatatype.RdataType]
#: An answer, and when it was there, in seconds of a clock that nobody sets.
Timed = tuple[dns.message.Message, float]


def hit_pct(answers: Sequence[Timed]) -> float | None:
    """Return the share of repeated answers that came from a cache, of those that can be told; None when none can."""
    ttls = [_ttls(message) for message, _at_s in answers]
    told = []
    for number in range(1, len(answers)):
        message, at_s = answers[number]
        earlier = [(ttls[index], at_s - answers[index][1]) for index in range(number)]
        told.append(_from_cache(message, ttls[number], earlier))
    decided = [hit for hit in told if hit is not None]
    return 100.0 * sum(decided) / len(decided) if decided else None


def _from_cache(
    message: dns.message.Message, ttls: dict[_Key, int], earlier: Sequence[tuple[dict[_Key, int], float]]
) -> bool | None:
    """Return whether an answer came from a cache as a whole, by the earlier ones and the seconds since each."""
    if not ttls:
        return None
    if message.flags & dns.flags.AA:
        return False
    if any(isinstance(option, dns.edns.EDEOption) and option.code == _STALE for option in message.options):
        return True
    verdicts = [
        _kept(ttl, [(known[key], passed_s) for known, passed_s in earlier if key in known])
        for key, ttl in ttls.items()
    ]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _kept(ttl: int, earlier: Sequence[tuple[int, float]]) -> bool | None:
    """Return whether records were kept in a cache, by their TTL, and the TTLs that they had before with the seconds since."""
    if any(0 < before - ttl <= passed_s + _ROUNDING_S for before, passed_s in earlier):
        return True
    largest = max((before for before, _passed_s in earlier), default=None)
    if largest != ttl:
        return None
    # The largest again, though a cache would have counted it down since it was last seen.
    return False if min(passed_s for before, passed_s in earlier if before == ttl) > _ROUNDING_S else None


def _ttls(message: dns.message.Message) -> dict[_Key, int]:
    """Return the TTL of each set of records in the answer section, the smallest where they have several."""
    found: dict[_Key, int] = {}
    for rrset in message.answer:
        key = rrset.name, rrset.rdtype, rrset.covers
        found[key] = min(int(rrset.ttl), found.get(key, int(rrset.ttl)))
    return found
