"""The datagrams by which a worker asks another one with which mark they came to it. Pure.

A request and its answer have one form and one length, so that nobody is sent more than was sent in his name. Both carry
a truncated HMAC (RFC 2104, 128 bits of SHA-256) under a key that the hosts share: without it there is no answer.
First the asker opens, and says when: the answer brings a challenge, made of the address and port that the request came
from. Every further request shows it, so that who cannot hear answers at an address cannot have any sent there, not even
by repeating requests that he has seen. No two requests are alike, also where one is sent for want of an answer to
another: what comes a second time was repeated by somebody else.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

_MAGIC = b"SSM1"
#: Magic, sort, octet, two bytes of 0, sequence number, nonce, time, challenge.
_FIELDS = struct.Struct("!4sBB2xI8sQ16s")
MAC_BYTES = 16
#: Bytes of every datagram.
SIZE = _FIELDS.size + MAC_BYTES
NONCE_BYTES = 8
CHALLENGE_BYTES = 16
NO_CHALLENGE = bytes(CHALLENGE_BYTES)
#: Fewer characters of a key are refused: it is not meant to be guessed.
SHORTEST_KEY = 32
#: An opening is answered while it is no older, and no further in the future, by the responder's clock.
FRESH_S = 60
#: A challenge is good for this long at least, and twice as long at most.
CHALLENGE_S = 60


class Sort(IntEnum):
    """What a datagram is."""

    OPEN = 1
    OPENED = 2
    MARKED = 3
    SEEN = 4


@dataclass(frozen=True, kw_only=True)
class MarkMessage:
    """One datagram."""

    sort: Sort
    #: Random, of one run; the answer repeats it.
    nonce: bytes
    #: Number of the request, no two of one run alike; the answer repeats it.
    sequence: int = 0
    #: In SEEN, the octet with DSCP and ECN with which the request came.
    octet: int = 0
    #: In OPEN, when it was made: microseconds since 1970-01-01 UTC.
    at_us: int = 0
    challenge: bytes = NO_CHALLENGE


def derived(secret: str) -> bytes:
    """Return the key that datagrams are signed with, from the text that the hosts share."""
    return hashlib.sha256(b"streamswarm marks 1\0" + secret.encode()).digest()


def packed(message: MarkMessage, key: bytes) -> bytes:
    """Return a datagram, signed."""
    fields = _FIELDS.pack(
        _MAGIC, message.sort, message.octet, message.sequence, message.nonce, message.at_us, message.challenge
    )
    return fields + _mac(fields, key)


def read(data: bytes, keys: Sequence[bytes]) -> tuple[MarkMessage, bytes] | None:
    """Return what a datagram says and the key that signed it; None for anything that none of the keys signed."""
    if len(data) != SIZE or not data.startswith(_MAGIC):
        return None
    fields, mac = data[: _FIELDS.size], data[_FIELDS.size :]
    key = next((each for each in keys if hmac.compare_digest(mac, _mac(fields, each))), None)
    if key is None:
        return None
    _, sort, octet, sequence, nonce, at_us, challenge = _FIELDS.unpack(fields)
    if sort not in tuple(Sort):
        return None
    message = MarkMessage(
        sort=Sort(sort), nonce=nonce, sequence=sequence, octet=octet, at_us=at_us, challenge=challenge
    )
    return message, key


def _mac(fields: bytes, key: bytes) -> bytes:
    return hmac.digest(key, fields, "sha256")[:MAC_BYTES]
