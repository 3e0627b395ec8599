"""`streamswarm fleet`: provision and verify hosts, take workers off them, build bundles, show the inventory."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from controller.cli import fleet_upgrade, permission
from controller.cli.client import CA_FILE, Client
from controller.cli.fleet_history import History
from controller.cli.fleet_past import history
from controller.cli.fleet_playing import (
    CHECK,
    HOSTS_FAILED,
    INVENTORY,
    client_of_command,
    on_hosts,
    play,
    request_of,
)
from controller.cli.fleet_removal import remove
from controller.cli.fleet_service import SERVICE
from controller.cli.on_hosts import stop_by_signal, usual_inventories
from controller.errors import ConfigurationError
from controller.fleet import operations
from controller.fleet.api import workers_of
from controller.fleet.bundles import ensure_bundle
from controller.fleet.description import describe
from controller.fleet.desk import Grant, Reach
from controller.fleet.events import TaskEvent
from controller.fleet.inventory import InventoryHost, load_inventory
from controller.fleet.operations import Recap
from controller.fleet.parts import PARTS
from controller.fleet.platforms import Platform
from controller.fleet.verification import faults
from controller.printable import printable
from controller.settings import Settings


@click.group()
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates, in PEM, by which the controller's is verified. [default: STREAMSWARM_CA_FILE, else the system's]",
)
def fleet(ca_file: Path | None) -> None:
    """Hosts of the inventory and the workers on them."""
    if ca_file is not None:
        # The playbooks' own look-ups read it there too.
        os.environ[CA_FILE] = str(ca_file.absolute())


for each in (history, remove, *SERVICE):
    fleet.add_command(each)


@fleet.command()
@on_hosts
@CHECK
def provision(**chosen: Any) -> None:
    """Install the worker on hosts and let it enrol.

    Enrolment tokens come from the controller of this machine, or from the one that STREAMSWARM_URL and
    STREAMSWARM_TOKEN name. Ends with 0 when every host
    is as it should be, 1 when some are not, 2 when a setting is wrong, 130 when stopped.
    """
    client = client_of_command()

    def grant_for(host: InventoryHost) -> Grant:
        about = {
            "host": host.name,
            "site": host.site,
            "labels": dict(host.labels),
            "groups": list(host.groups),
        }
        return Grant.from_answer(client.post("/enrolment-tokens", about))

    request = request_of(**chosen)
    permission.require(client, "operator", "to provision hosts")
    hosts = operations.hosts_of(request)
    play(
        lambda **watching: operations.provision(
            request,
            grant_for=grant_for,
            ask_reach=lambda: Reach.from_answer(client.get("/enrolment")),
            describe=lambda host: describe(client, hosts[host]),
            **watching,
        ),
        history=History("provision", request, client),
        again="Provisioning the same hosts again goes on where it was.",
    )


@fleet.command()
@on_hosts
@click.option("--ca", "root", is_flag=True, help="Replace the root of the certificate authority too.")
def rotate(root: bool, **chosen: Any) -> None:
    """Have the workers renew their keys and certificates now, while they measure.

    With --ca, on the controller's own machine, a new root takes the place of the old one meanwhile; both are trusted until
    every worker has a certificate under the new one. Exit codes are those of `provision`.
    """
    from controller.cli.ca import take_step_as_owner
    from controller.fleet.rotating import rotate_root
    from controller.gateway import rotation

    request = request_of(**chosen)
    if root and request.limit:
        raise click.UsageError("--ca is about all workers; leave --limit away")
    settings = Settings.load()

    def operation(on_event: Callable[[TaskEvent], None], cancelled: Callable[[], bool]) -> Recap:
        def renew() -> Recap:
            return operations.rotate(request, on_event=on_event, cancelled=cancelled)

        if not root:
            return renew()
        return rotate_root(
            at=rotation.stage(settings),
            step=lambda: take_step_as_owner(settings),
            renew=renew,
            cancelled=cancelled,
        )

    play(
        operation,
        history=History("rotate", request),
        again="Rotating again goes on where it was.",
        verdict="renewed",
    )


@fleet.command()
@on_hosts
def verify(**chosen: Any) -> None:
    """Say of each host whether it is as provisioned; changes nothing.

    Looks at the service, the release, the identity, policy and configuration on the host and whether they are in force, and
    at whether its worker is connected, delivers and keeps to the intended policy as the controller sees it. Exit codes are those of `provision`.
    """
    client = client_of_command()

    request = request_of(**chosen)
    hosts = operations.hosts_of(request)

    def examine(host: str) -> str:
        now = dt.datetime.now(dt.UTC)
        return "; ".join(faults(workers_of(client, host), now=now, policy=hosts[host].policy))

    play(
        lambda **watching: operations.verify(request, examine=examine, **watching),
        history=History("verify", request, client),
        again="Nothing was changed.",
        verdict="as provisioned",
    )


@fleet.command()
@on_hosts
@CHECK
@click.option(
    "--to",
    "release",
    default="",
    help="Wheel of a release, or version of a bundle that lies ready. [default: the release that is installed here]",
)
@fleet_upgrade.options_of
def upgrade(
    release: str,
    canary: int,
    batch: int,
    patience_s: float,
    accept_inconclusive: bool,
    yes: bool,
    **chosen: Any,
) -> None:
    """Bring hosts to another release, canaries first, and back when it does not do.

    Each step must connect and deliver; then what it measures is held against its own past and against the hosts that do
    not have the release yet. Ends with 0 when every host has it, 1 when some do not or a step was returned, 4 when a
    host of such a step does not confirm that it was, 3 when there was too little to compare and the upgrade pauses, 2 and 130 as
    `provision` does. Running it again goes on where it was.
    """
    request = request_of(**chosen)
    if release:
        named = str(Path(release).absolute()) if release.endswith(".whl") else release
        request = dataclasses.replace(
            request, variables={**request.variables, "streamswarm_worker_to": named}
        )
    options = fleet_upgrade.Options(
        canary=canary,
        batch=batch,
        patience_s=patience_s,
        accept_inconclusive=accept_inconclusive,
        yes=yes,
    )
    with stop_by_signal() as stopped:
        code = fleet_upgrade.upgrade(request, options, stopped.is_set)
    sys.exit(code)


@fleet.command()
@click.option("--python", required=True, help="Full version of the host's Python, for example 3.11.2.")
@click.option("--architecture", required=True, help="x86_64 or aarch64.")
@click.option("--libc", required=True, help="C library of the host, for example glibc-2.36 or musl-1.2.")
@click.option("--part", type=click.Choice(list(PARTS)), default="worker", show_default=True)
@click.option(
    "--release",
    default="",
    help="Wheel of another release than this installation's, or the version of a bundle that lies ready.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the bundle's description as JSON.")
def bundle(python: str, architecture: str, libc: str, part: str, release: str, as_json: bool) -> None:
    """Build the bundle of a part of the product for a platform, unless it lies ready, and print its path."""
    platform = Platform.parse(python=python, architecture=architecture, libc=libc)
    built = ensure_bundle(
        platform,
        folder=Settings.load().bundles,
        part=PARTS[part],
        release=release,
        report=lambda text: click.echo(f"  {text}", err=True),
    )
    click.echo(json.dumps(built.description()) if as_json else str(built.path))


@fleet.command()
@INVENTORY
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inventory(inventories: tuple[Path, ...], as_json: bool) -> None:
    """Show the hosts of the inventory as StreamSwarm sees them."""
    hosts = load_inventory(usual_inventories(inventories))
    if as_json:
        keys = ("name", "address", "port", "user", "groups", "measured_address", "site", "labels")
        click.echo(
            json.dumps([{key: getattr(host, key) for key in keys} for host in hosts], indent=2, default=dict)
        )
        return
    table = Table("host", "address", "user", "groups", "site", "labels", box=None)
    for host in hosts:
        labels = ", ".join(f"{key}={value}" for key, value in host.labels.items())
        where = host.address if host.port == 22 else f"{host.address} port {host.port}"
        cells = (host.name, where, host.user, ", ".join(host.groups), host.site, labels)
        table.add_row(*(click.unstyle(cell) for cell in cells))
    Console(markup=False).print(table)


@fleet.command()
@INVENTORY
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@click.option(
    "--mend", "mends", is_flag=True, help="Bring site, labels and groups in line with the inventory."
)
def drift(inventories: tuple[Path, ...], as_json: bool, mends: bool) -> None:
    """Tell in what the controller's workers are other than the inventory.

    A line for each thing that is, with what to do. Ends with 0 when there is nothing, with 1 when there is something.
    """
    from controller.fleet import distribution
    from controller.fleet import drift as drifting
    from controller.fleet.bundles import described_version, ready_bundles

    hosts = load_inventory(usual_inventories(inventories))
    releases = drifting.Releases(
        distribution=distribution.version(),
        ready=ready_bundles(Settings.load().bundles),
        of_file=described_version,
    )

    with closing(Client.from_environment()) as client:

        def compare() -> drifting.Comparison:
            workers = [drifting.FleetWorker.from_answer(item) for item in client.items("/workers", limit=500)]
            return drifting.compare(hosts, workers, releases=releases)

        found = compare()
        if mends and (mended := drifting.mend(client, found)):
            click.echo(f"site, labels and groups of {mended} workers are as in the inventory now", err=True)
            found = compare()
    if as_json:
        click.echo(json.dumps(found.as_plain(), indent=2))
    else:
        for item in found.drift:
            click.echo(printable(str(item)))
        for note in found.notes:
            click.echo(printable(note), err=True)
        if not found.drift:
            click.echo(f"{found.hosts} hosts are as the inventory wants them")
    sys.exit(HOSTS_FAILED if found.drift else 0)


@fleet.command()
@click.argument("group")
@INVENTORY
@click.option("--kind", default="ping", show_default=True, help="Kind of the tests.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the kind, its value in YAML; may be given again. Those not given take their defaults; none "
    "given at all leaves the tests' as they are.",
)
@click.option(
    "--interval",
    type=click.FloatRange(1, 2_678_400),
    help="Seconds from one run to the next: 30 for a new mesh, else as it is.",
)
@click.option("--remove", is_flag=True, help="Take the mesh away.")
@click.option("--check", is_flag=True, help="Only say what would change.")
def mesh(
    group: str,
    inventories: tuple[Path, ...],
    kind: str,
    parameters: tuple[str, ...],
    interval: float | None,
    remove: bool,
    check: bool,
) -> None:
    """Let every host of a group measure every other one.

    Makes a destination for each host and a test that all others aim at it. Running it again brings both in line with
    the inventory.
    """
    from controller.cli.suites import show
    from controller.fleet import mesh as meshes
    from controller.suites.applying import apply

    wanted = meshes.Mesh(
        group=group, kind=kind, spec=_parameters(parameters), interval_s=interval, remove=remove
    )
    hosts = () if remove else load_inventory(usual_inventories(inventories))
    with closing(Client.from_environment()) as client:
        state = meshes.read_state(client)
        planned = meshes.plan(wanted, hosts, state)
        console = show(planned.changes)
        for note in planned.notes:
            click.echo(printable(note), err=True)
        if planned.changes.conflicts:
            sys.exit(HOSTS_FAILED)
        if planned.changes.effective and not check:
            done = apply(client, planned.changes, state)
            console.print(f"Done: {done} of {len(planned.changes.effective)} changes.")


def _parameters(given: tuple[str, ...]) -> dict[str, Any] | None:
    """Read `NAME=VALUE` words; None when there are none."""
    values: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ConfigurationError(f"`{word}` is not a parameter", mend="write it as NAME=VALUE, count=5")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"the value in `{word}` is not YAML", mend="quote it") from error
    return values or None
