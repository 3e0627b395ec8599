"""`streamswarm gateway`, `keeper` and `web`: one controller process each, in the foreground."""

from __future__ import annotations

import os
import sys

import click

from controller.programs import module_command


@click.command()
def gateway() -> None:
    """Serve workers: sessions, ingest, enrolment."""
    _become("controller.gateway")


@click.command()
def keeper() -> None:
    """Run background tasks: planning, partitions, upkeep."""
    _become("controller.keeper")


@click.command()
def web() -> None:
    """Serve the dashboard and the REST API."""
    _become("web")


def _become(module: str) -> None:
    """Replace this process, so that nothing of the command line stays in a daemon (and gRPC sees its settings first)."""
    os.execv(sys.executable, module_command(module))  # noqa: S606  no shell wanted
