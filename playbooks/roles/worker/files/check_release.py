"""Prints which files of a release are missing or changed since it was unpacked, as JSON: the first of them, and how many more.

Runs on the host under the account that Ansible comes with, and needs nothing but the standard library. The release's own
list, in the form of sha256sum(1), says what they were: a list that is missing or cut off counts as damage too.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

LIST = "files.sha256"
#: As unpack_release.py writes it, the list ends with this file.
LAST = "release.json"
#: More of them are counted only.
SHOWN = 3


def damaged(release: Path) -> list[str]:
    """Return the names of the files that are not as the list of a release says."""
    try:
        lines = (release / LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return [LIST]
    listed = [line.partition("  ") for line in lines]
    if not listed or listed[-1][2] != LAST:
        return [LIST]
    return [name for digest, _, name in listed if _hash(release / name) != digest]


def _hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; empty for one that cannot be read, by the worker's account neither."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


if __name__ == "__main__":
    found = damaged(Path(sys.argv[1]))
    sys.stdout.write(json.dumps({"damaged": found[:SHOWN], "more": len(found[SHOWN:])}) + "\n")
