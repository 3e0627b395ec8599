"""Runs the playbooks through ansible-runner, with progress for each host while they run."""

from __future__ import annotations

import dataclasses
import json
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller import assets
from controller.errors import StreamSwarmError
from controller.fleet import steps
from controller.fleet.ansible import environment, private_folder
from controller.fleet.desk import SOCKET_VARIABLE, AskReach, GrantFor, open_desk
from controller.fleet.events import EventReader, HostRecap, TaskEvent, TaskState
from controller.fleet.inventory import POLICY_VARIABLE, InventoryHost, load_inventory, policy_of
from controller.store.operation_notes import Figure

OnEvent = Callable[[TaskEvent], None]
#: Does what is left to do here for a host, by its name; returns what there is to say about it.
AfterHost = Callable[[str], str]


class OperationError(StreamSwarmError):
    """A playbook could not run at all. Hosts on which it failed are in the recap instead."""


@dataclass(frozen=True, kw_only=True)
class PlaybookRequest:
    """On which hosts a playbook is to run, and how."""

    #: Inventory files or folders.
    inventories: tuple[Path, ...]
    #: Ansible's host pattern to narrow the run down to; empty for all workers.
    limit: str = ""
    #: Only say what would change.
    check: bool = False
    #: Hosts worked on at the same time.
    forks: int = 10
    #: Variables on top of the inventory's. Not for secrets: use vault in the inventory.
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recap:
    """How a run ended."""

    hosts: tuple[HostRecap, ...]
    #: Whether it was stopped from here before its end.
    cancelled: bool = False
    #: Why the whole has not succeeded, whatever the single hosts say, and what to do; empty where they say it all.
    error: str = ""
    mend: str = ""
    #: What was judged, in numbers.
    figures: tuple[Figure, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether every host is as the playbook wants it."""
        return not self.cancelled and not self.error and all(host.succeeded for host in self.hosts)


def provision(
    request: PlaybookRequest,
    *,
    grant_for: GrantFor,
    ask_reach: AskReach | None = None,
    describe: AfterHost = lambda _: "",
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Provision the workers; returns how each host came out of it.

    `grant_for` is called, from another thread, for each host that has to enrol; `ask_reach` once, for the gateways and
    the CA; without it that takes one more grant. `describe` is told the name of each host that is ready, not in a check run, and brings what the inventory
    says of it to the controller. `on_event` is told of each task on each host. When `cancelled` becomes true the run is stopped.
    Raises OperationError when the playbook could not run at all.
    """
    hosts = load_inventory(request.inventories)
    with private_folder() as private:
        desk = private / "desk"
        # No task needs the token for the controller, and none is given it.
        ours = _with(request, streamswarm_worker_ask_controller=False)
        with open_desk(desk, hosts=hosts, grant_for=grant_for, ask_reach=ask_reach):
            recap = run_playbook(
                "provision.yml",
                ours,
                private=private,
                extra_environment={SOCKET_VARIABLE: str(desk)},
                on_event=on_event,
                cancelled=cancelled,
            )
    return recap if request.check else _afterwards(recap, describe)


def remove(
    request: PlaybookRequest,
    *,
    retire: AfterHost,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Take the workers off hosts, then do the controller's part for each host that is rid of its worker.

    `retire` is told each such host's name, not in a check run; what it raises makes the host one that failed.
    """
    with private_folder() as private:
        # No task needs the token for the controller, and none is given it.
        ours = _with(request, streamswarm_worker_retire="keep")
        recap = run_playbook("remove.yml", ours, private=private, on_event=on_event, cancelled=cancelled)
    return recap if request.check else _afterwards(recap, retire)


def rotate(
    request: PlaybookRequest,
    *,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Have the workers renew their keys and certificates now; returns which of them have."""
    with private_folder() as private:
        return run_playbook("rotate.yml", request, private=private, on_event=on_event, cancelled=cancelled)


def restart(
    request: PlaybookRequest,
    *,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Start the workers anew; returns which of them are connected again."""
    with private_folder() as private:
        return run_playbook("restart.yml", request, private=private, on_event=on_event, cancelled=cancelled)


def drain(
    request: PlaybookRequest,
    *,
    tell: AfterHost,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Take the workers out of service until they are resumed; what they have measured is delivered first.

    `tell` is told the name of each host whose worker is drained, not in a check run, and lets the controller know.
    """
    with private_folder() as private:
        # No task needs the token for the controller, and none is given it.
        ours = _with(request, streamswarm_worker_ask_controller=False)
        recap = run_playbook("drain.yml", ours, private=private, on_event=on_event, cancelled=cancelled)
    return recap if request.check else _afterwards(recap, tell)


def resume(
    request: PlaybookRequest,
    *,
    tell: AfterHost,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Put workers that were drained into service again; returns which of them are connected.

    `tell` is told the name of each host that was reached, not in a check run, and lets the controller know: one that is
    started and does not connect is somebody's matter again.
    """
    with private_folder() as private:
        ours = _with(request, streamswarm_worker_ask_controller=False)
        recap = run_playbook("resume.yml", ours, private=private, on_event=on_event, cancelled=cancelled)
    if request.check:
        return recap
    return dataclasses.replace(
        recap,
        hosts=tuple(host if host.unreachable else _noted(host, tell(host.host)) for host in recap.hosts),
    )


def verify(
    request: PlaybookRequest,
    *,
    examine: AfterHost,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Say of each host whether it is as provisioned; changes nothing.

    `examine` is told the name of each host that was reached and returns what is wrong with its worker as the
    controller sees it, or the empty text.
    """
    ours = _with(request, streamswarm_worker_ask_controller=False)
    with private_folder() as private:
        recap = run_playbook("verify.yml", ours, private=private, on_event=on_event, cancelled=cancelled)

    def seen(host: HostRecap) -> HostRecap:
        wrong = "" if host.unreachable else examine(host.host)
        if not wrong:
            return host
        return dataclasses.replace(
            host, failed=host.failed + 1, message="; ".join(filter(None, (wrong, host.message)))
        )

    return dataclasses.replace(recap, hosts=tuple(seen(host) for host in recap.hosts))


def upgrade(
    request: PlaybookRequest,
    *,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recap:
    """Bring hosts to another release, all at once; a host whose worker does not do well with it has moved back and failed."""
    with private_folder() as private:
        return run_playbook("upgrade.yml", request, private=private, on_event=on_event, cancelled=cancelled)


def roll_back(
    request: PlaybookRequest,
    *,
    bad_release: str,
    why: Sequence[str],
    on_event: OnEvent = lambda _: None,
) -> Recap:
    """Return those of the hosts that are on the release `bad_release` to the one that they had before.

    `request` names the hosts one by one; `why` is told of each of them first. Once begun it is brought to its end.
    """
    task = f"Why {bad_release} is taken back"
    for host in request.limit.split(","):
        on_event(TaskEvent(host=host, task=task, state=TaskState.OK, message="\n".join(why)))
    ours = _with(request, streamswarm_worker_bad_release=bad_release)
    with private_folder() as private:
        return run_playbook("rollback.yml", ours, private=private, on_event=on_event)


def hosts_of(request: PlaybookRequest) -> dict[str, InventoryHost]:
    """Return the hosts of a request's inventories by name, with the policy that its further variables give them."""
    hosts = load_inventory(request.inventories)
    if POLICY_VARIABLE in request.variables:
        policy = policy_of(request.variables[POLICY_VARIABLE])
        hosts = tuple(dataclasses.replace(host, policy=policy) for host in hosts)
    return {host.name: host for host in hosts}


def _with(request: PlaybookRequest, **variables: Any) -> PlaybookRequest:
    """Return a request with further variables."""
    return dataclasses.replace(request, variables={**request.variables, **variables})


def _afterwards(recap: Recap, work: AfterHost) -> Recap:
    """Do what is left to do here for each host on which the playbook succeeded."""

    def done(host: HostRecap) -> HostRecap:
        if not host.succeeded:
            return host
        try:
            said = work(host.host)
        except StreamSwarmError as error:
            return dataclasses.replace(host, failed=host.failed + 1, message=str(error))
        return _noted(host, said)

    return dataclasses.replace(recap, hosts=tuple(done(host) for host in recap.hosts))


def _noted(host: HostRecap, said: str) -> HostRecap:
    return dataclasses.replace(host, notes=(*host.notes, said)) if said else host


def run_playbook(
    playbook: str,
    request: PlaybookRequest,
    *,
    private: Path,
    extra_environment: Mapping[str, str] | None = None,
    on_event: OnEvent = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    tags: str = "",
) -> Recap:
    """Run one playbook to its end; raises OperationError when it could not run at all.

    `tags` narrows it down to the tasks that bear them.
    """
    try:
        import ansible_runner
    except ImportError as error:
        raise OperationError(
            f"running playbooks needs the package {error.name}", mend="pip install 'streamswarm[controller]'"
        ) from error
    # What bears some tags is a part that nobody has counted.
    reader = EventReader(0 if tags else steps.count(assets.playbooks() / playbook))

    def handle(raw: Mapping[str, Any]) -> bool:
        event = reader.read(raw)
        if event is not None:
            on_event(event)
        return False  # nothing of the stream is kept on disk

    variables = private / "variables.json"
    variables.write_text(json.dumps(dict(request.variables)), encoding="utf-8")
    words = ["--extra-vars", f"@{variables}", "--forks", str(request.forks)]
    if tags:
        words += ["--tags", tags]
    if request.check:
        words += ["--check", "--diff"]
    runner = ansible_runner.run(
        # Each run has a folder of its own: the runner takes what it finds there for its settings.
        private_data_dir=tempfile.mkdtemp(prefix="run-", dir=private),
        project_dir=str(assets.playbooks()),
        playbook=playbook,
        inventory=[str(path.absolute()) for path in request.inventories],
        limit=request.limit or None,
        cmdline=shlex.join(words),
        envvars={**environment(private, request.inventories), **(extra_environment or {})},
        event_handler=handle,
        cancel_callback=cancelled,
        quiet=True,
    )
    if runner.status == "canceled":
        return Recap(hosts=reader.recaps, cancelled=True)
    if not reader.recaps:
        said = "\n    ".join(reader.remarks[-10:]) or f"it ended with status {runner.status}"
        raise OperationError(
            f"the playbook {playbook} reached no host; Ansible said:\n    {said}",
            mend="check the inventory, its group `workers` or the one that was named, and --limit",
        )
    return Recap(hosts=reader.recaps)
