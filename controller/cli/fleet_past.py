"""`streamswarm fleet history`: what was done to hosts, the newest first, as the controller wrote it down."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.client import Client
from controller.printable import printable
from controller.store.operation_words import KINDS
from streamswarm.targets import shown

#: What an operation tells of its end.
_WHY = (("why", "error"), ("what to do", "mend"))


@click.command()
@click.argument("operation", type=click.IntRange(1), required=False)
@click.option("--host", default="", help="Only what was done to this host of the inventory.")
@click.option("--kind", type=click.Choice(KINDS), help="Only operations of this kind.")
@click.option("--most", type=click.IntRange(1, 500), default=20, show_default=True, help="Operations shown.")
def history(operation: int | None, host: str, kind: str | None, most: int) -> None:
    """Show what was done to hosts, the newest first; with the number of an OPERATION, that one with all that it told."""
    with closing(Client.from_environment()) as client:
        if operation is not None:
            for line in _told(client, operation, host):
                click.echo(printable(line))
            return
        _list(client, host, kind, most)


def _list(client: Client, host: str, kind: str | None, most: int) -> None:
    table = Table("", "operation", "hosts", "state", "by", "begun (UTC)", box=None, pad_edge=False)
    query: dict[str, Any] = {name: value for name, value in (("host", host), ("kind", kind)) if value}
    query["limit"] = most
    for found in itertools.islice(client.items("/operations", **query), most):
        number, kind, *others = _row(found, limit=shown(found["limit"]))
        belongs = f", part of {found['part_of']}" if found["part_of"] else ""
        table.add_row(*(Text(printable(word)) for word in (number, f"{kind}{belongs}", *others)))
    if not table.row_count:
        click.echo("Nothing was done to hosts yet that the controller knows of.", err=True)
        return
    Console().print(table)


def _told(client: Client, operation: int, host: str) -> Iterator[str]:
    """Return an operation line by line: how it ended, its further steps, how its hosts came out of it, what was told."""
    found = client.get(f"/operations/{operation}")
    yield " ".join((f"operation {operation}:", *_row(found, limit=found["limit"])[1:]))
    yield from (f"{name}: {found[field]}" for name, field in _WHY if found[field])
    if found["part_of"]:
        yield f"part of: operation {found['part_of']}"
    query = {"host": host} if host else {}
    for step in reversed(list(client.items("/operations", part_of=operation, **query))):
        yield " ".join((f"further step {step['id']}:", *_row(step, limit=shown(step["limit"]))[1:]))
    for row in client.items(f"/operations/{operation}/hosts"):
        if host in ("", row["host"]):
            said = f": {_in_line(row['message'])}" if row["message"] else ""
            yield f"{row['host']}: {row['state']}, {row['changed']} changes{said}"
    for event in client.items(f"/operations/{operation}/events"):
        if host in ("", event["host"]):
            at = dt.datetime.fromisoformat(event["at"]).astimezone(dt.UTC)
            where = f" {event['host']}:" if event["host"] else ""
            lines = event["message"].splitlines() or [""]
            yield f"{at:%H:%M:%S}{where} {event['task']}: {lines[0]}".rstrip(": ")
            yield from (f"    {line}" for line in lines[1:])


def _in_line(text: str) -> str:
    return "; ".join(filter(None, map(str.strip, text.splitlines())))


def _row(found: Mapping[str, Any], *, limit: str) -> tuple[str, ...]:
    """Return one operation's cells, with its limit as it is to be shown."""
    begun = dt.datetime.fromisoformat(found["started_at"] or found["created_at"])
    counts = found["hosts"]
    unwell = counts["failed"] + counts["unreachable"]
    where = limit or "all workers"
    return (
        str(found["id"]),
        f"{found['kind']}{' (check)' if found['check'] else ''}",
        f"{where}: {unwell} of {counts['total']} not well" if unwell else where,
        found["state"],
        found["made_by"],
        begun.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S"),
    )
