"""`streamswarm doctor`: what is wrong with this controller."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from controller.doctor import examine
from controller.errors import StreamSwarmError
from controller.local import account
from controller.settings import Settings
from streamswarm import findings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Tell what is wrong with this controller and how to mend it."""
    found = list(_examine())
    for line in [findings.as_json(found)] if as_json else findings.as_lines(found):
        click.echo(line)
    sys.exit(findings.exit_code(found))


def _examine() -> Iterator[findings.Finding]:
    try:
        settings = Settings.load()
        account.become_owner(settings)
    except StreamSwarmError as error:
        yield findings.wrong("settings", error.message, error.mend)
        yield findings.unknown("everything else", "nothing else can be looked at without the settings")
        return
    yield from examine(settings)
