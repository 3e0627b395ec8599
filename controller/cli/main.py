"""The command `streamswarm`. Commands translate and call; the thinking lives below."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from controller.cli.commands import COMMANDS
from controller.errors import StreamSwarmError
from controller.printable import printable
from streamswarm import __version__

#: Our packages: when one of these is missing, no installation mends it.
_OWN = ("controller", "worker", "web", "streamswarm")


class _Lazy(click.Group):
    """A group that imports a command's module when the command is called, and prints our errors as they are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, entry.summary if entry.installed else f"(not installed) {entry.summary}")
            for name, entry in COMMANDS.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if not entry.installed:
            raise _not_installed(cmd_name)
        try:
            command = getattr(importlib.import_module(entry.module), entry.attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in _OWN:
                raise
            raise _not_installed(cmd_name, error.name) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamSwarmError as error:
            click.echo(f"streamswarm: {printable(str(error))}", err=True)
            sys.exit(error.exit_code)


def _not_installed(name: str, package: str = "the extra `controller`") -> click.ClickException:
    return click.ClickException(
        f"`streamswarm {name}` needs {package}, which the base installation leaves out\n"
        "  → pip install 'streamswarm[controller]'"
    )


#: Commands that work in the data folder. Root runs them as the account that owns it: what lies there is that
#: account's, and could be a link to anywhere. (So does `doctor`, which does not stop at settings that are wrong, and
#: the step of `fleet rotate --ca` that works there, while the rest needs root's own keys for its hosts.)
_AS_OWNER = {"down", "status", "user", "token", "db", "ca"}


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamswarm")
@click.pass_context
def cli(context: click.Context) -> None:
    """Distributed network monitoring: tests, workers, results."""
    if context.invoked_subcommand in _AS_OWNER and hasattr(os, "geteuid") and os.geteuid() == 0:
        from controller.local import account
        from controller.settings import Settings

        account.become_owner(Settings.load())
