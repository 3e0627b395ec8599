"""Reads an Ansible inventory, whatever its form, through Ansible itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.errors import ConfigurationError
from controller.fleet.ansible import environment, private_folder
from controller.programs import ending, module_command

#: What a worker may be called; the role checks the same.
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
#: What a host shall let its worker do.
POLICY_VARIABLE = "streamswarm_worker_policy"
#: Seconds that reading may take; dynamic inventories ask other systems.
TIMEOUT = 120


@dataclass(frozen=True, kw_only=True)
class InventoryHost:
    """One host of the inventory. Only variables named here are read: others may hold secrets."""

    #: Its name in the inventory, and of its worker.
    name: str
    #: Where Ansible reaches it (`ansible_host`), else its name.
    address: str
    #: Port of its SSH server (`ansible_port`).
    port: int = 22
    #: Account that Ansible uses (`ansible_user`); empty for Ansible's default.
    user: str = ""
    #: Groups that it is in, directly or through their parents, sorted, without `all` and `ungrouped`.
    groups: tuple[str, ...] = ()
    #: Address that other workers measure (`streamswarm_address`), else `address`.
    measured_address: str
    #: Where it stands (`streamswarm_site`).
    site: str = ""
    #: Free labels (`streamswarm_labels`).
    labels: Mapping[str, str] = field(default_factory=dict)
    #: What it shall let its worker do (`streamswarm_worker_policy`); None where only a run of Ansible can tell.
    policy: Mapping[str, Any] | None = field(default_factory=dict)
    #: Bundle that it shall have (`streamswarm_worker_bundle`); empty for the one that this controller builds.
    bundle: str = ""


def load_inventory(sources: Sequence[Path], *, limit: str = "") -> tuple[InventoryHost, ...]:
    """Return the hosts of one or more inventories, sorted by name; `limit` is a host pattern that narrows them down.

    Raises ConfigurationError when one is missing, cannot be understood, or names a host that no worker can have.
    """
    return parse_inventory(_ask_ansible(sources, limit))


def parse_inventory(listed: Mapping[str, Any]) -> tuple[InventoryHost, ...]:
    """Turn what `ansible-inventory --list` prints into records.

    The controller's own host is not among them, unless it is to have a worker too.
    """
    variables = _unmarked(listed.get("_meta", {}).get("hostvars", {}))
    groups = _groups_by_host(listed)
    names = [name for name in sorted(groups) if "workers" in groups[name] or "controller" not in groups[name]]
    return tuple(_host(name, variables.get(name, {}), groups[name]) for name in names)


def read_groups(sources: Sequence[Path]) -> dict[str, set[str]]:
    """Return every host's groups, with those above them, of whatever inventories; none has to have a worker."""
    return _groups_by_host(_ask_ansible(sources, ""))


def _host(name: str, variables: Mapping[str, Any], groups: set[str]) -> InventoryHost:
    if not HOST_NAME.fullmatch(name):
        raise ConfigurationError(
            f"the inventory names a host {name[:80]!a}, which cannot be a worker's name",
            mend="use letters, digits, dots, hyphens and underscores, with a letter or digit at both ends",
        )
    address = _text(variables, "ansible_host", name) or name
    port = _text(variables, "ansible_port", name) or "22"
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise ConfigurationError(
            f"`ansible_port` of host {name} is not a port", mend="give it a number from 1 to 65535"
        )
    labels = variables.get("streamswarm_labels") or {}
    if not isinstance(labels, Mapping):
        raise ConfigurationError(
            f"`streamswarm_labels` of host {name} is not a mapping", mend="write it as {rack: a1, role: edge}"
        )
    return InventoryHost(
        name=name,
        address=address,
        port=int(port),
        user=_text(variables, "ansible_user", name),
        groups=tuple(sorted(groups - {"all", "ungrouped"})),
        measured_address=_text(variables, "streamswarm_address", name) or address,
        site=_text(variables, "streamswarm_site", name),
        labels={str(key): str(value) for key, value in labels.items()},
        policy=policy_of(variables.get(POLICY_VARIABLE)),
        bundle=_text(variables, "streamswarm_worker_bundle", name),
    )


def _unmarked(value: Any) -> Any:
    """Return values without the mark that Ansible puts on texts of dynamic inventories, which are no templates."""
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.keys() == {"__ansible_unsafe"}:
        return value["__ansible_unsafe"]
    return {key: _unmarked(item) for key, item in value.items()}


def policy_of(value: Any) -> Mapping[str, Any] | None:
    """Return a policy that stands in the inventory as it is; templates and vaulted values are Ansible's to read."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return None
    text = json.dumps(value)
    return None if "{{" in text or "{%" in text or "__ansible_vault" in text else value


def _text(variables: Mapping[str, Any], key: str, host: str) -> str:
    value = variables.get(key, "")
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigurationError(f"`{key}` of host {host} is not text", mend="write it as one plain value")
    return str(value)


def _groups_by_host(listed: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return each host's groups, with those above them."""
    found: dict[str, set[str]] = {name: set() for name in listed.get("_meta", {}).get("hostvars", {})}

    def walk(group: str, above: tuple[str, ...]) -> None:
        if group in above:
            return
        here = (*above, group)
        content = listed.get(group, {})
        for host in content.get("hosts", ()):
            found.setdefault(host, set()).update(here)
        for child in content.get("children", ()):
            walk(child, here)

    walk("all", ())
    return found


def _ask_ansible(sources: Sequence[Path], limit: str) -> dict[str, Any]:
    for source in sources:
        if not source.exists():
            raise ConfigurationError(
                f"there is no inventory at {source}",
                mend="name one with --inventory, or copy inventory/example.ini to inventory/hosts.ini and edit it",
            )
    command = module_command("ansible", "inventory", "--list")
    for source in sources:
        command += ["--inventory", str(source.absolute())]
    if limit:
        command += [f"--limit={limit}"]
    named = ", ".join(map(str, sources))
    with private_folder() as private:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
                env={**os.environ, **environment(private, sources)},
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigurationError(
                f"reading the inventory {named} took longer than {TIMEOUT} s",
                mend="see what its plug-in waits for",
            ) from error
    try:
        if done.returncode == 0:
            listed = json.loads(done.stdout)
            if isinstance(listed, dict):
                return listed
    except ValueError:
        pass
    said = (done.stderr.strip() or done.stdout.strip())[-1500:]
    said = said or f"it ended {ending(done.returncode)} and said nothing"
    raise ConfigurationError(
        f"Ansible cannot read the inventory {named}: {said}", mend="mend the file it names"
    )
