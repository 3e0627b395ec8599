"""`streamswarm run`: probe suites once, from this machine without any server, or on inventory hosts."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from controller.errors import ConfigurationError
from controller.suites import suite as suites
from controller.suites.execution import Permissions, execute
from controller.suites.junit import junit
from controller.suites.markdown import counts, markdown
from controller.suites.outcome import Outcome, State, SuiteRun
from controller.suites.plain import as_json
from controller.suites.suite import Suite
from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2

#: Every test passed.
PASSED = 0
#: Some test did not pass.
FAILED = 1
#: Something could not be run.
NOT_RUN = 2
#: Stopped before the end, as a shell says it.
STOPPED = 130

#: Columns of a table in a log, where nobody's window sets them.
_LOG_WIDTH = 160
_LOOKS = {State.PASSED: "green", State.FAILED: "red", State.NOT_RUN: "yellow"}
_SIGNS = {State.PASSED: "✓", State.FAILED: "✗", State.NOT_RUN: "!"}
_FILE = click.Path(dir_okay=False, path_type=Path, allow_dash=True)


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="SUITE…", type=click.Path(path_type=Path, allow_dash=True)
)
@click.option("--junit", "junit_file", type=_FILE, help="Write JUnit XML there; `-` is standard output.")
@click.option(
    "--markdown", "markdown_file", type=_FILE, help="Append a Markdown summary there; `-` is standard output."
)
@click.option(
    "--json",
    "json_file",
    type=_FILE,
    help="Write all that was measured as JSON there; `-` is standard output.",
)
@click.option(
    "--policy", type=click.Path(dir_okay=False, path_type=Path), help="Keep to this worker's policy file."
)
@click.option("--allow-loopback", is_flag=True, help="Loopback addresses may be tested.")
@click.option(
    "--databases-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with databases about addresses (`.mmdb`): systems and places of a traceroute's hops.",
)
@click.option(
    "--responder-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the workers' `responder_key`, with which qos asks the worker at its destination.",
)
@click.option("--check", "only_check", is_flag=True, help="Only check the files; send nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no table.")
@click.option("--on", metavar="GROUP", help="Run on these inventory hosts (an Ansible host pattern) by SSH.")
@click.option(
    "-i",
    "--inventory",
    "inventories",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --on: inventory file or folder; may be given again. [default: inventory/hosts.ini or hosts.yml]",
)
@click.option("-l", "--limit", default="", help="With --on: only these of them (an Ansible host pattern).")
@click.option(
    "--forks",
    type=click.IntRange(1, 200),
    default=10,
    show_default=True,
    help="With --on: hosts at the same time.",
)
@click.option("--become", is_flag=True, help="With --on: measure as root, for kinds that need it.")
def run(
    files: tuple[Path, ...],
    junit_file: Path | None,
    markdown_file: Path | None,
    json_file: Path | None,
    policy: Path | None,
    *,
    allow_loopback: bool,
    databases_dir: Path | None,
    responder_key_file: Path | None,
    only_check: bool,
    quiet: bool,
    on: str | None,
    inventories: tuple[Path, ...],
    limit: str,
    forks: int,
    become: bool,
) -> None:
    """Run the tests of suites once from this machine.

    Needs no server. With --on the tests run on each of the hosts instead, which need no worker and keep nothing.
    Ends with 0 when every test passed, 1 when some did not, 2 when something could not be run: a faulty suite, a
    forbidden target, a kind that this machine cannot measure; with 130 when stopped. Nothing is sent unless
    everything may be.
    """
    outputs = {"JUnit XML": junit_file, "Markdown": markdown_file, "JSON": json_file}
    taken = [name for name, path in outputs.items() if path == Path("-")]
    if len(taken) > 1:
        raise click.UsageError(f"{' and '.join(taken)} cannot share standard output")
    if on is None and (inventories or limit or become):
        raise click.UsageError("--inventory, --limit and --become go with --on")
    if on is not None and (policy is not None or allow_loopback):
        raise click.UsageError(
            "--policy and --allow-loopback are about this machine; on hosts the inventory's streamswarm_worker_policy holds"
        )
    if on is not None and (databases_dir is not None or responder_key_file is not None):
        raise click.UsageError(
            "--databases-dir and --responder-key-file are about this machine; on hosts the inventory's "
            "streamswarm_worker_options hold"
        )
    _check_writable([path for path in outputs.values() if path is not None])
    loaded = [suites.load(path) for path in files]
    if only_check:
        for suite in loaded:
            click.echo(
                f"{shown(suite.file, 500)}: `{shown(suite.name)}` is right, with {_amount(len(suite.tests), 'test')}"
            )
        return
    runs: tuple[SuiteRun, ...] | None
    if on is not None:
        runs = _agentless().run_on_hosts(
            loaded, on=on, inventories=inventories, limit=limit, forks=forks, become=become, quiet=quiet
        )
    else:
        permissions = Permissions(
            policy=policy,
            allow_loopback=allow_loopback,
            databases_dir=databases_dir,
            responder_key_file=responder_key_file,
        )
        try:
            with _progress(loaded, shown_to_people=not quiet) as progress:
                runs = execute(loaded, permissions=permissions, on_outcome=progress)
        except KeyboardInterrupt:
            runs = None
    if runs is None:
        # Not 1, which says that tests have failed.
        click.echo("Stopped; there is no verdict.", err=True)
        sys.exit(STOPPED)
    try:
        _write(junit_file, lambda: junit(runs))
        _write(markdown_file, lambda: markdown(runs), append=True)
        _write(json_file, lambda: as_json(runs))
        if not quiet:
            console = _Output(stderr=bool(taken), highlight=False)
            if not console.is_terminal:
                console.width = _LOG_WIDTH
            for done in runs:
                _show(console, done)
        sys.stdout.flush()
    except OSError as error:
        # Not 1, which says that tests have failed. What is left in the buffer must not fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"streamswarm: standard output cannot be written: {error.strerror}", err=True)
        sys.exit(NOT_RUN)
    sys.exit(_conclude(runs))


def _agentless() -> Any:
    """Return the module for runs on hosts, which belongs to the extra `controller`: this command must do without."""
    missing = [name for name in ("ansible_runner", "uv") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"running suites on hosts needs {' and '.join(missing)}, which the base installation leaves out",
            mend="pip install 'streamswarm[controller]'",
        )
    return importlib.import_module("controller.cli.agentless")


class _Output(Console):
    """A console that says when nobody reads it, instead of ending the program with the code of failed tests."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _conclude(runs: Sequence[SuiteRun]) -> int:
    """Say on standard error what could not be run, with file and line; return the exit code."""
    outcomes = [outcome for run in runs for outcome in run.outcomes]
    for host, problem in {run.host: run.problem for run in runs if run.problem}.items():
        click.echo(f"{shown(host)}: nothing was measured: {shown(problem, 500)}", err=True)
    remarks = {run.host: run.remark for run in runs if run.remark}
    for host, remark in remarks.items():
        click.echo(f"{shown(host)}: it measured, but then: {shown(remark, 500)}", err=True)
    told = [
        (run.host, outcome)
        for run in runs
        for outcome in run.outcomes
        if outcome.state is State.NOT_RUN and not _only_waited(outcome)
    ]
    for host, outcome in told:
        place = f" on {shown(host)}" if host else ""
        click.echo(
            f"{shown(outcome.test.at, 500)}: `{shown(outcome.title)}` could not be run{place}: {outcome.reason}",
            err=True,
        )
        if "loopback" in outcome.reason and "policy" in outcome.reason:
            mend = "set allow_loopback in the host's streamswarm_worker_policy, in the inventory"
            if not host:
                mend = "allow it with --allow-loopback, or name a --policy that does"
            click.echo(f"  → {mend}", err=True)
    if remarks or any(outcome.state is State.NOT_RUN for outcome in outcomes):
        return NOT_RUN
    return FAILED if any(outcome.state is State.FAILED for outcome in outcomes) else PASSED


def _only_waited(outcome: Outcome) -> bool:
    return outcome.result.failure_source == probe_pb2.FAILURE_SOURCE_SCHEDULE


@contextmanager
def _progress(loaded: Sequence[Suite], *, shown_to_people: bool) -> Iterator[Callable[[Outcome], None]]:
    """Show a bar on a terminal while tests run; yields what is told of each outcome."""
    console = Console(stderr=True)
    total = sum(len(test.aims) for suite in loaded for test in suite.tests)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not shown_to_people or not console.is_terminal,
    )
    with bar:
        task = bar.add_task("measuring", total=total)
        yield lambda outcome: bar.update(task, advance=1, description=escape(shown(outcome.title, 40)))


def _show(console: Console, done: SuiteRun) -> None:
    """Print a suite's table: what was measured, and why a test did not pass."""
    if done.problem:
        console.print(
            f"[bold]{escape(shown(done.title))}[/]  [{_LOOKS[State.NOT_RUN]}]nothing was measured[/]"
        )
        return
    table = Table("", "test", "kind", "measured", "why", box=None, pad_edge=False, title_justify="left")
    table.columns[3].justify = "right"
    for outcome in done.outcomes:
        look = _LOOKS[outcome.state]
        headline = outcome.headline
        table.add_row(
            f"[{look}]{_SIGNS[outcome.state]} {outcome.state.value}[/]",
            escape(shown(outcome.title, 200)),
            outcome.test.kind.name,
            "" if headline.value is None else escape(headline.amount),
            escape(shown(outcome.reason, 500)),
        )
    console.print(f"[bold]{escape(shown(done.title))}[/]  {counts(done)} in {done.duration_s:.1f} s")
    console.print(table)


def _check_writable(paths: Sequence[Path]) -> None:
    """Refuse output files that cannot be written before anything is measured for them."""
    for path in paths:
        if path != Path("-") and not path.absolute().parent.is_dir():
            raise ConfigurationError(
                f"{path}: its folder is not there", mend="make the folder, or name another file"
            )


def _write(path: Path | None, make: Callable[[], str], *, append: bool = False) -> None:
    if path is None:
        return
    if path == Path("-"):
        click.echo(make(), nl=False)
        return
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(make())
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written: {error.strerror}", mend="name another file"
        ) from error


def _amount(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
