"""Moves a host from one release to another, watches the worker, and moves back when the new release does not do.

Runs on the host as root, with the Python that runs the worker, and needs nothing but its standard library. All of it is
one program so that the time without a worker is short, and so that it ends in order when the connection to the host breaks.

`current` always leads to a whole release: it is a link that is replaced in one step. Before it is, the file `switching`
beside it names the release to go back to; whatever interrupts this program, the next run finds it and goes on from there.
`previous` leads to the release before the current one.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

UNIT = "streamswarm-worker.service"
#: What the worker tells systemd while a gateway has welcomed it.
CONNECTED = "connected"
#: Ends of the process within one trial after which the release is given up.
MOST_ENDS = 2
_LOOK_S = 0.25


class SwitchError(Exception):
    """The host does not have the wanted release; the message says why and what it has instead."""


class Health(NamedTuple):
    """How the worker is at one instant, as systemd tells it."""

    #: Whether the service is up.
    active: bool
    #: Its main process, 0 for none.
    pid: int
    #: How often systemd has started it again.
    restarts: int
    #: The worker's own line.
    status: str


class Trial(NamedTuple):
    """How long a release may take to show that it does."""

    #: Seconds from the start until the worker must be connected for good.
    timeout_s: float
    #: Seconds for which it must stay so.
    settle_s: float


class Installation:
    """The releases of one host and the links to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._switching = folder / "switching"

    def link(self, name: str) -> str:
        """Return the release that a link leads to; empty when there is none, or it leads nowhere."""
        try:
            release = (self.folder / name).readlink().name
        except OSError:
            return ""
        return release if self.whole(release) else ""

    def whole(self, release: str) -> bool:
        """Whether a release is there."""
        return bool(release) and (self.folder / "releases" / release / "release.json").is_file()

    def point(self, name: str, release: str) -> None:
        """Let a link lead to a release, in one step that is on the disk afterwards."""
        fresh = self.folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"releases/{release}")
        fresh.replace(self.folder / name)
        self._sync()

    def begin(self, before: str) -> None:
        """Note the release to go back to. The releases themselves are on the disk first."""
        os.sync()
        fresh = self.folder / ".switching.new"
        with fresh.open("w", encoding="utf-8") as sink:
            sink.write(before)
            sink.flush()
            # Whoever asks what the host has, asks without being root.
            os.fchmod(sink.fileno(), 0o644)
            os.fsync(sink.fileno())
        fresh.replace(self._switching)
        self._sync()

    def begun(self) -> str:
        """Return the release that an interrupted run wanted to be able to go back to; empty when there was none."""
        try:
            before = self._switching.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return before if "/" not in before and self.whole(before) else ""

    def end(self) -> None:
        """Forget what `begin` noted."""
        self._switching.unlink(missing_ok=True)
        self._sync()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other run of this program change anything meanwhile."""
        # Without inheritance: a child that outlives this program must not hold the lock.
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SwitchError("another upgrade of this host is under way; wait for its end") from error
            yield
        finally:
            os.close(handle)

    def _sync(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Service:
    """The worker's unit."""

    def __init__(self, releases: Path) -> None:
        self._releases = releases

    def start(self) -> None:
        """Start it; that it does not come up shows in its health."""
        _call("systemctl", "start", UNIT)

    def stop(self) -> None:
        """Stop it in order; raises SwitchError when systemd cannot."""
        done = _call("systemctl", "stop", UNIT)
        if done.returncode:
            raise SwitchError(f"systemd cannot stop {UNIT}: {done.stderr.strip()}")

    def health(self) -> Health:
        """Ask systemd."""
        names = ("ActiveState", "SubState", "MainPID", "NRestarts", "StatusText")
        said = _call("systemctl", "show", *(f"--property={name}" for name in names), UNIT).stdout
        values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        return Health(
            active=(values.get("ActiveState"), values.get("SubState")) == ("active", "running"),
            pid=int(values.get("MainPID") or 0),
            restarts=int(values.get("NRestarts") or 0),
            status=values.get("StatusText", ""),
        )

    def runs(self, release: str, pid: int) -> bool:
        """Whether a process was started from a release: the libraries that it has loaded lie there."""
        try:
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return f"{self._releases / release}/lib/" in maps

    def last_words(self) -> str:
        """Return the end of what the worker wrote to the journal, in one line."""
        said = _call("journalctl", f"_SYSTEMD_UNIT={UNIT}", "--lines=3", "--no-pager", "--output=cat").stdout
        return " | ".join(line.strip() for line in said.splitlines() if line.strip())[-600:]


def watch(service: Service, release: str, trial: Trial) -> str:
    """Wait until the worker of a release is connected and stays so; returns what is wrong, empty when all is well."""
    deadline = time.monotonic() + trial.timeout_s
    first = service.health()
    well_since: float | None = None
    wrong = ""
    while True:
        now = service.health()
        if now.restarts - first.restarts >= MOST_ENDS:
            return f"it ended {now.restarts - first.restarts} times ({service.last_words()})"
        wrong = fault(service, release, now)
        if wrong or now.pid != first.pid:
            well_since = None
            first = Health(now.active, now.pid, first.restarts, now.status)
        if not wrong and well_since is None:
            well_since = time.monotonic()
        if well_since is not None and time.monotonic() - well_since >= trial.settle_s:
            return ""
        if time.monotonic() >= deadline and well_since is None:
            return f"{wrong or 'it was not up for long enough'} after {trial.timeout_s:g} s ({service.last_words()})"
        time.sleep(_LOOK_S)


def fault(service: Service, release: str, now: Health) -> str:
    """Return what is wrong with the worker at this instant; empty when nothing is."""
    if not now.active or not now.pid:
        return "it is not running"
    if not service.runs(release, now.pid):
        return "its process was not started from that release"
    if not now.status.startswith(CONNECTED):
        return f"it is {now.status}" if now.status else "it says nothing of its connection"
    return ""


def switch(
    installation: Installation, service: Service, wanted: str, *, trial: Trial, drain: Sequence[str] = ()
) -> dict[str, object]:
    """Bring the host to a release; raises SwitchError when it is not on it afterwards."""
    if not installation.whole(wanted):
        raise SwitchError(f"the release {wanted} is not on the host")
    current, interrupted = installation.link("current"), installation.begun()
    if not current:
        raise SwitchError("the host has no release that could be upgraded; provision it")
    if current == wanted and not interrupted:
        service.start()
        if wrong := watch(service, wanted, trial):
            raise SwitchError(f"the host has the release {wanted} already, but {wrong}")
        return {"changed": False, "before": installation.link("previous"), "note": ""}
    before = interrupted or current
    note = ""
    if current != wanted:
        service.start()
        # A release that does not connect cannot be told from a network that does not let it. One whose own trial was cut off
        # need not do: it is left anyhow.
        if current == before and (wrong := watch(service, current, Trial(trial.timeout_s, 0))):
            raise SwitchError(
                f"nothing was changed: the worker is not well before the upgrade: {wrong}. Mend that first "
                f"(`streamswarm-worker doctor` on the host), or provision the host, which does not ask"
            )
        installation.begin(before)
        with stopped(service):
            note = deliver(drain)
            installation.point("current", wanted)
    else:
        service.start()
    if wrong := watch(service, wanted, trial):
        raise SwitchError(
            f"the release {wanted} was taken back: {wrong}. {back(installation, service, before, trial)}"
        )
    if before != wanted:
        installation.point("previous", before)
    installation.end()
    return {"changed": True, "before": before, "note": note}


@contextlib.contextmanager
def stopped(service: Service) -> Iterator[None]:
    """Have the worker stopped meanwhile. Whatever goes wrong, it is started again: `current` leads to a whole release."""
    try:
        service.stop()
        yield
    finally:
        service.start()


def back(installation: Installation, service: Service, before: str, trial: Trial) -> str:
    """Return to the release before; says how its worker is."""
    with stopped(service):
        installation.point("current", before)
    installation.end()
    wrong = watch(service, before, trial)
    if wrong:
        return (
            f"The worker has its release {before} again and is not well either: {wrong}. The release may not be to "
            "blame; see whether the host reaches the controller"
        )
    return f"The worker runs {before} again"


def roll_back(
    installation: Installation, service: Service, *, bad: str, trial: Trial, drained: bool = False
) -> dict[str, object]:
    """Return to the previous release, when the host is on the release `bad` (empty for whichever).

    A worker that is `drained` stays stopped.
    """
    current = installation.link("current")
    before = installation.begun() or installation.link("previous")
    if bad and current != bad:
        return {"changed": False, "before": current, "note": ""}
    if not before or before == current:
        raise SwitchError(
            "there is no release to go back to; provision the host with the one that it shall have"
        )
    if drained:
        installation.point("current", before)
        installation.end()
        said = f"The worker has its release {before} again and stays stopped, as it was drained"
    else:
        said = back(installation, service, before, trial)
    (installation.folder / "previous").unlink(missing_ok=True)
    return {"changed": True, "before": current, "note": said}


def deliver(command: Sequence[str]) -> str:
    """Have the release that leaves deliver what waits, as it alone surely understands its own spool."""
    if not command:
        return ""
    said = _call(*command)
    try:
        waiting = json.loads(said.stdout)["waiting"]
    except (ValueError, KeyError, TypeError):
        return f"what waited on the host was left to the new release: {said.stderr.strip()[-300:]}"
    return f"{waiting} results waited on the host and were left to the new release" if waiting else ""


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


def main() -> int:
    """Read the arguments, switch, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(description="Move the worker of this host to another release.")
    parser.add_argument("--install-dir", type=Path, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--settle", type=float, required=True)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--version")
    which.add_argument("--back", action="store_true")
    parser.add_argument("--bad", default="")
    parser.add_argument("--drained", action="store_true")
    parser.add_argument("drain", nargs="*")
    arguments = parser.parse_args()
    # The connection to this host may break; what was begun is brought to its end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    installation = Installation(arguments.install_dir)
    service = Service(arguments.install_dir / "releases")
    trial = Trial(timeout_s=arguments.timeout, settle_s=arguments.settle)
    try:
        with installation.alone():
            if arguments.back:
                done = roll_back(
                    installation, service, bad=arguments.bad, trial=trial, drained=arguments.drained
                )
            else:
                done = switch(installation, service, arguments.version, trial=trial, drain=arguments.drain)
    except SwitchError as error:
        sys.stderr.write(f"{error}.\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"The release could not be changed below {arguments.install_dir}: {error}. The worker was started with the "
            f"release {installation.link('current') or 'that is current'}; mend the disk, and run this again, which goes "
            "on from there.\n"
        )
        return 1
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
