"""`streamswarm fleet drift` and `fleet mesh` with a real inventory against a dashboard that serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text
from support.dashboard import dashboard

from controller.cli.client import Client
from controller.cli.main import cli
from controller.fleet import distribution
from controller.settings import Settings

INVENTORY = """\
[workers]
edge-1 ansible_host=192.0.2.1 streamswarm_labels='{"uplink": "fibre"}'
edge-2 ansible_host=192.0.2.2 streamswarm_address=198.51.100.2
edge-3 ansible_host=192.0.2.3

[berlin]
edge-1
edge-2

[workers:children]
berlin

[berlin:vars]
streamswarm_site=berlin
streamswarm_worker_policy={"deny": ["192.0.2.0/24"]}
"""

_ROWS = """
INSERT INTO processes (id, role, name, host_name, pid, version, heartbeat_at) OVERRIDING SYSTEM VALUE
VALUES (1000, 'gateway', 'g', 'here', 1, '1', now() + interval '1 hour');
INSERT INTO workers (name, host_name, site, labels, groups, version, policy, gateway_id, enrolled_at, connected_at)
VALUES ('One', 'edge-1', 'berlin', '{"uplink": "fibre"}', '["workers", "berlin"]', 'VERSION+ab',
        '{"deny": ["192.0.2.0/24"], "ports": []}', 1000, now(), now()),
       ('edge-2', 'edge-2', 'berlin', '{}', '["workers", "berlin"]', 'VERSION+ab', '{"deny": ["192.0.2.0/24"]}',
        1000, now(), now())
"""


class Fleet:
    """An inventory, and the controller that its hosts belong to."""

    def __init__(self, folder: Path, environment: dict[str, str], client: Client, engine: Engine) -> None:
        self.inventory = folder / "hosts.ini"
        self.inventory.write_text(INVENTORY)
        self.client = client
        self._environment = environment
        self._engine = engine

    def run(self, *words: str) -> Result:
        """Call `streamswarm fleet`."""
        return CliRunner().invoke(
            cli, ["fleet", *words, "--inventory", str(self.inventory)], env=self._environment
        )

    def sql(self, statement: str) -> None:
        """Change something behind the API."""
        with self._engine.begin() as connection:
            connection.execute(text(statement))

    def pairs(self) -> set[tuple[str, str]]:
        """Which host's worker measures which destination, as the API shows the tests."""
        hosts = {item["id"]: item["host_name"] for item in self.client.items("/workers")}
        return {
            (hosts[worker], destination["address"])
            for test in self.client.items("/tests")
            for worker in test["selection"]["workers"]
            for destination in test["destinations"]
        }


@pytest.fixture
def fleet(settings: Settings, engine: Engine, tmp_path: Path) -> Iterator[Fleet]:
    """Three hosts in the inventory, two of them enrolled."""
    rows = _ROWS.replace("VERSION", distribution.version()).replace(":", r"\:")
    with engine.begin() as connection:
        connection.execute(text(rows))
    with dashboard(settings, tmp_path / "log") as made:
        client = Client(made.url, made.token_file.read_text().strip(), through_proxies=False)
        environment: dict[str, Any] = {
            **made.environment,
            "STREAMSWARM_TOKEN": None,
            "STREAMSWARM_BUNDLE_DIR": str(tmp_path / "bundles"),
        }
        yield Fleet(tmp_path, environment, client, engine)
        client.close()


def test_drift_is_told_and_part_of_it_mended(fleet: Fleet) -> None:
    """Every sort has its line and 1 comes out; --mend sets what the controller holds; in line, 0 comes out."""
    fleet.sql("UPDATE workers SET site = 'oslo', labels = '{}', groups = '[]' WHERE host_name = 'edge-1'")
    fleet.sql("UPDATE workers SET policy = '{}', gateway_id = NULL WHERE host_name = 'edge-2'")
    fleet.sql("INSERT INTO workers (name, host_name, enrolled_at) VALUES ('lost', 'lost', now())")
    told = fleet.run("drift")
    assert told.exit_code == 1, told.output
    assert [" ".join(line.split()[:2]) for line in told.stdout.splitlines()] == [
        "edge-1: site",
        "edge-1: labels",
        "edge-1: groups",
        "edge-2: not",
        "edge-2: policy",
        "edge-3: not",
        "lost: not",
    ]
    as_json = json.loads(fleet.run("drift", "--json").stdout)
    assert (as_json["hosts"], as_json["workers"], len(as_json["drift"])) == (3, 3, 7)

    mended = fleet.run("drift", "--mend")
    assert mended.exit_code == 1
    assert "site, labels and groups of 1 workers are as in the inventory now" in mended.stderr
    assert "edge-1" not in mended.stdout
    [one] = [item for item in fleet.client.items("/workers") if item["host_name"] == "edge-1"]
    assert (one["site"], one["labels"], one["groups"]) == (
        "berlin",
        {"uplink": "fibre"},
        ["berlin", "workers"],
    )

    fleet.inventory.write_text(INVENTORY.replace("edge-3 ansible_host=192.0.2.3\n", ""))
    fleet.sql('UPDATE workers SET policy = \'{"deny"\\: ["192.0.2.0/24"]}\', gateway_id = 1000')
    fleet.sql("UPDATE workers SET revoked_at = now() WHERE host_name = 'lost'")
    well = fleet.run("drift")
    assert (well.exit_code, well.stdout) == (0, "2 hosts are as the inventory wants them\n"), well.output


def test_a_mesh_follows_the_inventory(fleet: Fleet) -> None:
    """Every host measures every other one; a second run changes nothing; hosts come and go; it can be taken away."""
    checked = fleet.run("mesh", "berlin", "--check")
    assert checked.exit_code == 0, checked.output
    assert "4 to create" in checked.output
    assert fleet.pairs() == set()

    made = fleet.run("mesh", "berlin", "--interval", "10", "-p", "count=3", "-p", "interval_ms=500")
    assert made.exit_code == 0, made.output
    assert "Done: 4 of 4 changes." in made.output
    assert fleet.pairs() == {("edge-1", "198.51.100.2"), ("edge-2", "192.0.2.1")}
    tests = list(fleet.client.items("/tests"))
    assert {(test["interval_s"], test["spec"]["count"]) for test in tests} == {(10, 3)}

    again = fleet.run("mesh", "berlin")
    assert again.output.strip() == "4 as they should be"

    fleet.sql("INSERT INTO workers (name, host_name, enrolled_at) VALUES ('edge-3', 'edge-3', now())")
    fleet.inventory.write_text(
        INVENTORY.replace("edge-1\nedge-2\n\n", "edge-2\nedge-3\n\n").replace("=192.0.2.3", "=192.0.2.33")
    )
    moved = fleet.run("mesh", "berlin")
    assert moved.exit_code == 0, moved.output
    assert fleet.pairs() == {("edge-2", "192.0.2.33"), ("edge-3", "198.51.100.2")}
    assert {item["name"] for item in fleet.client.items("/destinations")} == {"edge-2", "edge-3"}
    assert {(test["interval_s"], test["spec"]["count"]) for test in fleet.client.items("/tests")} == {(10, 3)}
    assert fleet.run("mesh", "berlin").output.strip() == "4 as they should be"

    removed = fleet.run("mesh", "berlin", "--remove")
    assert removed.exit_code == 0, removed.output
    assert list(fleet.client.items("/tests")) == list(fleet.client.items("/destinations")) == []


def test_what_is_in_a_meshs_way_is_told_and_nothing_is_made(fleet: Fleet) -> None:
    """A destination of the same name and another address stops all of it, with the reason."""
    fleet.client.post("/destinations", {"name": "edge-1", "address": "203.0.113.9"})
    refused = fleet.run("mesh", "berlin")
    assert refused.exit_code == 1
    assert "203.0.113.9" in refused.output
    assert list(fleet.client.items("/tests")) == []
    unknown = fleet.run("mesh", "nowhere")
    assert unknown.exit_code == 2
    assert "name one of its groups (berlin, workers)" in unknown.stderr
    odd = fleet.run("mesh", "berlin", "-p", "count")
    assert odd.exit_code == 2
    assert "NAME=VALUE" in odd.stderr
