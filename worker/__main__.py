"""`python -m worker`: the daemon, checks of what this host can measure and of what is wrong, and single runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click

from streamswarm import __version__
from worker.config import DEFAULT_PATH, DEFAULT_POLICY, WorkerConfig, read_responder_keys
from worker.errors import ConfigurationError, WorkerError
from worker.logs import set_up_logs

_CONFIG = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="The worker's configuration.",
)


@click.group(invoke_without_command=True)
@click.option(
    "--once",
    is_flag=True,
    help="Read jobs as JSON lines from stdin, run each once, write results as JSON lines.",
)
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --once: the policy to keep to.",
)
@click.option("--allow-loopback", is_flag=True, help="With --once: loopback addresses may be tested.")
@click.option("--all-or-none", is_flag=True, help="With --once: run nothing unless every job may be run.")
@click.option(
    "--databases-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --once: folder with databases about addresses (`.mmdb`), which traceroute reads.",
)
@click.option(
    "--responder-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --once: file with the workers' `responder_key`, which qos asks far ends with.",
)
@click.version_option(__version__, prog_name="StreamSwarm worker")
@click.pass_context
def cli(
    context: click.Context,
    *,
    once: bool,
    policy_path: Path | None,
    allow_loopback: bool,
    all_or_none: bool,
    databases_dir: Path | None,
    responder_key_file: Path | None,
) -> None:
    """The measuring daemon of StreamSwarm."""
    if context.invoked_subcommand is not None:
        if any((once, policy_path, allow_loopback, all_or_none, databases_dir, responder_key_file)):
            raise click.UsageError("--once and what belongs to it go without a command")
        return
    if not once:
        click.echo(context.get_help())
        return
    from worker.once import run_lines
    from worker.policy import Policy

    set_up_logs("warning")
    policy = Policy() if policy_path is None else Policy.load(policy_path, required=True)
    if policy.broken:
        raise ConfigurationError(policy.broken, mend=f"mend {policy_path}")
    if allow_loopback:
        policy = policy.with_loopback()
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
    sys.exit(
        run_lines(
            lines,
            sys.stdout,
            policy=policy,
            all_or_none=all_or_none,
            databases=databases_dir,
            responder_keys=() if responder_key_file is None else read_responder_keys(responder_key_file),
        )
    )


@cli.command()
@_CONFIG
def run(config_path: Path) -> None:
    """Run the daemon until it is stopped."""
    from worker.lock import DataLock
    from worker.privileges import leave_root

    config = WorkerConfig.load(config_path)
    set_up_logs(config.log_level, config.log_format)
    leave_root(config.user, config.data_dir)
    lock = DataLock.take(config.data_dir)
    from worker import loop
    from worker.daemon import serve

    try:
        loop.run(serve(config))
    finally:
        lock.release()


@cli.command()
@_CONFIG
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    show_default=True,
    help="Seconds to deliver for, at the most.",
)
def drain(config_path: Path, wait_s: float) -> None:
    """Deliver what a stopped worker's spool holds; prints how many results still wait, as JSON.

    Nothing is measured meanwhile. Ends with 0 when the controller has everything, 1 when results still wait.
    """
    import dataclasses
    import json

    from worker.lock import DataLock
    from worker.privileges import leave_root

    config = WorkerConfig.load(config_path)
    set_up_logs(config.log_level, config.log_format)
    leave_root(config.user, config.data_dir)
    lock = DataLock.take(config.data_dir)
    from worker import draining, loop

    try:
        drained = loop.run(draining.drain(config, wait_s=wait_s))
    finally:
        lock.release()
    click.echo(json.dumps(dataclasses.asdict(drained)))
    sys.exit(1 if drained.waiting else 0)


@cli.command()
@_CONFIG
def check(config_path: Path) -> None:
    """Show which kinds this host can measure, and what mends those that it cannot."""
    from worker import probes
    from worker.policy import Policy

    config = WorkerConfig.load(config_path)
    policy = Policy.load(config.policy_file, required=config.policy_file != DEFAULT_POLICY)
    if policy.broken:
        raise WorkerError(policy.broken, mend=f"mend {config.policy_file}")
    for kind, state in probes.availability().items():
        click.echo(f"{kind:<12} {'available' if state.available else f'not available: {state.reason}'}")
        if state.mend:
            click.echo(f"{'':<12} mend it with: {state.mend}")


@cli.command()
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
def doctor(config_path: Path, as_json: bool) -> None:
    """Tell what is wrong with this worker and how to mend it; ends with 1 when something is."""
    from streamswarm import findings
    from worker.doctor import examine

    set_up_logs("error")
    found = list(examine(config_path))
    for line in [findings.as_json(found)] if as_json else findings.as_lines(found):
        click.echo(line)
    sys.exit(findings.exit_code(found))


def main() -> None:
    """Run the command line; a WorkerError is shown as one message."""
    try:
        cli(prog_name="python -m worker", standalone_mode=True)
    except WorkerError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
