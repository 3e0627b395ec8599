"""What the inventory says of a host, brought to the controller: enrolment does it once, provisioning again does it anew."""

from __future__ import annotations

from controller.fleet.api import Api, workers_of
from controller.fleet.inventory import InventoryHost


def describe(api: Api, host: InventoryHost) -> str:
    """Bring site, labels and groups of a host's worker in line with the inventory; returns what was changed, in words."""
    wanted = {"site": host.site, "labels": dict(host.labels), "groups": sorted(host.groups)}
    changed: set[str] = set()
    for worker in workers_of(api, host.name):
        found = {**worker, "groups": sorted(worker["groups"])}
        values = {name: value for name, value in wanted.items() if found[name] != value}
        if worker["state"] != "revoked" and values:
            api.patch(f"/workers/{worker['id']}", values)
            changed |= values.keys()
    return f"{', '.join(sorted(changed))} brought to the controller" if changed else ""
