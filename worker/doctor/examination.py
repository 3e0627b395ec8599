"""The checks one after another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streamswarm.findings import Finding, ok, unknown, wrong
from worker.config import WorkerConfig
from worker.doctor import clock, daemon, kinds, responder, storage, surroundings, trust, ways
from worker.errors import ConfigurationError, WorkerError


def examine(config_path: Path) -> Iterator[Finding]:
    """Yield what each check finds. As root it first becomes the worker's user: what root may is not what it may.

    The connections that it opens go to the gateways alone, and no session is begun: that would end the daemon's.
    """
    try:
        config = WorkerConfig.load(config_path)
    except ConfigurationError as error:
        yield wrong("configuration", error.message, error.mend)
        yield unknown("everything else", "nothing else can be looked at without the configuration")
        return
    yield ok("configuration", f"{config_path} is good")
    try:
        surroundings.become_worker(config)
    except WorkerError as error:
        yield wrong("user", error.message, error.mend)
    yield from storage.readable(config_path)
    policy, finding = storage.policy(config)
    yield finding
    identity, findings = trust.identity(config)
    yield from findings
    gateways = ways.addresses(config, identity)
    reached = [ways.reach(address, identity, config) for address in gateways]
    for way in reached:
        yield from way.findings
    if not gateways:
        yield unknown("gateways", "neither the configuration nor an identity names one")
    yield storage.folder(config)
    held = daemon.look(config)
    waiting, findings = storage.spool(config, running=held.pid is not None)
    yield clock.compare(waiting, [way.certificate for way in reached if way.certificate is not None])
    yield from findings
    yield from trust.refusal(waiting)
    yield from held.findings
    yield from responder.look(config, policy)
    yield from kinds.available(policy)
