"""What hosts and workers tell is shown on a terminal and does not steer it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from controller.cli import fleet_upgrade
from controller.cli.client import Client
from controller.cli.fleet_progress import FleetProgress
from controller.cli.fleet_upgrade import Options, Playbooks
from controller.cli.main import _Lazy
from controller.errors import StreamSwarmError
from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import PlaybookRequest, Recap
from controller.printable import printable

#: Writes to the clipboard, clears the screen, rings, goes back, begins a sequence with one sign, turns the writing round.
STEERS = "\x1b]52;c;cm0=\x07\x1b[2J\r\b\x9b2J\u202e"


def _steers(shown: str) -> set[str]:
    return {sign for sign in shown if sign in STEERS and not sign.isprintable()}


def _recap() -> Recap:
    told = {"message": f"failed{STEERS}", "notes": (f"note{STEERS}",)}
    return Recap(hosts=(HostRecap(host="a", ok=0, changed=0, failed=1, unreachable=False, **told),))


def test_lines_stay_and_other_control_characters_do_not() -> None:
    """Letters of any script stay too."""
    assert printable("über\n→ 東京") == "über\n→ 東京"
    assert not _steers(printable(STEERS))


def test_progress_and_recap() -> None:
    """Tasks that fail, messages and notes, as they come and afterwards."""
    written = io.StringIO()
    with FleetProgress(Console(file=written, width=200)) as progress:
        progress.take(TaskEvent(host="a", task=f"Look{STEERS}", state=TaskState.FAILED, message=STEERS))
        progress.show(_recap())
    assert "note" in written.getvalue()
    assert not _steers(written.getvalue())


def test_a_bar_shows_how_far_each_host_is() -> None:
    """On a terminal each host has a line with its share; at the end only the table is left."""
    written = io.StringIO()
    console = Console(file=written, width=120, force_terminal=True, color_system=None)
    with FleetProgress(console) as progress:
        for host, ended in (("oslo", 3), ("bergen", 1)):
            for number in range(ended):
                for state in (TaskState.STARTED, TaskState.OK):
                    progress.take(TaskEvent(host=host, task=f"Step {number}", state=state, of=4))
        # What was never counted has no measure.
        progress.take(TaskEvent(host="lom", task="Clear", state=TaskState.STARTED))
        progress._progress.refresh()
        shown = written.getvalue()
        progress.show(_recap())
    lines = {line.split()[1]: line for line in shown.splitlines() if "/" in line}
    assert "3/4" in lines["oslo"]
    assert "Step 2" in lines["oslo"]
    assert "1/4" in lines["bergen"]
    assert "0/?" in lines["lom"]


def test_an_upgrade(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its plan, which says why hosts are left out, and whatever else it says."""
    monkeypatch.setattr(Playbooks, "look", lambda self: _recap())
    monkeypatch.setattr(
        Client, "from_environment", classmethod(lambda cls: Client("http://127.0.0.1:9", "ssw_test"))
    )
    options = Options(canary=1, batch=1, patience_s=1.0, accept_inconclusive=False, yes=True)
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("a\n")
    request = PlaybookRequest(inventories=(inventory,))
    assert fleet_upgrade.upgrade(request, options, lambda: False) == fleet_upgrade.HOSTS_FAILED
    shown = capsys.readouterr().err
    assert "failed" in shown
    assert not _steers(shown)


def test_an_error() -> None:
    """The controller's answers hold what workers told."""

    @click.group(cls=_Lazy)
    def group() -> None: ...

    def fails(*_: Any) -> Callable[..., Any]:
        raise StreamSwarmError(f"worker {STEERS}", mend=f"look{STEERS}")

    group.get_command = fails  # type: ignore[assignment]
    done = CliRunner().invoke(group, ["anything"])
    assert done.exit_code == 1
    assert "→ look" in done.output
    assert not _steers(done.output)
