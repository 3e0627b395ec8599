"""`streamswarm plan`, `apply`, `export` and `schema`: tests as code, over the REST API."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from controller.cli.client import Client
from controller.errors import ConfigurationError
from controller.suites import suite as suites
from controller.suites.applying import apply as apply_changes
from controller.suites.changes import MARK, Change, Changes, compare
from controller.suites.exporting import export as export_suite
from controller.suites.schema import suite_schema
from controller.suites.state import read_state
from streamswarm.targets import shown

#: Something stands in the way, or nobody agreed.
REFUSED = 1
#: With --exit-code: there is something to change.
WOULD_CHANGE = 3

_SIGNS = {
    "create": "[green]+[/]",
    "update": "[yellow]~[/]",
    "delete": "[red]-[/]",
    "conflict": "[red]![/]",
    "left": " ",
}
_SUITE = click.argument("file", metavar="SUITE", type=click.Path(path_type=Path, allow_dash=True))
_PRUNE = click.option("--prune", is_flag=True, help="Delete what this suite has made and no longer names.")
_ADOPT = click.option("--adopt", is_flag=True, help="Take over what others have made under the same names.")


@click.command()
@_SUITE
@_PRUNE
@_ADOPT
@click.option("--exit-code", is_flag=True, help=f"End with {WOULD_CHANGE} when there is something to change.")
def plan(file: Path, *, prune: bool, adopt: bool, exit_code: bool) -> None:
    """Show what `apply` would change on the controller; changes nothing.

    The controller is the one of this machine, or the one that STREAMSWARM_URL and STREAMSWARM_TOKEN name. Ends with 0, or
    with 1 when something stands in the way.
    """
    suite = suites.load(file)
    changes = compare(suite, read_state(Client.from_environment()), prune=prune, adopt=adopt)
    show(changes)
    if changes.conflicts:
        sys.exit(REFUSED)
    sys.exit(WOULD_CHANGE if exit_code and changes.effective else 0)


@click.command()
@_SUITE
@_PRUNE
@_ADOPT
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def apply(file: Path, *, prune: bool, adopt: bool, yes: bool) -> None:
    """Make the controller's tests and destinations as the suite says.

    What the suite has not made is left alone. Shows the plan and asks before it changes anything.
    """
    suite = suites.load(file)
    client = Client.from_environment()
    state = read_state(client)
    changes = compare(suite, state, prune=prune, adopt=adopt)
    console = show(changes)
    if changes.conflicts:
        sys.exit(REFUSED)
    if not changes.effective:
        return
    if not yes and not _agreed(file):
        click.echo("Nothing was changed.", err=True)
        sys.exit(REFUSED)

    def tell(change: Change, note: str) -> None:
        if note:
            console.print(f"  left: {change.sort} {escape(shown(change.name))}: {escape(note)}")

    done = apply_changes(client, changes, state, on_change=tell)
    console.print(f"Done: {done} of {len(changes.effective)} changes.")


@click.command()
@click.option("--name", default="exported", show_default=True, help="Name of the suite.")
@click.option(
    "--tag", "tags", multiple=True, help="Only tests with this tag; may be given again for any of them."
)
@click.option("--from-suite", help="Only what the suite of this name has made.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there and not to standard output.",
)
def export(name: str, tags: tuple[str, ...], from_suite: str | None, output: Path | None) -> None:
    """Write the controller's tests as a suite.

    Assertions are not part of it: the controller does not know them.
    """
    mark = None if from_suite is None else MARK + suites.slug(from_suite)

    def wanted(test: Mapping[str, Any]) -> bool:
        return (not tags or bool({*tags} & {*test["tags"]})) and (mark is None or mark in test["tags"])

    text = export_suite(read_state(Client.from_environment()), name=name, wanted=wanted)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{output}: cannot be written: {error.strerror}", mend="name another file"
        ) from error


@click.command()
def schema() -> None:
    """Print the JSON Schema of suites, for editors."""
    click.echo(json.dumps(suite_schema(), indent=2))


def _agreed(file: Path) -> bool:
    if file == Path("-") or not sys.stdin.isatty():
        raise ConfigurationError(
            "nobody can be asked here whether to go on", mend="look at the plan, then add --yes"
        )
    return click.confirm("Make these changes?")


def show(changes: Changes) -> Console:
    """Print what would change, field by field, and the sum of it."""
    console = Console(highlight=False, soft_wrap=True)
    for change in changes.changes:
        reason = f": {escape(change.reason)}" if change.reason else ""
        console.print(
            f"{_SIGNS[change.action]} {change.action} {change.sort} [bold]{escape(shown(change.name, 100))}[/]{reason}"
        )
        for field in change.fields:
            console.print(f"    {field.path}: {_value(field.before)} → {_value(field.after)}")
    words = [
        f"{len(changes.of(action))} to {action}"
        for action in ("create", "update", "delete")
        if changes.of(action)
    ]
    words += [f"{len(changes.conflicts)} in the way"] if changes.conflicts else []
    words += [f"{changes.unchanged} as they should be"] if changes.unchanged else []
    console.print(", ".join(words) or "nothing to do")
    return console


def _value(value: Any) -> str:
    return "—" if value is None or value == [] else escape(shown(str(value), 200))
