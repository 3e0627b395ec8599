"""`streamswarm fleet restart`, `drain` and `resume`: workers in and out of service."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, NoReturn

import click

from controller.cli.client import Client
from controller.cli.fleet_history import History
from controller.cli.fleet_playing import on_named_hosts, play, request_of
from controller.fleet import operations
from controller.fleet.operations import Recap
from controller.fleet.service import Done, tell


@click.command()
@on_named_hosts
@click.option(
    "--force", is_flag=True, help="Kill workers instead of letting them end their runs and deliver."
)
def restart(force: bool, **chosen: Any) -> None:
    """Start the workers of hosts anew, and wait until they are connected.

    HOST is a host or group of the inventory, or any host pattern of Ansible's; `workers` are all. In order, a worker ends its
    runs and delivers first. Exit codes are those of `provision`.
    """
    _play(
        "restart",
        operations.restart,
        chosen,
        {"streamswarm_worker_force": True} if force else {},
        "restarted",
    )


@click.command()
@on_named_hosts
@click.option(
    "--wait", type=click.IntRange(0, 86_400), help="Seconds to deliver waiting results. [default: 60]"
)
def drain(wait: int | None, **chosen: Any) -> None:
    """Take the workers of hosts out of service, until `resume`.

    HOST is as for `restart`. A worker ends its runs, delivers what it has, and stays stopped, also when its host starts anew.
    What cannot be delivered is kept there. Exit codes are those of `provision`.
    """
    variables = {} if wait is None else {"streamswarm_worker_drain_timeout": wait}
    _play("drain", partial(operations.drain, tell=_teller("drained")), chosen, variables, "drained")


@click.command()
@on_named_hosts
def resume(**chosen: Any) -> None:
    """Put workers that were drained into service again, and wait until they are connected.

    HOST is as for `restart`. Exit codes are those of `provision`.
    """
    _play("resume", partial(operations.resume, tell=_teller("resumed")), chosen, {}, "in service")


def _teller(done: Done) -> Callable[[str], str]:
    """Return what lets the controller know of a host's worker; the command goes on without the controller."""
    return lambda host: tell(lambda: closing(Client.from_environment()), host, done)


SERVICE = (restart, drain, resume)


def _play(
    kind: str,
    run: Callable[..., Recap],
    chosen: dict[str, Any],
    variables: dict[str, Any],
    verdict: str,
) -> NoReturn:
    hosts = chosen.pop("hosts")
    between = "," if any("," in each for each in hosts) else ":"
    request = request_of(limit=between.join(hosts), **chosen)
    request = dataclasses.replace(request, variables={**request.variables, **variables})
    play(
        lambda **watching: run(request, **watching),
        history=History(kind, request),
        again="Calling it again goes on where it was.",
        verdict=verdict if not request.check else f"would be {verdict}",
    )
