"""Somebody who has just got StreamSwarm, as a checkout or as a wheel, and starts it for the first time."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import psutil
import psycopg2
from support.clones import own_ports
from support.surroundings import clean_environment, wait_for

_URL = """
import sys
from pathlib import Path
from controller.store.embedded import EmbeddedPostgres
print(EmbeddedPostgres.find(Path(sys.argv[1])).url())
"""
ALL_KINDS = {"ping", "tcp", "dns", "http", "system"}


def connect_embedded(python: Path, data_dir: Path) -> psycopg2.extensions.connection:
    """Return a connection to an installation's embedded PostgreSQL; `python` is of the environment that it runs in."""
    return psycopg2.connect(_url(python, data_dir))


@cache
def _url(python: Path, data_dir: Path) -> str:
    """Where it is, and its password, stay as they are from start to start; asking starts a Python."""
    return subprocess.run(
        [python, "-c", _URL, data_dir], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


@dataclass
class Newcomer:
    """Somebody who has cloned the repository, or installed the wheel, and types commands."""

    #: Where they type.
    folder: Path
    data_dir: Path
    environment: dict[str, str]
    uid: int
    #: What they type: for `up` and for `down`.
    commands: dict[str, list[str]]
    #: The environment that the program runs in, there once it is installed.
    python: Path

    def call(self, target: str) -> str:
        """Start or stop it; fails the test with what was printed when that fails."""
        done = self.try_call(target)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def try_call(self, target: str) -> subprocess.CompletedProcess[str]:
        """Start or stop it."""
        command = self.commands[target]
        if self.uid != os.geteuid():
            command = [
                "setpriv",
                f"--reuid={self.uid}",
                f"--regid={self.uid}",
                "--clear-groups",
                "--inh-caps=-all",
                *command,
            ]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=500
        )

    @property
    def web(self) -> str:
        return f"http://{self.environment['STREAMSWARM_WEB_LISTEN']}"

    def processes(self) -> list[psutil.Process]:
        """Every process that runs with this installation's data, whoever it belongs to."""
        mine = []
        for process in psutil.process_iter():
            try:
                words = [
                    *process.cmdline(),
                    *(f"{k}={v}" for k, v in process.environ().items() if k == "STREAMSWARM_DATA_DIR"),
                    process.cwd(),
                ]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if any(str(self.data_dir) in word for word in words):
                mine.append(process)
        return mine

    def running(self) -> list[str]:
        """The same, as what the system says of each."""
        return [str(process.as_dict(["pid", "ppid", "status", "cmdline"])) for process in self.processes()]

    def database(self) -> psycopg2.extensions.connection:
        """A connection to the embedded PostgreSQL, as anybody with the password has it."""
        return connect_embedded(self.python, self.data_dir)

    def execute(self, statement: str) -> None:
        """Change something behind everybody's back."""
        connection = self.database()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def counts(self) -> dict[str, int]:
        """Rows that say `ok` in each kind's table."""
        connection = self.database()
        try:
            with connection.cursor() as cursor:
                found = {}
                for kind in sorted(ALL_KINDS):
                    cursor.execute(f"SELECT count(*) FROM result_{kind} WHERE status = 1")
                    row = cursor.fetchone()
                    assert row is not None
                    found[kind] = row[0]
                return found
        finally:
            connection.close()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the system says of a process at one moment."""

    command: str
    #: Effective and saved.
    uids: frozenset[int]
    #: Names in its environment.
    variables: frozenset[str]
    #: Effective ones, as the kernel's bits.
    capabilities: int

    @classmethod
    def of(cls, process: psutil.Process) -> Seen | None:
        """Look at a process; None when it has ended meanwhile, as a database's helpers do all the time."""
        try:
            uids = process.uids()
            status = Path(f"/proc/{process.pid}/status").read_text()
            effective = re.search(r"CapEff:\s+(\w+)", status)
            assert effective is not None, status
            return cls(
                command=" ".join(process.cmdline()),
                uids=frozenset((uids.effective, uids.saved)),
                variables=frozenset(process.environ()),
                capabilities=int(effective[1], 16),
            )
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return None


def clone_of(clone: Path, *, as_root: bool) -> Newcomer:
    """Somebody who has just cloned: root, or an ordinary user with a home of their own."""
    commands = {target: ["make", "--no-print-directory", target] for target in ("up", "down")}
    return _settle(clone.parent, clone, commands, clone / ".venv/bin/python", clone / "var", as_root=as_root)


def installed(program: Path, home: Path, *, as_root: bool) -> Newcomer:
    """Somebody who has installed the wheel: root, or an ordinary user, typing where no checkout is."""
    commands = {"up": [str(program), "up", "--detach"], "down": [str(program), "down"]}
    data_dir = home / "home" / ".local" / "share" / "streamswarm"
    return _settle(home, home, commands, program.with_name("python"), data_dir, as_root=as_root)


def _settle(
    own: Path, folder: Path, commands: dict[str, list[str]], python: Path, data_dir: Path, *, as_root: bool
) -> Newcomer:
    environment = clean_environment(**own_ports(), SECRET_OF_THE_NEWCOMER="hunter2")
    uid = os.geteuid()
    if as_root:
        data_dir = Path("/var/lib") / f"streamswarm-test-{own.name}"
        environment["STREAMSWARM_DATA_DIR"] = str(data_dir)
    else:
        home = own / "home"
        home.mkdir()
        environment |= {"HOME": str(home), "TMPDIR": str(home)}
        if uid == 0:
            uid = pwd.getpwnam("nobody").pw_uid
            subprocess.run(["chown", "-R", f"{uid}:{uid}", str(own)], check=True)
    return Newcomer(
        folder=folder, data_dir=data_dir, environment=environment, uid=uid, commands=commands, python=python
    )


def clean_up(newcomer: Newcomer) -> None:
    """Stop what still runs and remove the data that lie outside of the newcomer's own folder."""
    stop(newcomer)
    program = newcomer.data_dir.with_name(newcomer.data_dir.name + "-program")
    for left in (newcomer.data_dir, program):
        shutil.rmtree(left, ignore_errors=True)


def stop(newcomer: Newcomer) -> None:
    """End everything that runs with the newcomer's data."""
    if newcomer.python.exists():
        newcomer.try_call("down")
    for process in newcomer.processes():
        process.kill()


def may_ping(uid: int) -> bool:
    """Whether the kernel lets that user send ICMP without rights."""
    low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ping_group_range").read_text().split())
    return uid == 0 or low <= uid <= high


def one(newcomer: Newcomer, part: str) -> psutil.Process:
    """The process of this installation whose command line has that part."""
    return next(
        process
        for process in newcomer.processes()
        if (seen := Seen.of(process)) is not None and part in seen.command
    )


def healthy(newcomer: Newcomer) -> bool:
    """Whether the health report says that everything is well."""
    try:
        return bool(httpx.get(f"{newcomer.web}/api/v1/health", trust_env=False).json()["status"] == "ok")
    except (httpx.HTTPError, ValueError):
        return False


def first_day(newcomer: Newcomer) -> None:
    """Healthy soon after the installation's end, results of all kinds within 30 s more, down to nothing, data kept."""
    said = newcomer.call("up")
    healthy_after = re.search(r"healthy after ([0-9.]+) s", said)
    assert healthy_after is not None, said
    # 20 s by itself; here other tests use the processors too.
    assert float(healthy_after[1]) < 60, said
    assert "password " in said
    assert re.search(r"Log in once +http://127\.0\.0\.1:\d+/\S+", said)
    health = httpx.get(f"{newcomer.web}/api/v1/health", trust_env=False).json()
    assert health["status"] == "ok"
    assert {"database", "gateway", "keeper", "worker"} <= set(health["components"])

    expected = ALL_KINDS if may_ping(newcomer.uid) else ALL_KINDS - {"ping"}
    if "ping" not in expected:
        assert "ping_group_range" in said, "an unavailable kind is announced with the command that mends it"
    wait_for("results of all kinds", lambda: _least(newcomer, expected) >= 2, 30)

    running = [seen for process in newcomer.processes() if (seen := Seen.of(process)) is not None]
    for part in ("controller.gateway", "controller.keeper", "-m web", "worker run", "postgres"):
        assert any(part in seen.command for seen in running), f"{part} is not among {running}"
    for seen in running:
        assert 0 not in seen.uids, f"{seen.command} keeps running as root"
        assert "SECRET_OF_THE_NEWCOMER" not in seen.variables, (
            "nothing of the starter's own environment is handed on"
        )
        listens = any(
            part in seen.command for part in ("controller.gateway", "-m web", "postgres", "resolver")
        )
        assert seen.capabilities == 0 or not listens, "what listens has no rights"

    before = newcomer.counts()
    one(newcomer, "postgres -D").kill()
    wait_for("the killed database to come back", lambda: healthy(newcomer), 40)
    assert all(count >= before[kind] for kind, count in newcomer.counts().items())

    before = newcomer.counts()
    one(newcomer, "controller.cli up").kill()
    newcomer.call("down")
    assert newcomer.running() == [], "a killed supervisor leaves nothing that `down` does not end"
    newcomer.call("up")

    # As after a day that the machine was off: the next start must mend it by itself.
    newcomer.execute("UPDATE certificates SET not_after = now()")
    newcomer.call("down")
    assert newcomer.running() == [], "down leaves no process"
    for name in ("WEB_LISTEN", "GATEWAY_LISTEN", "ENROLMENT_LISTEN"):
        host, _, port = newcomer.environment[f"STREAMSWARM_{name}"].rpartition(":")
        with socket.socket() as sock:
            assert sock.connect_ex((host, int(port))) != 0, f"{name} is still held"

    again = newcomer.call("up")
    assert "password as set" in again, "the second start finds the data and makes no second administrator"
    after = newcomer.counts()
    assert all(after[kind] >= before[kind] for kind in ALL_KINDS)
    wait_for("more results", lambda: _least(newcomer, expected, beyond=after) >= 1, 30)


def _least(newcomer: Newcomer, kinds: set[str], *, beyond: dict[str, int] | None = None) -> int:
    """Of the kind that has fewest, how many results there are, or how many more than there were."""
    counts = newcomer.counts()
    return min(counts[kind] - (beyond or {}).get(kind, 0) for kind in kinds)
