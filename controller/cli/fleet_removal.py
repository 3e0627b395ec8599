"""`streamswarm fleet remove`: takes workers off hosts, and does the controller's part for each."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from controller.cli import permission
from controller.cli.fleet_history import History
from controller.cli.fleet_playing import CHECK, client_of_command, on_hosts, play, request_of
from controller.fleet import operations
from controller.fleet.retirement import Retirement, retire


@click.command()
@on_hosts
@CHECK
@click.option(
    "--on-controller",
    type=click.Choice([each.value for each in Retirement if each is not Retirement.DELETE_WITH_DATA]),
    help="What becomes of the worker there. [default: revoke]",
)
@click.option(
    "--with-data", is_flag=True, help="Delete the worker there together with its results, for good."
)
@click.option("--keep-data", is_flag=True, help="Leave identity, waiting results and jobs on the host.")
@click.option("--discard", is_flag=True, help="Go on although results cannot be delivered; they are lost.")
@click.option(
    "--wait", type=click.IntRange(0, 86_400), help="Seconds to deliver waiting results. [default: 60]"
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(
    on_controller: str | None,
    with_data: bool,
    keep_data: bool,
    discard: bool,
    wait: int | None,
    yes: bool,
    **chosen: Any,
) -> None:
    """Take the worker off hosts, with everything that provisioning put there.

    Results that wait on a host are delivered first; where that does not succeed the worker stays, unless --discard or
    --keep-data says otherwise. What the controller has of its results stays, unless --with-data is given. Exit codes are those of `provision`.
    """
    if with_data and on_controller not in (None, Retirement.DELETE.value):
        raise click.UsageError("--with-data deletes the worker at the controller; leave --on-controller away")
    how = Retirement.DELETE_WITH_DATA if with_data else Retirement(on_controller or Retirement.REVOKE)
    client = client_of_command()
    request = request_of(**chosen)
    flags = {"streamswarm_worker_keep_data": keep_data, "streamswarm_worker_discard": discard}
    variables: dict[str, Any] = {name: True for name, value in flags.items() if value}
    if wait is not None:
        variables["streamswarm_worker_drain_timeout"] = wait
    request = dataclasses.replace(request, variables={**request.variables, **variables})
    if not request.check and how is not Retirement.KEEP:
        permission.require(
            client,
            "admin",
            "to revoke or delete the workers of removed hosts",
            without="bring the controller back and call this again; or add `--on-controller keep`, which clears the hosts, and "
            "revoke or delete their workers when it is back",
        )
    if not yes and not request.check:
        where = f"the hosts `{request.limit}`" if request.limit else "ALL hosts of the group `workers`"
        sources = ", ".join(map(str, request.inventories))
        also = " and delete all their results at the controller" if with_data else ""
        click.confirm(f"Take the worker off {where} of {click.unstyle(sources)}{also}?", abort=True, err=True)
    play(
        lambda **watching: operations.remove(
            request, retire=lambda host: retire(client, host, how), **watching
        ),
        history=History("remove", request, client),
        again="Removing the same hosts again goes on where it was.",
        verdict="removed" if not request.check else "would be removed",
    )
