"""`streamswarm report` and `streamswarm results`: files from the controller, over its REST API."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from controller.cli.client import Client
from controller.cli.output import whole_file
from controller.errors import NotFoundError, StreamSwarmError

_POLL_S = 0.5
_UNITS = {"h": "hours", "d": "days"}

_LAST = click.option("--last", help="Hours or days up to now: `24h`, `7d`.")
_FROM = click.option("--from", "start", help="Begin, an instant with its zone: `2030-01-31T08:00:00Z`.")
_TO = click.option("--to", "end", help="End, not included; now unless given.")
_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)


class ReportFailedError(StreamSwarmError):
    """The controller could not make the report."""


@click.command()
@click.option("--test", "names", multiple=True, required=True, help="Name of a test; several are allowed.")
@_LAST
@_FROM
@_TO
@_OUTPUT
@click.option(
    "--wait", type=click.FloatRange(1, 86_400), default=900, show_default=True, help="Longest wait, seconds."
)
def report(
    names: tuple[str, ...], last: str | None, start: str | None, end: str | None, output: Path, wait: float
) -> None:
    """Have a report on tests made, and fetch the PDF."""
    client = Client.from_environment()
    try:
        asked = {"tests": find_tests(client, names), **_range(last, start, end)}
        made = _wait(client, client.post("/reports", asked), wait)
        with whole_file(output) as file:
            size = client.download(f"/reports/{made['id']}/file", file)
    finally:
        client.close()
    click.echo(f"{output}: {size:,} bytes, SHA-256 {made['sha256']}")


@click.group()
def results() -> None:
    """Look after results."""


@results.command()
@click.option("--test", "name", required=True, help="Name of a test.")
@_LAST
@_FROM
@_TO
@click.option(
    "--child",
    default="",
    help="A repeated group, such as hops: a line for each of its rows instead of each run.",
)
@_OUTPUT
def export(name: str, last: str | None, start: str | None, end: str | None, child: str, output: Path) -> None:
    """Write the runs of a test as CSV; the last 24 hours unless told otherwise."""
    client = Client.from_environment()
    try:
        (test_id,) = find_tests(client, [name])
        asked = {**_instants(last, start, end), "child": child}
        query = {key: value for key, value in asked.items() if value}
        with whole_file(output) as file:
            size = client.download(f"/tests/{test_id}/results.csv", file, **query)
    finally:
        client.close()
    click.echo(f"{output}: {size:,} bytes")


def find_tests(client: Client, names: Sequence[str]) -> list[int]:
    """Return the ids of tests by their names, whatever the case; NotFoundError names the first that is not there."""
    found = []
    for name in names:
        wanted = name.strip()
        ids = [
            test["id"]
            for test in client.items("/tests", search=wanted)
            if test["name"].lower() == wanted.lower()
        ]
        if not ids:
            raise NotFoundError(
                f"there is no test named `{wanted}`", mend="look at the names on the dashboard, under Tests"
            )
        found.append(ids[0])
    return found


def _range(last: str | None, start: str | None, end: str | None) -> dict[str, str]:
    return {key: value for key, value in (("last", last), ("from", start), ("to", end)) if value}


def _instants(last: str | None, start: str | None, end: str | None) -> dict[str, str | None]:
    """Return begin and end; the export knows no `last`."""
    if not last:
        return {"from": start, "to": end}
    if start or end:
        raise click.UsageError("--last cannot be given together with --from or --to")
    if not last[:-1].isdigit() or last[-1] not in _UNITS or not 0 < int(last[:-1]) <= 9999:
        raise click.UsageError("--last must be a number of hours or days such as `24h` or `7d`")
    now = dt.datetime.now(dt.timezone.utc)
    begin = now - dt.timedelta(**{_UNITS[last[-1]]: int(last[:-1])})
    return {"from": begin.isoformat(), "to": now.isoformat()}


def _wait(client: Client, made: dict[str, Any], longest_s: float) -> dict[str, Any]:
    """Wait until a report is ready, and show meanwhile what is being done."""
    console = Console(stderr=True)
    ends = time.monotonic() + longest_s
    with console.status(f"report {made['id']}: waiting", spinner="dots") as status:
        while made["state"] in ("waiting", "working"):
            if time.monotonic() > ends:
                raise ReportFailedError(
                    f"report {made['id']} is not ready after {longest_s:g} s",
                    mend="it goes on being made; fetch it from the dashboard, and see there whether a keeper runs",
                )
            time.sleep(_POLL_S)
            made = client.get(f"/reports/{made['id']}")
            status.update(f"report {made['id']}: {made['progress'] or made['state']}")
    if made["state"] != "ready":
        raise ReportFailedError(f"report {made['id']} failed: {made['error']}", mend=made["mend"])
    return made
