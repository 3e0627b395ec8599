"""What reading a DNS message would cost, before it is read: 64 KiB may stand for hundreds of thousands of labels.

Names are compressed by pointers to where they stood before (RFC 1035, section 4.1.4), and each record may have a name of
127 labels for two bytes. The walk here follows each pointer once.
"""

from __future__ import annotations

import struct

import dns.rdatatype as types

#: Records of all sections, with their EDNS options; and labels of all names. A thousand records of a few labels stay below.
MOST_RECORDS = 1_000
MOST_LABELS = 6_000

_COUNTS = struct.Struct("!4x4H")
#: Behind a name: type, class, TTL, length of the data.
_RECORD = struct.Struct("!HHIH")
_QUESTION_BYTES = 4
_POINTER = 0xC0
#: Labels of the longest name (RFC 1035, section 3.1).
_LONGEST_NAME = 127
#: Where names stand in the data of records, and how many follow each other there.
_NAMES = {
    types.NS: (0, 1), types.CNAME: (0, 1), types.PTR: (0, 1), types.DNAME: (0, 1), types.NSEC: (0, 1),
    types.SOA: (0, 2), types.RP: (0, 2), types.MX: (2, 1), types.AFSDB: (2, 1), types.KX: (2, 1), types.RT: (2, 1),
    types.LP: (2, 1), types.SVCB: (2, 1), types.HTTPS: (2, 1), types.PX: (2, 2), types.SRV: (6, 1),
    types.RRSIG: (18, 1), types.SIG: (18, 1), types.TSIG: (0, 1), types.TKEY: (0, 1),
}  # fmt: skip
_NAMELESS = {
    types.A, types.AAAA, types.TXT, types.SPF, types.DNSKEY, types.CDNSKEY, types.KEY, types.DS, types.CDS, types.DLV,
    types.NSEC3, types.NSEC3PARAM, types.CSYNC, types.CAA, types.TLSA, types.SMIMEA, types.SSHFP, types.CERT, types.DHCID,
    types.OPENPGPKEY, types.HINFO, types.LOC, types.URI, types.EUI48, types.EUI64, types.APL, types.ZONEMD,
}  # fmt: skip


class TooLargeError(Exception):
    """The message has more than is read; the message says what."""


class _Walk:
    """Where a walk through a message is, and what it has found."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 12
        self.labels = 0
        #: Labels of the names that begin at offsets.
        self._known: dict[int, int] = {}

    def name(self) -> None:
        """Go past a name; raises IndexError at the end of the message."""
        begun: list[int] = []
        at = bound = self.at
        end = count = 0
        while length := self._data[at]:
            if length < _POINTER:
                begun.append(at)
                at += 1 + length
                continue
            end = end or at + 2
            to = (length & ~_POINTER) << 8 | self._data[at + 1]
            if to >= bound:  # pointers lead back; the reader says so
                break
            at = bound = to
            if at in self._known:
                count = self._known[at]
                break
        self.at = end or at + 1
        for start in reversed(begun):
            count = self._known[start] = count + 1
        self._count(min(count, _LONGEST_NAME))

    def record(self) -> int:
        """Go past a record; return how many EDNS options it holds."""
        self.name()
        kind, _class, _ttl, length = _RECORD.unpack_from(self._data, self.at)
        start = self.at + _RECORD.size
        options = 0
        if kind == types.OPT:
            at = start
            while at + 4 <= start + length and options <= MOST_RECORDS:
                at += 4 + int.from_bytes(self._data[at + 2 : at + 4], "big")
                options += 1
        elif kind in _NAMES:
            skipped, names = _NAMES[types.RdataType.make(kind)]
            self.at = start + skipped
            for _ in range(names):
                self.name()
        elif kind not in _NAMELESS:
            self._count(_LONGEST_NAME)
        self.at = start + length
        return options

    def _count(self, labels: int) -> None:
        self.labels += labels
        if self.labels > MOST_LABELS:
            raise TooLargeError(f"the names of its records have more than {MOST_LABELS:,} labels")


def check(data: bytes) -> None:
    """Raise TooLargeError for a message with too much to read; one that breaks off is for the reader to complain of."""
    if len(data) < 12:
        return
    questions, *sections = _COUNTS.unpack_from(data)
    walk = _Walk(data)
    found = 0
    try:
        for _ in range(questions):
            walk.name()
            walk.at += _QUESTION_BYTES
        for _ in range(sum(sections)):
            found += 1 + walk.record()
            if found > MOST_RECORDS:
                raise TooLargeError(f"it has more than {MOST_RECORDS:,} records")
    except (IndexError, struct.error):
        return
