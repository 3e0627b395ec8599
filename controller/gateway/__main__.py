"""`python -m controller.gateway`: run the gateway with the settings of the environment."""

import asyncio
import logging
import sys

from controller.errors import StreamSwarmError
from controller.gateway.server import serve
from controller.settings import Settings


def main() -> int:
    """Run until stopped; return the exit code."""
    try:
        settings = Settings.load()
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        asyncio.run(serve(settings))
    except StreamSwarmError as error:
        print(error, file=sys.stderr)  # noqa: T201  the command line's own output
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
