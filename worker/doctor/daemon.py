"""The daemon that runs on this data folder: whether it is there, whose it is, with what rights, and of which release."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamswarm import __version__
from streamswarm.findings import Finding, ok, unknown, wrong
from worker.config import WorkerConfig
from worker.errors import StorageError
from worker.lock import Holder, holder_of
from worker.privileges import CAP_NET_RAW

UNIT = "streamswarm-worker.service"
_PROC = Path("/proc")
_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class Held:
    """Who works with the data folder."""

    #: Process id of the daemon, None when none runs or it is not known.
    pid: int | None
    findings: list[Finding]


def look(config: WorkerConfig) -> Held:
    """Return what is to be said of the daemon that has the lock of the data folder."""
    unit = _unit(config)
    try:
        holder = holder_of(config.data_dir)
    except StorageError as error:
        return Held(pid=None, findings=[unknown("daemon", error.message, error.mend), *_versions("", unit)])
    if holder is None:
        return Held(pid=None, findings=[_nobody(config, unit), *_versions("", unit)])
    findings = [_holder(config, holder, unit)]
    if holder.pid is not None:
        findings += _rights(holder.pid)
    return Held(pid=holder.pid, findings=[*findings, *_versions(holder.version, unit)])


def _nobody(config: WorkerConfig, unit: Mapping[str, str]) -> Finding:
    text = f"no daemon runs with the data folder {config.data_dir}"
    if not unit:
        return wrong("daemon", text, "start it: streamswarm-worker run --config …")
    state = f"{UNIT} is {unit.get('ActiveState', 'unknown')} ({unit.get('SubState', '')})"
    return wrong(
        "daemon", f"{text}; {state}", f"systemctl start {UNIT}; why it ended: journalctl -u {UNIT} -n 50"
    )


def _holder(config: WorkerConfig, holder: Holder, unit: Mapping[str, str]) -> Finding:
    name = "daemon"
    main = unit.get("MainPID", "0")
    if holder.pid is None:
        return unknown(name, f"a process that has left no id holds the lock of {config.data_dir}")
    if unit and main != str(holder.pid):
        whose = f"the process of {UNIT} is {main}" if main != "0" else f"{UNIT} does not run"
        return wrong(
            name,
            f"process {holder.pid} holds the data folder {config.data_dir}, and {whose}",
            f"stop process {holder.pid}, then: systemctl restart {UNIT}",
        )
    return ok(name, f"process {holder.pid} runs with the data folder {config.data_dir}")


def _rights(pid: int) -> Iterator[Finding]:
    name = "rights"
    try:
        lines = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        yield unknown(name, f"the rights of process {pid} cannot be seen here")
        return
    values = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if values.get("Uid", "").split("\t")[1:2] == ["0"]:
        yield wrong(
            name,
            f"the daemon (process {pid}) runs as root: whatever a probe stumbles over would have the whole host",
            "run it as an ordinary user, as its systemd unit does, or set `user` in the configuration",
        )
    elif not int(values.get("CapEff", "0"), 16) >> CAP_NET_RAW & 1:
        yield wrong(
            name,
            f"the daemon (process {pid}) runs without CAP_NET_RAW: raw sockets and time stamps of packets fail",
            "let its unit say AmbientCapabilities=CAP_NET_RAW and CapabilityBoundingSet=CAP_NET_RAW",
        )
    else:
        yield ok(name, "the daemon runs as an ordinary user with CAP_NET_RAW")


def _versions(running: str, unit: Mapping[str, str]) -> Iterator[Finding]:
    """Compare the release that looks with the one that runs and the one that the unit would start."""
    name = "version"
    started = _release_of(unit.get("ExecStart", ""))
    if running and running != __version__:
        yield wrong(
            name, f"the daemon runs {running}, and this is {__version__}", f"systemctl restart {UNIT}"
        )
    elif started and started != __version__:
        yield wrong(
            name,
            f"{UNIT} would start {started}, and this is {__version__}",
            "call the doctor of the release that the unit starts, or provision the host again",
        )
    elif not running and not started:
        yield unknown(name, f"this is {__version__}; which release the daemon runs is not known")
    else:
        yield ok(name, f"{__version__}, here and in {'the daemon' if running else 'the unit'}")


def _release_of(exec_start: str) -> str:
    """Return the release in `…/releases/<version>/…` to which the unit's program leads; empty where it leads to none."""
    for word in exec_start.split():
        if word.startswith("/") and word.endswith("/bin/streamswarm-worker"):
            parts = Path(word).resolve().parts
            if "releases" in parts[:-1]:
                return parts[parts.index("releases") + 1]
    return ""


def _unit(config: WorkerConfig) -> dict[str, str]:
    """Return properties of the worker's unit; empty where there is none, or where it is another worker's."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        return {}
    done = subprocess.run(
        [
            systemctl,
            "show",
            UNIT,
            "--property=LoadState,ActiveState,SubState,MainPID,ExecStart,WorkingDirectory",
        ],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if values.get("LoadState") != "loaded" or values.get("WorkingDirectory") != str(config.data_dir):
        return {}
    return values
