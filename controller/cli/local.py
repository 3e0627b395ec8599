"""`streamswarm up`, `down` and `status`: StreamSwarm on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import httpx
import psutil

from controller.errors import ConfigurationError, StreamSwarmError
from controller.local import account, leftovers, runtime
from controller.local.environment import inherited
from controller.local.lock import forget_killed, running_supervisor
from controller.local.progress import Event, Failed, Listener, Ready, from_pipe, to_pipe, to_terminal
from controller.programs import module_command
from controller.settings import Settings, on_this_machine
from controller.store.embedded import EmbeddedPostgres

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
        _supervise(
            settings, to_pipe(events), reload=reload, log=settings.data_dir / "logs" / "supervisor.log"
        )
        return
    pid = running_supervisor(settings.data_dir)
    if pid is not None:
        raise ConfigurationError(
            f"StreamSwarm runs already with the data in {settings.data_dir} (process {pid})",
            mend="see how it is: streamswarm status; stop it: streamswarm down",
        )
    click.echo("StreamSwarm is starting")
    if not account.is_root() and not detach:
        _supervise(settings, to_terminal(), reload=reload)
        return
    words = ["up", *(["--reload"] if reload else [])]
    command, environment = module_command("controller.cli", *words), inherited()
    if account.is_root():
        runner = account.ensure(settings.data_dir)
        account.claim(settings.data_dir, runner)
        runtime.compile_sources()
        command = account.command(settings, words, runner, raw_sockets=True)
        environment = account.environment(settings, runner)
        click.echo(f"  Account: {runner.name} (nothing keeps running as root)")
    _launch(settings, command, environment, detach=detach)


def _supervise(settings: Settings, tell: Listener, *, reload: bool, log: Path | None = None) -> None:
    """Run the supervisor; a failure is told to whoever listens, and is this process's own end too."""
    # It knows all of the controller, which takes seconds to load on a small machine: no other command here needs it.
    from controller.local.supervisor import Supervisor

    os.umask(0o077)
    logged = log is None
    try:
        if log is not None:
            _log_to(log)
            logged = True
        Supervisor(settings, tell=tell, reload=reload).run()
    except StreamSwarmError as error:
        tell(Failed(text=str(error), exit_code=error.exit_code))
        if not logged:  # standard error is still the terminal, where the one who listens says it
            sys.exit(error.exit_code)
        raise


def _launch(settings: Settings, command: list[str], environment: dict[str, str], *, detach: bool) -> None:
    """Start the supervisor as a process of its own and tell what it reports."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*command, "--events", str(writing)],
        env={**environment, **settings.environment()},
        cwd="/",
        stdin=subprocess.DEVNULL,
        pass_fds=(writing,),
        start_new_session=True,
    )
    os.close(writing)
    show = to_terminal(detached=detach)
    last: Event | None = None
    try:
        with os.fdopen(reading, "rb") as pipe:
            for last in from_pipe(pipe):
                show(last)
        if isinstance(last, Ready) and not detach:
            process.wait()
    except KeyboardInterrupt:
        click.echo("\nstopping")
        process.terminate()
        process.wait()
        return
    if isinstance(last, Failed):
        process.wait()
        click.echo(f"streamswarm: {last.text}", err=True)
        sys.exit(last.exit_code)
    if not isinstance(last, Ready):
        raise StreamSwarmError(
            "the supervisor ended while starting", mend=f"see {settings.data_dir / 'logs'}"
        )


def _log_to(path: Path) -> None:
    """Send this process's output to the end of a file from now on; the terminal is somebody else's."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {path.parents[1]} cannot be used: {error.strerror}",
            mend="make it writable, or set STREAMSWARM_DATA_DIR",
        ) from error
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


@click.command()
def down() -> None:
    """Stop what `streamswarm up` started on this machine. The data stay."""
    settings = Settings.load()
    pid = running_supervisor(settings.data_dir)
    if pid is None:
        some = _stop_leftovers(settings)
        forget_killed(settings.data_dir)
        if some:
            click.echo(f"stopped what a killed supervisor had left; the data stay in {settings.data_dir}")
        else:
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
    _wait_for(family, settings)
    click.echo(f"stopped; the data stay in {settings.data_dir}")


def _wait_for(processes: list[psutil.Process], settings: Settings) -> None:
    """Wait for processes that have been told to end; name those that do not."""
    stubborn = leftovers.wait(processes, within_s=_STOP_WITHIN_S)
    if stubborn:
        names = ", ".join(str(process.pid) for process in stubborn)
        raise StreamSwarmError(
            f"still running after {_STOP_WITHIN_S:g} s: {names}", mend=f"see {settings.data_dir / 'logs'}"
        )


def _stop_leftovers(settings: Settings) -> bool:
    """Stop what runs without a supervisor; whether there was anything."""
    some = False
    # Once more, for one that a killed supervisor had just begun to start.
    while left := leftovers.find(settings.data_dir):
        some = True
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _wait_for(left, settings)
    return _stop_left_database(settings) or some


def _stop_left_database(settings: Settings) -> bool:
    """Stop an embedded PostgreSQL that runs without a supervisor; whether there was one."""
    if settings.database_url or not (settings.data_dir / "postgres").is_dir():
        return False
    embedded = EmbeddedPostgres.find(settings.data_dir)
    running = embedded.status().running
    embedded.stop()
    return running


@click.command()
def status() -> None:
    """Show whether everything is healthy."""
    settings = Settings.load()
    url = f"http://{on_this_machine(settings.web_listen)}/api/v1/health"
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
