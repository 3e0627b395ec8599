"""The command `streamswarm`. Commands translate and call; the thinking lives below."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from controller.errors import StreamSwarmError
from streamswarm import __version__

#: Command → module and attribute that hold it, loaded when it is called: the base installation has not all of them.
_COMMANDS = {
    "run": ("controller.cli.run", "run"),
    "plan": ("controller.cli.suites", "plan"),
    "apply": ("controller.cli.suites", "apply"),
    "export": ("controller.cli.suites", "export"),
    "schema": ("controller.cli.suites", "schema"),
    "up": ("controller.cli.local", "up"),
    "down": ("controller.cli.local", "down"),
    "status": ("controller.cli.local", "status"),
    "gateway": ("controller.cli.processes", "gateway"),
    "keeper": ("controller.cli.processes", "keeper"),
    "web": ("controller.cli.processes", "web"),
    "db": ("controller.cli.db", "db"),
    "user": ("controller.cli.users", "user"),
    "token": ("controller.cli.tokens", "token"),
    "ca": ("controller.cli.ca", "ca"),
    "fleet": ("controller.cli.fleet", "fleet"),
}


class _Lazy(click.Group):
    """A group that imports a command's module when the command is asked for, and prints our errors as they are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in (
                "controller",
                "worker",
                "web",
                "streamswarm",
            ):
                raise
            raise click.ClickException(
                f"`streamswarm {cmd_name}` needs the package {error.name}, which the base installation leaves out\n"
                "  → pip install 'streamswarm[controller]'"
            ) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamSwarmError as error:
            click.echo(f"streamswarm: {error}", err=True)
            sys.exit(error.exit_code)


#: Commands that work in the data folder. Root runs them as the account that owns it: what lies there is that
#: account's, and could be a link to anywhere.
_AS_OWNER = {"down", "status", "user", "token", "db", "ca"}


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamswarm")
@click.pass_context
def cli(context: click.Context) -> None:
    """Distributed network monitoring: tests, workers, results."""
    if context.invoked_subcommand in _AS_OWNER and hasattr(os, "geteuid") and os.geteuid() == 0:
        _become_owner()


def _become_owner() -> None:
    """Replace this process of root's by the same command under the account that owns the data folder, if there is one."""
    from controller.local import account
    from controller.settings import Settings

    settings = Settings.load()
    owner = account.owner_of(settings.data_dir)
    if owner is not None:
        command = account.command(settings, sys.argv[1:], owner)
        os.execve(command[0], command, account.environment(settings, owner))  # noqa: S606  no shell wanted
