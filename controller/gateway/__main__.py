"""`python -m controller.gateway`: run the gateway with the settings of the environment."""

import asyncio
import sys

from controller import logs
from controller.errors import StreamSwarmError
from controller.gateway.server import serve
from controller.settings import Settings


def main() -> int:
    """Run until stopped; return the exit code."""
    try:
        settings = Settings.load()
        logs.set_up(settings.log_level)
        asyncio.run(serve(settings))
    except StreamSwarmError as error:
        print(error, file=sys.stderr)  # noqa: T201  the command line's own output
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
