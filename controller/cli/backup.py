"""`streamswarm backup` and `restore`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from controller import backup as backups
from controller.cli.output import private_file
from controller.errors import ConfigurationError
from controller.local import account
from controller.settings import Settings

_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
_PROGRAMS = click.option(
    "--programs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with PostgreSQL's pg_dump and pg_restore, of the server's major version.",
)


@click.command()
@click.argument("file", type=_FILE)
@_PROGRAMS
def backup(file: Path, programs: Path | None) -> None:
    """Write database, certificate authority, secrets and settings into one file. `-` writes to standard output."""
    settings = Settings.load()
    if str(file) == "-":
        _told(backups.make(settings, sys.stdout.buffer, folder=programs))
        return
    with private_file(file) as target:
        owner = account.owner_of(settings.data_dir) if account.is_root() else None
        if owner is None:
            _told(backups.make(settings, target, folder=programs))
            return
        words = ["backup", "-", *_words(programs)]
        done = subprocess.run(
            account.command(settings, words, owner),
            env=account.environment(settings, owner),
            stdout=target,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.returncode)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--replace", is_flag=True, help="Put it in the place of what is there, which is kept.")
@_PROGRAMS
def restore(file: Path, replace: bool, programs: Path | None) -> None:
    """Restore a backup into an empty installation. `-` reads standard input."""
    settings = Settings.load()
    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror}", mend="name a file that `streamswarm backup` wrote"
        ) from error
    if account.is_root():
        # As `up` does: nothing of an installation is root's. The account cannot read the file, so it gets it opened.
        runner = account.ensure(settings.data_dir)
        account.claim(settings.data_dir, runner)
        words = ["restore", "-", *(["--replace"] if replace else []), *_words(programs)]
        argv = account.command(settings, words, runner)
        os.dup2(source.fileno(), 0)
        os.execve(argv[0], argv, account.environment(settings, runner))  # noqa: S606  no shell wanted
    with source:
        manifest = backups.restore(settings, source, replace=replace, folder=programs)
    click.echo(f"restored what release {manifest.release} saved at {manifest.made_at}")
    click.echo(f"its settings lie in {settings.data_dir / 'settings.restored.yaml'}: compare them with yours")
    click.echo("then: streamswarm up (or `streamswarm db upgrade` and the processes)")


def _words(programs: Path | None) -> list[str]:
    return [] if programs is None else ["--programs", str(programs)]


def _told(manifest: backups.Manifest) -> None:
    click.echo(
        f"saved database (schema {manifest.schema}, PostgreSQL {manifest.postgres}) and {len(manifest.members) - 1} files; "
        "whoever has this file has the keys of the installation",
        err=True,
    )
