"""`python -m controller.keeper`: one keeper in the foreground."""

from __future__ import annotations

import asyncio
import logging
import sys

from controller import logs
from controller.errors import StreamSwarmError
from controller.keeper.app import serve
from controller.keeper.outages import OneLineEach
from controller.settings import Settings
from streamswarm import collector


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    try:
        settings = Settings.load()
        logs.set_up(settings.log_level, settings.log_format)
        for handler in logging.getLogger().handlers:
            handler.addFilter(OneLineEach())
        # The queue tells of every single task; that is of interest only when looking for a fault in it.
        logging.getLogger("procrastinate").setLevel(
            logging.INFO if settings.log_level == "debug" else logging.WARNING
        )
        # The pool tells of every attempt to connect; the keeper itself tells when the database goes and comes.
        logging.getLogger("psycopg.pool").setLevel(
            logging.INFO if settings.log_level == "debug" else logging.ERROR
        )
        collector.settle()
        asyncio.run(serve(settings))
    except StreamSwarmError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
