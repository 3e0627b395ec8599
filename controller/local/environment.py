"""What child processes get of the environment that StreamSwarm was started in: no secret of anybody else's."""

from __future__ import annotations

import os

_NAMES = {
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TZ",
    "LANG",
    "LANGUAGE",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
}
_PREFIXES = ("LC_", "PYTHON")


def inherited() -> dict[str, str]:
    """Return the variables that every child may have: paths, language, time zone, certificate store."""
    return {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
