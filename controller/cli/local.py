"""`streamswarm up`, `down` and `status`: StreamSwarm on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import click
import httpx
import psutil

from controller.errors import ConfigurationError, StreamSwarmError
from controller.local import account, runtime
from controller.local.lock import running_supervisor
from controller.local.progress import Failed, Listener, from_pipe, to_pipe, to_terminal
from controller.local.supervisor import Supervisor
from controller.settings import Settings

_STOP_WITHIN_S = 90.0


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything is healthy, and leave it running.")
@click.option("--reload", is_flag=True, help="Restart the processes when the sources of a checkout change.")
@click.option(
    "--events", type=int, hidden=True, help="Descriptor of the pipe to the command that a person sees."
)
def up(detach: bool, reload: bool, events: int | None) -> None:
    """Run everything on this machine: database, gateway, keeper, dashboard, one worker, example tests."""
    settings = Settings.load()
    if events is not None:
        _supervise(settings, to_pipe(events), reload=reload)
        return
    pid = running_supervisor(settings.data_dir)
    if pid is not None:
        raise ConfigurationError(
            f"StreamSwarm runs already with the data in {settings.data_dir} (process {pid})",
            mend="see how it is: streamswarm status; stop it: streamswarm down",
        )
    click.echo("StreamSwarm is starting")
    command = [sys.executable, "-m", "controller.cli", "up", *(["--reload"] if reload else [])]
    environment = {**os.environ, **settings.environment()}
    if account.is_root():
        command, environment = _as_account(settings, command, environment)
    elif not detach:
        _supervise(settings, to_terminal(), reload=reload)
        return
    _launch(settings, command, environment, detach=detach)


def _supervise(settings: Settings, tell: Listener, *, reload: bool) -> None:
    """Run the supervisor; a failure is told to whoever listens, and is this process's own end too."""
    os.umask(0o077)
    try:
        Supervisor(settings, tell=tell, reload=reload).run()
    except StreamSwarmError as error:
        tell(Failed(text=str(error), exit_code=error.exit_code))
        raise


def _as_account(
    settings: Settings, command: list[str], environment: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return command and environment for running under the account `streamswarm`."""
    data_dir = settings.data_dir
    runner = account.ensure(data_dir)
    runtime.compile_sources()  # the account cannot write bytecode beside root's files, and each process would compile anew
    account.own(data_dir, runner)
    if not account.can_reach(data_dir, runner):
        raise ConfigurationError(
            f"the account {runner.name}, under which root runs everything, cannot reach the data folder {data_dir}",
            mend="name one that every account may reach: STREAMSWARM_DATA_DIR=/var/lib/streamswarm",
        )
    environment = {**environment, "HOME": str(data_dir), "USER": runner.name, "LOGNAME": runner.name}
    if not account.can_run(Path(sys.executable), runner, environment):
        click.echo(
            f"  Program: a copy in {data_dir / 'program'}, because the account {runner.name} cannot read the original"
        )
        command = [str(runtime.lay(data_dir / "program")), *command[1:]]
        if not account.can_run(Path(command[0]), runner, environment):
            raise ConfigurationError(
                f"the account {runner.name} cannot run the program, nor its copy in {data_dir / 'program'}",
                mend="make the environment with the system's interpreter: make clean; make up PYTHON=/usr/bin/python3",
            )
    click.echo(f"  Account: {runner.name} (nothing keeps running as root)")
    return account.drop(command, runner), environment


def _launch(settings: Settings, command: list[str], environment: dict[str, str], *, detach: bool) -> None:
    """Start the supervisor as a process of its own and tell what it reports."""
    reading, writing = os.pipe()
    log_file = settings.data_dir / "logs" / "supervisor.log"
    with _log_of(log_file) as log:
        process = subprocess.Popen(
            [*command, "--events", str(writing)],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    show = to_terminal(detached=detach)
    failed: Failed | None = None
    ready = False
    try:
        with os.fdopen(reading, "rb") as pipe:
            for event in from_pipe(pipe):
                failed = event if isinstance(event, Failed) else None
                show(event)
                ready = not isinstance(event, Failed)
        if failed is None and ready and not detach:
            process.wait()
    except KeyboardInterrupt:
        click.echo("\nstopping")
        process.terminate()
        process.wait()
        return
    if failed is not None:
        click.echo(f"streamswarm: {failed.text}", err=True)
        sys.exit(failed.exit_code)
    if not ready or (detach and process.poll() is not None):
        raise StreamSwarmError("the supervisor ended while starting", mend=f"see {log_file}")


def _log_of(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = not path.exists()
    log = path.open("ab")
    if fresh and account.is_root():
        owner = path.parent.parent.stat()
        for item in (path.parent, path):
            os.chown(item, owner.st_uid, owner.st_gid)
    return log


@click.command()
def down() -> None:
    """Stop what `streamswarm up` started on this machine. The data stay."""
    settings = Settings.load()
    pid = running_supervisor(settings.data_dir)
    if pid is None:
        click.echo(f"nothing runs with the data in {settings.data_dir}")
        return
    supervisor = psutil.Process(pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    try:
        supervisor.send_signal(signal.SIGTERM)
    except psutil.AccessDenied as error:
        raise ConfigurationError(
            f"process {pid} belongs to another account", mend="stop it as that account, or as root"
        ) from error
    deadline = time.monotonic() + _STOP_WITHIN_S
    while supervisor.is_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    _, alive = psutil.wait_procs(family, timeout=5)
    if alive:
        names = ", ".join(f"{process.pid}" for process in alive)
        raise StreamSwarmError(
            f"still running after {_STOP_WITHIN_S:g} s: {names}", mend=f"see {settings.data_dir / 'logs'}"
        )
    click.echo(f"stopped; the data stay in {settings.data_dir}")


@click.command()
def status() -> None:
    """Show whether everything is healthy."""
    settings = Settings.load()
    url = f"{settings.public_web_url}/api/v1/health"
    try:
        reply = httpx.get(url, timeout=5, trust_env=False)
        report = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise StreamSwarmError(
            f"no health report from {url}: {error}", mend="start it: streamswarm up"
        ) from error
    click.echo(f"{report['status']}  {settings.public_web_url}")
    for name, state in report["components"].items():
        click.echo(f"  {name:10} {state if isinstance(state, str) else state.get('status', state)}")
    if report["status"] != "ok":
        sys.exit(1)
