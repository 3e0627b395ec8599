"""`streamswarm fleet history`: what was done to hosts, the newest first, as the controller wrote it down."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.client import Client
from controller.printable import printable
from controller.store.operation_words import KINDS


@click.command()
@click.option("--host", default="", help="Only what was done to this host of the inventory.")
@click.option("--kind", type=click.Choice(KINDS), help="Only operations of this kind.")
@click.option("--most", type=click.IntRange(1, 500), default=20, show_default=True, help="Operations shown.")
def history(host: str, kind: str | None, most: int) -> None:
    """Show what was done to hosts, the newest first; the dashboard's page Fleet has the details."""
    table = Table("", "operation", "hosts", "state", "by", "begun (UTC)", box=None, pad_edge=False)
    query = {name: value for name, value in (("host", host), ("kind", kind)) if value}
    with closing(Client.from_environment()) as client:
        for found in itertools.islice(client.items("/operations", **query), most):
            table.add_row(*(Text(printable(word)) for word in _row(found)))
    if not table.row_count:
        click.echo("Nothing was done to hosts yet that the controller knows of.", err=True)
        return
    Console().print(table)


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one operation's cells."""
    begun = dt.datetime.fromisoformat(found["started_at"] or found["created_at"])
    counts = found["hosts"]
    unwell = counts["failed"] + counts["unreachable"]
    where = found["limit"] or "all workers"
    return (
        str(found["id"]),
        f"{found['kind']}{' (check)' if found['check'] else ''}",
        f"{where}: {unwell} of {counts['total']} not well" if unwell else where,
        found["state"],
        found["made_by"],
        begun.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S"),
    )
