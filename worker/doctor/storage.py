"""Files: what the worker's user may read and write, room on the disk, and what waits in the spool."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from streamswarm.findings import Finding, ok, unknown, wrong
from worker.config import DEFAULT_POLICY, WorkerConfig
from worker.errors import StorageError
from worker.instants import shown_instant
from worker.policy import Policy
from worker.spool.file import DamageError
from worker.spool.peek import Waiting, peek

#: Results that wait for longer, beside a daemon that runs, are not being delivered.
_PATIENCE_S = 600.0
_MIB = 1024 * 1024


def readable(config_path: Path) -> Iterator[Finding]:
    """Yield a finding when the user who looks, the daemon's where root began, cannot read the configuration."""
    if not os.access(config_path, os.R_OK):
        yield wrong(
            "configuration",
            f"{config_path} cannot be read by the worker's user",
            f"chmod a+r {config_path}, and let that user enter the folders above it",
        )


def policy(config: WorkerConfig) -> tuple[Policy, Finding]:
    """Return the policy in force and what is to be said of it."""
    found = Policy.load(config.policy_file, required=config.policy_file != DEFAULT_POLICY)
    if found.broken:
        return found, wrong("policy", found.broken, f"mend {config.policy_file}")
    if not config.policy_file.exists():
        return found, ok("policy", f"there is no {config.policy_file}; the defaults are in force")
    if found.packets_per_second == 0 or found.bytes_per_day == 0:
        return found, wrong(
            "policy",
            f"{config.policy_file} allows no packets at all",
            "raise `packets_per_second` and `bytes_per_day` above 0, or leave them out for no limit",
        )
    return found, ok("policy", f"{config.policy_file} is good")


def folder(config: WorkerConfig) -> Finding:
    """Say whether the data folder can be written and has room for as much as the spool may take."""
    name, path = "data folder", config.data_dir
    try:
        entries = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in os.scandir(path)}
        free = shutil.disk_usage(path).free
    except FileNotFoundError:
        return wrong(name, f"{path} does not exist", "start the worker once, or provision the host")
    except OSError as error:
        return unknown(name, f"{path} cannot be looked at: {error.strerror}", "look as root")
    if not os.access(path, os.W_OK | os.X_OK):
        return wrong(name, f"{path} cannot be written by the worker's user", f"give {path} to that user")
    taken = sum(size for entry, size in entries.items() if entry.startswith("spool.sqlite"))
    wanted = max(0, config.spool_mib * _MIB - taken)
    text = f"{path} can be written; {_mib(free)} free"
    if free < wanted:
        return wrong(
            name,
            f"{text}, and the spool may want {_mib(wanted)} more",
            "make room on that disk, or lower `spool_mib`",
        )
    return ok(name, text)


def spool(config: WorkerConfig, *, running: bool) -> tuple[Waiting | None, list[Finding]]:
    """Return what waits, as far as it can be read, and what is to be said of it."""
    name, path = "spool", config.data_dir / "spool.sqlite"
    try:
        waiting = peek(path)
    except StorageError as error:
        return None, [
            unknown(name, f"{path} cannot be read: {error.__cause__ or error.message}", "look as root")
        ]
    except DamageError as error:
        mend = "restart the worker: it saves what can be read and keeps the damaged file"
        return None, [wrong(name, f"{path} is damaged: {error}", mend)]
    damaged = sorted(path.parent.glob(f"{path.stem}-damaged-*{path.suffix}"))
    findings = [_spool(config, waiting, running=running)]
    if damaged:
        findings.append(
            wrong(
                "damaged spool",
                f"{len(damaged)} damaged spools are kept, the last as {damaged[-1]}; results were lost",
                "see that the disk is sound, then remove them",
            )
        )
    return waiting, findings


def _spool(config: WorkerConfig, waiting: Waiting | None, *, running: bool) -> Finding:
    name = "spool"
    if waiting is None:
        return ok(name, "there is none yet; the worker makes it when it starts")
    if not waiting.records:
        return ok(name, "no results wait")
    text = f"{waiting.records} results ({_mib(waiting.size_bytes)}) wait"
    age_s = 0.0
    if waiting.oldest_us is not None:
        text += f" since {shown_instant(waiting.oldest_us)}"
        age_s = time.time() - waiting.oldest_us / 1e6
    if waiting.size_bytes >= config.spool_mib * _MIB or age_s > config.spool_days * 86_400:
        mend = "mend the way to the gateways; nothing is measured until results are delivered"
        return wrong(name, f"{text}: the spool is full", mend)
    if running and age_s > _PATIENCE_S:
        mend = "see what is said of gateways, identity and clock, and in the worker's log"
        return wrong(name, f"{text} and are not delivered", mend)
    return ok(name, text)


def _mib(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
