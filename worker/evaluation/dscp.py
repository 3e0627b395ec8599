"""Differentiated services code points: names, where they are defined, and how link layers carry them. Pure.

The octet in the IP header is `dscp << 2 | ecn` (RFC 2474, RFC 3168).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Values of the two ECN bits (RFC 3168): no ECN, ECN-capable (1), ECN-capable (0), congestion experienced.
NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3

_ASSURED = {f"AF{group}{drop}": 8 * group + 2 * drop for group in range(1, 5) for drop in range(1, 4)}
_SELECTORS = {f"CS{number}": 8 * number for number in range(8)}
_BY_NAME = {**_SELECTORS, **_ASSURED, "EF": 46, "VA": 44, "LE": 1, "DF": 0, "BE": 0}
#: CS0 is the name of zero here, not DF or BE, so that a code point has one name.
_BY_NUMBER = {number: name for name, number in reversed(_BY_NAME.items())}

#: User priority of 802.11 by name (RFC 8325, section 4.3; LE: RFC 8622). Whatever is not listed is best effort.
_USER_PRIORITY = {
    "CS7": 7,
    "CS6": 7,
    "EF": 6,
    "VA": 6,
    "CS5": 5,
    **{f"AF{group}{drop}": 4 for group in (3, 4) for drop in (1, 2, 3)},
    "CS4": 4,
    "CS3": 4,
    **{f"AF2{drop}": 3 for drop in (1, 2, 3)},
    "CS1": 1,
    "LE": 1,
}
#: What a class is meant for (RFC 4594, section 2.3; VA: RFC 5865, LE: RFC 8622).
_SERVICE_CLASS = {
    "CS6": "network control",
    "EF": "telephony",
    "VA": "telephony, admitted by capacity",
    "CS5": "signalling",
    **{f"AF4{drop}": "multimedia conferencing" for drop in (1, 2, 3)},
    "CS4": "real-time interactive",
    **{f"AF3{drop}": "multimedia streaming" for drop in (1, 2, 3)},
    "CS3": "broadcast video",
    **{f"AF2{drop}": "low-latency data" for drop in (1, 2, 3)},
    "CS2": "operation, administration and maintenance",
    **{f"AF1{drop}": "high-throughput data" for drop in (1, 2, 3)},
    "CS0": "standard",
    "CS1": "low-priority data",
    "LE": "lower effort",
}
#: Access category of a user priority (IEEE 802.11, RFC 8325, section 4).
_ACCESS_CATEGORY = {
    0: "AC_BE", 3: "AC_BE", 1: "AC_BK", 2: "AC_BK", 4: "AC_VI", 5: "AC_VI", 6: "AC_VO", 7: "AC_VO",
}  # fmt: skip


class DscpError(ValueError):
    """A text that is no code point; the message shows what is."""


@dataclass(frozen=True, kw_only=True)
class CodePoint:
    """A class of traffic."""

    #: 0 to 63.
    number: int
    #: `EF`, `AF41`, …; the number as text where it has no name.
    name: str
    #: The RFC that defines it; empty for a number without a name.
    reference: str
    #: What it is meant for, such as `telephony`; empty where no RFC says.
    service_class: str
    #: Priority code point of 802.1p, which is the class selector (RFC 2474, section 4.2.2; LE is background).
    cos: int
    #: User priority and access category of Wi-Fi (RFC 8325).
    user_priority: int
    access_category: str

    def octet(self, ecn: int = NOT_ECT) -> int:
        """Return the octet of the IP header."""
        return self.number << 2 | ecn


def parse(text: str) -> CodePoint:
    """Return the class of a name or number; raises DscpError."""
    name = text.strip().upper()
    if name in _BY_NAME:
        return code_point(_BY_NAME[name])
    if re.fullmatch(r"[0-9]{1,2}", name) and int(name) < 64:
        return code_point(int(name))
    raise DscpError(
        f"`{text}` is no DSCP: name EF, VA, LE, CS0 to CS7, AF11 to AF43, or a number from 0 to 63"
    )


def code_point(number: int) -> CodePoint:
    """Return the class of a number from 0 to 63."""
    name = _BY_NUMBER.get(number, str(number))
    priority = _USER_PRIORITY.get(name, 0)
    return CodePoint(
        number=number,
        name=name,
        reference=_reference(name),
        service_class=_SERVICE_CLASS.get(name, ""),
        # Lower effort goes below best effort, which 802.1Q does by priority 1 (RFC 8622, section 11).
        cos=1 if name == "LE" else number >> 3,
        user_priority=priority,
        access_category=_ACCESS_CATEGORY[priority],
    )


def described(point: CodePoint) -> dict[str, str]:
    """Return what texts there are about a class, for a run's detail."""
    texts = {"service_class": point.service_class, "defined_by": point.reference}
    return {name: text for name, text in texts.items() if text} | {"access_category": point.access_category}


def named(octet: int) -> str:
    """Return the name of the class in an octet, with its ECN bits where they are set."""
    ecn = {ECT0: " ECT(0)", ECT1: " ECT(1)", CE: " CE"}.get(octet & 3, "")
    return code_point(octet >> 2).name + ecn


def _reference(name: str) -> str:
    if name.startswith("CS"):
        return "RFC 2474"
    if name.startswith("AF"):
        return "RFC 2597"
    return {"EF": "RFC 3246", "VA": "RFC 5865", "LE": "RFC 8622"}.get(name, "")
