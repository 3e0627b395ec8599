"""Finds out whether a write-ahead log of SQLite lost committed transactions to damage.

SQLite reads such a log up to the first frame whose checksum is wrong and takes the rest for a transaction that was
being written when the power failed. It says nothing when whole committed transactions lie behind that frame. The
number of frames up to the last commit, counted here before SQLite opens the file, tells the two apart.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = (0x377F0682, 0x377F0683)


def committed_frames(path: Path) -> int:
    """Return how many frames of the current generation the log has up to its last commit; 0 when there is no log.

    Only the salts are compared, not the checksums: a frame that was damaged later still counts.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0
    if len(content) < _HEADER.size:
        return 0
    magic, _, page_size, _, salt_1, salt_2, _, _ = _HEADER.unpack_from(content)
    if magic not in _MAGIC or not 512 <= page_size <= 65536:
        # An unreadable header hides everything behind it: count all that may be there.
        return max(0, (len(content) - _HEADER.size) // (4096 + _FRAME.size))
    last = 0
    size = _FRAME.size + page_size
    for index in range((len(content) - _HEADER.size) // size):
        _, pages_after_commit, frame_salt_1, frame_salt_2, _, _ = _FRAME.unpack_from(
            content, _HEADER.size + index * size
        )
        if (frame_salt_1, frame_salt_2) != (salt_1, salt_2):
            # A flipped bit in the salt itself; a frame of an older generation has another one altogether.
            if frame_salt_1 != salt_1 and frame_salt_2 != salt_2:
                break
            continue
        if pages_after_commit:
            last = index + 1
    return last
