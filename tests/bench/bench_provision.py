"""From bare hosts to enrolled workers: 8 fresh systemd hosts, beside a plain play that pip-installs the same wheels (root).

The peer is `provision/peer.yml`: ten tasks, pipelining, as many hosts at a time as ours, wheels and tokens lying ready as
our bundle does; it ends when the services are started, ours when every worker has its identity. Each begins with hosts
of its own that have just booted, over the same network, with a real gateway to enrol at. A second run of ours must
change nothing. CPU is that of the hosts, by their control groups, and of Ansible here. Where Mitogen is installed, hosts of
a third kind show what it is good for; the goal is about Ansible alone. STREAMSWARM_BENCH_HOSTS shortens it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lab.cgroups import cpu_s
from lab.laboratory import Lab
from provision import wheels
from sqlalchemy.orm import Session
from support.deployment import Deployment, deployed
from support.surroundings import clean_environment, wait_for

from controller.fleet.ansible import STRATEGY_VARIABLE, environment, private_folder
from controller.fleet.bundles import Bundle, ensure_bundle
from controller.fleet.desk import Grant
from controller.fleet.inventory import InventoryHost
from controller.fleet.operations import PlaybookRequest, Recap, provision
from controller.fleet.platforms import Platform
from controller.settings import Settings
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.engine import make_engine

#: Taken out: processes of ours that are started here refuse variables that they do not know.
HOSTS = int(os.environ.pop("STREAMSWARM_BENCH_HOSTS", "8"))
FORKS = 10
GOAL = 0.5
FOLDER = Path(__file__).parent / "provision"
DESCRIBE = Path(__file__).parents[2] / "playbooks/roles/worker/files/describe_platform.py"


class Ground:
    """Fresh hosts and a gateway that they reach."""

    def __init__(self, lab: Lab, deployment: Deployment, settings: Settings) -> None:
        self.lab = lab
        self.deployment = deployment
        self.settings = settings
        self._engine = make_engine(settings, application="bench")

    def grant_for(self, host: InventoryHost) -> Grant:
        """Make a token for a host, as the REST API does."""
        return self.grant(host.name)

    def grant(self, name: str) -> Grant:
        """Make a token for a host by its name."""
        with Session(self._engine) as session, session.begin():
            token = make_enrolment_token(session, name, minutes=60)
        return Grant(
            token=token,
            ca_pem=(self.settings.data_dir / "ca" / "root.pem").read_text(),
            enrolment=self.settings.public_enrolment,
            gateways=self.settings.public_gateways,
        )

    def connected(self) -> int:
        """How many workers hold a session."""
        return int(self.deployment.sql("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL")[0][0])

    def timed(self, work: Callable[[], Any]) -> tuple[float, float, Any]:
        """Do it; returns seconds, seconds of processors on the hosts and here, and what came of it."""
        cpu, started = self._cpu_s(), time.perf_counter()
        done = work()
        return time.perf_counter() - started, self._cpu_s() - cpu, done

    def _cpu_s(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime + sum(cpu_s(host.namespace) for host in self.lab.hosts)


@contextmanager
def ground() -> Iterator[Ground]:
    """Boot the hosts, with database and gateway beside them."""
    with Lab.boot(HOSTS, timeout=180) as lab, deployed() as deployment:
        settings = Settings(
            database_url=deployment.settings.database_url,
            data_dir=deployment.settings.data_dir,
            gateway_listen=f"{lab.address}:7443",
            enrolment_listen=f"{lab.address}:7444",
            log_level="warning",
        )
        gateway = lab.popen(
            [sys.executable, "-m", "controller.gateway"],
            extra_environment=clean_environment(**settings.environment()),
        )
        listening = "SELECT 1 FROM processes WHERE role = 'gateway' AND stopped_at IS NULL"
        try:
            wait_for("the gateway", lambda: deployment.sql(listening), 60)
            yield Ground(lab, deployment, settings)
        finally:
            gateway.terminate()
            gateway.wait(timeout=30)


def ours(there: Ground) -> Recap:
    """Provision all hosts, as `streamswarm fleet provision` does."""
    request = PlaybookRequest(inventories=(there.lab.inventory,), forks=FORKS)
    with there.lab.inside():
        recap = provision(request, grant_for=there.grant_for)
    if not recap.succeeded:
        raise RuntimeError("\n".join(host.message for host in recap.hosts))
    return recap


def peers(there: Ground, packed: Path, pip_wheel: str) -> None:
    """Run the plain play on all hosts."""
    grants = {host.name: there.grant(host.name) for host in there.lab.hosts}
    some = next(iter(grants.values()))
    with private_folder() as private:
        variables = private / "variables.json"
        given = {
            "wheels": str(packed),
            "pip_wheel": pip_wheel,
            "ca_pem": some.ca_pem,
            "gateways": list(some.gateways),
            "enrolment": some.enrolment,
            "tokens": {name: grant.token for name, grant in grants.items()},
        }
        variables.write_text(json.dumps(given))
        words = ["-i", there.lab.inventory, "--forks", str(FORKS), "-e", f"@{variables}", FOLDER / "peer.yml"]
        there.lab.exec(
            [Path(sys.executable).with_name("ansible-playbook"), *words],
            extra_environment=environment(private),
            timeout=1800,
        )


def by_mitogen() -> float | None:
    """Return the seconds that ours takes with Mitogen, on hosts of its own; None, with the reason told, when it fails."""
    os.environ[STRATEGY_VARIABLE] = "mitogen"
    with ground() as there:
        try:
            return there.timed(lambda: ours(there))[0]
        except RuntimeError as error:
            print(f"Mitogen: {error}", file=sys.stderr)  # noqa: T201  beside the line of JSON
            return None


def measure() -> dict[str, Any]:
    """Ours and the peer, each on fresh hosts, and ours a second time."""
    said = subprocess.run([wheels.PYTHON, DESCRIBE], capture_output=True, text=True, check=True).stdout
    platform = Platform.parse(**json.loads(said))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        packed = folder / "wheels.tar.gz"
        pip_wheel = wheels.gather(platform, packed)
        started = time.perf_counter()
        bundle: Bundle = ensure_bundle(platform, folder=folder / "bundles")
        bundle_s = time.perf_counter() - started
        os.environ["STREAMSWARM_BUNDLE_DIR"] = str(folder / "bundles")
        os.environ[STRATEGY_VARIABLE] = "linear"
        with ground() as there:
            value, cpu, _ = there.timed(lambda: ours(there))
            wait_for("all sessions", lambda: there.connected() == HOSTS, 60)
            again, again_cpu, recap = there.timed(lambda: ours(there))
            print(f"ours {value:.1f} s, {cpu:.1f} s of processors; again {again:.1f} s", file=sys.stderr)  # noqa: T201
        changed = sum(host.changed for host in recap.hosts)
        with ground() as there:
            peer, peer_cpu, _ = there.timed(lambda: peers(there, packed, pip_wheel))
            print(f"peer {peer:.1f} s, {peer_cpu:.1f} s of processors", file=sys.stderr)  # noqa: T201
            wait_for("the peer's sessions", lambda: there.connected() == HOSTS, 180)
        mitogen = by_mitogen() if find_spec("ansible_mitogen") is not None else None
        return {
            "value": round(value, 2),
            "unit": "s",
            "peer": "a plain play of ten tasks: wheels, venv, pip, unit",
            "peer_value": round(peer, 2),
            "ratio": round(value / peer, 2),
            "goal": f"<= {GOAL:g}, second run changed=0",
            "ok": value <= GOAL * peer and changed == 0,
            "hosts": HOSTS,
            "cpu_s": round(cpu, 1),
            "peer_cpu_s": round(peer_cpu, 1),
            "cpu_ratio": round(cpu / peer_cpu, 2),
            "mitogen_s": None if mitogen is None else round(mitogen, 2),
            "mitogen_ratio": None if mitogen is None else round(mitogen / peer, 2),
            "again_s": round(again, 2),
            "again_cpu_s": round(again_cpu, 1),
            "again_changed": changed,
            "bundle_s": round(bundle_s, 1),
            "bundle_mb": round(bundle.path.stat().st_size / 1e6, 1),
            "wheels_mb": round(packed.stat().st_size / 1e6, 1),
        }
