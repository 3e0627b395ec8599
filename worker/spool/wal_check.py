"""Finds out whether a write-ahead log of SQLite may have lost transactions to damage.

SQLite reads such a log up to the first frame whose checksum is wrong and takes the rest for a transaction that was
being written when the power failed; a damaged header hides the whole log. It says nothing in either case. The
number of frames that were written, counted here before SQLite opens the file, shows whether any were left out.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
_USUAL_PAGE = 4096


def committed_frames(path: Path) -> int:
    """Return the number of the last frame that ended a transaction since the log was begun anew, 0 for none.

    Frames behind the last such frame belong to a transaction that a kill or a loss of power has cut off. Frames of
    earlier rounds carry other salts. One salt is enough to know a frame again, so that damage to the other does not
    hide it; a frame header of zeros was never written as such and counts.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0
    if len(content) < _HEADER.size:
        return 0
    magic, _, page_size, _, salt_1, salt_2, *check_sum = _HEADER.unpack_from(content)
    if _sum(content[:24], _MAGIC.get(magic, ">")) != tuple(check_sum) or not 512 <= page_size <= 65536:
        return (len(content) - _HEADER.size) // (_FRAME.size + _USUAL_PAGE)
    last = 0
    size = _FRAME.size + page_size
    for index in range((len(content) - _HEADER.size) // size):
        header = _FRAME.unpack_from(content, _HEADER.size + index * size)
        _, pages_after_commit, frame_1, frame_2, _, _ = header
        known = frame_1 == salt_1 or frame_2 == salt_2
        if (known and pages_after_commit) or not any(header):
            last = index + 1
    return last


def _sum(data: bytes, order: str) -> tuple[int, int]:
    """Return the format's own checksum."""
    first = second = 0
    for one, other in struct.iter_unpack(f"{order}2I", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
