"""What all commands share that run a playbook on hosts: their options, their progress, their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.text import Text

from controller.cli.client import Client
from controller.cli.fleet_history import History
from controller.cli.fleet_progress import FleetProgress
from controller.cli.on_hosts import STOPPED, stop_by_signal, usual_inventories, variables_of
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.patterns import Names, check_pattern
from controller.printable import printable

#: Some host is not as it should be.
HOSTS_FAILED = 1

INVENTORY = click.option(
    "-i",
    "--inventory",
    "inventories",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Inventory file or folder; may be given again. "
    "[default: STREAMSWARM_INVENTORY, else inventory/hosts.ini or hosts.yml]",
)


_LIMIT = click.option(
    "-l", "--limit", default="", help="Only these hosts or groups (an Ansible host pattern)."
)
_OTHERS = (
    click.option(
        "--forks",
        type=click.IntRange(1, 200),
        default=10,
        show_default=True,
        help="Hosts at the same time.",
    ),
    click.option(
        "-e",
        "--variables",
        "variable_files",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        multiple=True,
        help="YAML file with further variables; may be given again.",
    ),
)


def on_hosts(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of everything that runs a playbook on hosts; `request_of` takes their values."""
    for option in reversed((INVENTORY, _LIMIT, *_OTHERS)):
        command = option(command)
    return command


def on_named_hosts(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what `on_hosts` does, with the hosts as arguments: those that nobody ever meant for all."""
    hosts = click.argument("hosts", nargs=-1, required=True, metavar="HOST…")
    for option in reversed((hosts, INVENTORY, *_OTHERS, CHECK)):
        command = option(command)
    return command


CHECK = click.option("--check", is_flag=True, help="Only say what would change.")


def request_of(
    *,
    inventories: tuple[Path, ...],
    limit: str,
    forks: int,
    variable_files: tuple[Path, ...],
    check: bool = False,
) -> PlaybookRequest:
    """Turn the options of `on_hosts` into a request; raises ConfigurationError for a limit that may mean other hosts."""
    inventories = usual_inventories(inventories)
    if limit:
        check_pattern(limit, Names.of(inventories))
    return PlaybookRequest(
        inventories=inventories,
        limit=limit,
        check=check,
        forks=forks,
        variables=variables_of(variable_files),
    )


def client_of_command() -> Client:
    """Return a client of the controller, which is closed at the end of the command."""
    return click.get_current_context().with_resource(closing(Client.from_environment()))


def play(
    operation: Callable[..., Recap], *, again: str, verdict: str = "ready", history: History | None = None
) -> NoReturn:
    """Run an operation with its progress shown, print how each host came out of it, and end with its exit code.

    With `history` the controller writes it down too, and may end it from there.
    """
    console = Console(stderr=True)
    follow = operation if history is None else partial(history.follow, operation)
    try:
        with stop_by_signal() as stopped, FleetProgress(console) as progress:
            recap = follow(on_event=progress.take, cancelled=stopped.is_set)
    finally:
        if history is not None and history.trouble:
            console.print(
                Text(printable(f"The controller's history lacks this run or its end: {history.trouble}"))
            )
    progress.show(recap, verdict)
    if recap.cancelled:
        console.print(f"Stopped. {again}")
        sys.exit(STOPPED)
    sys.exit(0 if recap.succeeded else HOSTS_FAILED)
