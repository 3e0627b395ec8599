"""What the inventory says of a host, brought to the controller: enrolment does it once, provisioning again does it anew."""

from __future__ import annotations

from typing import Any

from controller.fleet.api import Api, workers_of
from controller.fleet.inventory import InventoryHost


def describe(api: Api, host: InventoryHost) -> str:
    """Bring site, labels, groups and intended policy of a host's worker in line with the inventory.

    Returns what was changed, in words. A policy that only a run of Ansible can read is not brought.
    """
    wanted: dict[str, Any] = {"site": host.site, "labels": dict(host.labels), "groups": sorted(host.groups)}
    if host.policy is not None:
        wanted["intended_policy"] = dict(host.policy)
    changed: set[str] = set()
    for worker in workers_of(api, host.name):
        found = {**worker, "groups": sorted(worker["groups"])}
        values = {name: value for name, value in wanted.items() if found[name] != value}
        if worker["state"] != "revoked" and values:
            api.patch(f"/workers/{worker['id']}", values)
            # What it was never told is no news: every worker is told once.
            changed |= {name for name in values if worker[name] is not None}
    return f"{', '.join(sorted(changed)).replace('_', ' ')} brought to the controller" if changed else ""
