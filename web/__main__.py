"""`python -m web`: the dashboard and the API in the foreground."""

from __future__ import annotations

import sys

from controller.errors import StreamSwarmError
from controller.settings import Settings
from web.serve import serve


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    try:
        serve(Settings.load())
    except StreamSwarmError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
