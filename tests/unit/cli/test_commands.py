"""The table of commands, from which help is made without importing the product."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from controller.cli.commands import COMMANDS, Entry


@pytest.mark.parametrize(("name", "entry"), COMMANDS.items(), ids=COMMANDS)
def test_the_table_says_what_the_command_says_of_itself(name: str, entry: Entry) -> None:
    """The summary in the table is the first sentence of the command's own help."""
    command = getattr(importlib.import_module(entry.module), entry.attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(limit=1000) == entry.summary


def test_help_imports_nothing_heavy() -> None:
    """`streamswarm --help` answers at once, so it loads no command and no library but click."""
    code = (
        "import json, sys\n"
        "from controller.cli.main import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    heavy = {"sqlalchemy", "httpx", "grpc", "google", "rich", "yaml", "psutil", "cryptography", "ansible"}
    assert not loaded & heavy
