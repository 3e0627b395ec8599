"""`python -m controller.gateway`: run the gateway with the settings of the environment."""

import asyncio
import os
import resource
import sys

from controller import logs
from controller.errors import StreamSwarmError
from controller.settings import Settings
from streamswarm import collector


def main() -> int:
    """Run until stopped; return the exit code."""
    try:
        settings = Settings.load()
        logs.set_up(settings.log_level, settings.log_format)
        _allow_many_sessions()
        _poll_in_one_thread()
        from controller.gateway.server import serve

        collector.settle()
        asyncio.run(serve(settings))
    except StreamSwarmError as error:
        print(error, file=sys.stderr)  # noqa: T201  the command line's own output
        return error.exit_code
    return 0


def _allow_many_sessions() -> None:
    """Raise the limit of open files to what the system allows: each session is one, and the usual limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _poll_in_one_thread() -> None:
    """Have gRPC take what comes in on one thread instead of handing each packet on to one of a pool.

    Thousands of workers ping every 40 s; waking a thread of the pool for every ping took half as much again as the
    rest of an idle gateway. gRPC reads the variable when it is imported; what the environment says stands.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")


if __name__ == "__main__":
    sys.exit(main())
