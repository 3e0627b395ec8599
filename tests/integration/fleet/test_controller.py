"""The controller on a real host by Ansible: from nothing to results over HTTPS, the same again, and to a newer release."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import shutil
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lab.hosts import Host
from lab.laboratory import Lab
from support.releases import changed_release

from controller import assets
from controller.fleet.ansible import environment, private_folder
from controller.fleet.bundles import Bundle, ensure_bundle
from controller.fleet.parts import CONTROLLER

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery staple"
UNITS = ("database", "gateway", "keeper", "web", "proxy")
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
OURS = ["/opt/streamswarm-controller", "/etc/streamswarm-controller", "/var/lib/streamswarm"]


@pytest.fixture(scope="module")
def controller_bundle(host_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The controller's bundle for this machine's own system, which the laboratory's hosts have too."""
    folder = tmp_path_factory.mktemp("controller") / "bundles"
    return ensure_bundle(host_bundle.platform, folder=folder, part=CONTROLLER)


@pytest.fixture(scope="module")
def newer_bundle(controller_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same under a newer version."""
    return changed_release(controller_bundle, tmp_path_factory.mktemp("newer"), "newer")


class Site:
    """host1 has the controller, host2 is a worker; playbooks run beside them."""

    def __init__(self, lab: Lab, private: Path, bundles: Path, worker_bundle: Bundle) -> None:
        self.lab = lab
        self.controller, self.worker = lab.hosts
        self.inventory = lab.folder / "site.ini"
        own = lab.inventory.read_text().replace("[workers:vars]", "[all:vars]")
        hosts = {line.split()[0]: line for line in own.splitlines() if line.startswith("host")}
        rest = own[own.index("[all:vars]") :]
        self.inventory.write_text(f"[controller]\n{hosts['host1']}\n\n[workers]\n{hosts['host2']}\n\n{rest}")
        self._environment = {
            **environment(private),
            "STREAMSWARM_BUNDLE_DIR": str(bundles),
            "ANSIBLE_NOCOLOR": "1",
        }
        self._variables = private / "site.json"
        self._variables.write_text(
            json.dumps(
                {
                    "streamswarm_controller_admin_password": PASSWORD,
                    "streamswarm_worker_bundle": str(worker_bundle.path),
                    "streamswarm_site": "berlin",
                }
            )
        )

    def play(self, playbook: str, *words: str) -> tuple[dict[str, int], str]:
        """Run a playbook, which must succeed; return how much changed on each host, and all that was said."""
        command: list[str | Path] = [Path(sys.executable).with_name("ansible-playbook"), "-i", self.inventory]
        command += [assets.playbooks() / playbook, "--extra-vars", f"@{self._variables}", *words]
        said = self.lab.exec(command, timeout=500, extra_environment=self._environment)
        recaps = {name: tuple(map(int, numbers)) for name, *numbers in RECAP.findall(said)}
        assert all(failed == unreachable == 0 for _, unreachable, failed in recaps.values()), said[-3000:]
        return {name: changed for name, (changed, _, _) in recaps.items()}, said

    def client(self, *, known: bool = True) -> httpx.Client:
        """A client through the proxy, whose certificate is verified by the authority's root; `known` by a token."""
        root = self.controller.ssh("cat", "/var/lib/streamswarm/ca/root.pem")
        token = self.controller.ssh("cat", "/var/lib/streamswarm/secrets/local.token").strip()
        context = ssl.create_default_context(cadata=root)
        return httpx.Client(
            base_url=f"https://{self.controller.address}",
            verify=context,
            http2=True,
            headers={"Authorization": f"Bearer {token}"} if known else {},
            trust_env=False,
            timeout=30,
        )


@pytest.fixture(scope="module")
def site(lab: Lab, host_bundle: Bundle, controller_bundle: Bundle) -> Iterator[Site]:
    """The laboratory before anything is installed."""
    with private_folder() as private:
        yield Site(lab, private, controller_bundle.path.parent, host_bundle)


@pytest.fixture(scope="module")
def installed(site: Site) -> Site:
    """`site.yml` has run once, after a check run that announced it and made nothing."""
    changed, said = site.play("site.yml", "--check", "--diff")
    assert changed["host1"] > 10
    assert "web_proxy_hops: 1" in said
    assert PASSWORD not in said
    assert site.controller.ssh("ls", "-d", *OURS, "2>/dev/null", "||", "true") == ""
    changed, said = site.play("site.yml", "--diff")
    assert changed["host1"] > 10
    assert changed["host2"] > 5
    assert PASSWORD not in said
    assert "PRIVATE KEY" not in said
    return site


@pytest.fixture
def api(installed: Site) -> Iterator[httpx.Client]:
    """A client of the installed controller."""
    with installed.lab.inside(), installed.client() as client:
        yield client


def wait_for(look: Callable[[], Any], expected: Callable[[Any], bool], *, seconds: float = 60) -> Any:
    """Look until what is seen is as expected; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while not expected(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    return seen


@pytest.fixture(scope="module")
def test_id(installed: Site) -> int:
    """A test that the worker runs every second."""
    with installed.lab.inside(), installed.client() as client:
        wait_for(
            lambda: client.get("/api/v1/workers").json()["items"],
            lambda items: (
                [(item["host_name"], item["state"], item["site"]) for item in items]
                == [("host2", "connected", "berlin")]
            ),
        )
        made = client.post(
            "/api/v1/tests",
            json={"name": "Host", "kind": "system", "spec": {"window_ms": 200}, "interval_s": 1},
        )
        assert made.status_code == 201, made.text
        return int(made.json()["id"])


def due(api: httpx.Client, test_id: int, *, since: float = 0) -> list[int]:
    """The seconds at which the latest runs of a test were due, newest first."""
    start = dt.datetime.fromtimestamp(since or time.time() - 300, dt.UTC).isoformat()
    answer = api.get(f"/api/v1/tests/{test_id}/results", params={"from": start, "limit": 500})
    return [int(dt.datetime.fromisoformat(run["scheduled_at"]).timestamp()) for run in answer.json()["items"]]


def test_one_run_brings_results_to_a_dashboard_over_https(api: httpx.Client, test_id: int) -> None:
    """By HTTP/2 with a verified certificate and HSTS; the worker enrolled itself with the token that the run brought."""
    wait_for(lambda: due(api, test_id), lambda seconds: len(seconds) >= 3)
    health = api.get("/api/v1/health")
    assert health.http_version == "HTTP/2"
    assert health.json()["status"] == "ok"
    assert health.headers.get_list("strict-transport-security") == ["max-age=31536000"]
    assert set(health.json()["components"].values()) == {"ok"}


def test_the_dashboard_knows_the_clients_address_and_no_other(api: httpx.Client, installed: Site) -> None:
    """Exactly one proxy is believed: what a client says of earlier ones does not reach the audit log."""
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    assert api.post("/api/v1/tests", json={"name": "F", "kind": "system"}, headers=forged).status_code == 201
    [entry, *_] = api.get("/api/v1/audit", params={"object_type": "test"}).json()["items"]
    assert entry["address"] == installed.lab.address


def test_who_logs_in_with_the_given_password_sees_results_live(installed: Site, test_id: int) -> None:
    """The cookie is for HTTPS only; events pass the proxy while the stream is open, not when a buffer is full."""
    with installed.lab.inside(), installed.client(known=False) as browser:
        page = browser.get("/login")
        [token] = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        done = browser.post(
            "/login",
            data={"csrf_token": token, "name": "admin", "password": PASSWORD},
            headers={"Referer": f"https://{installed.controller.address}/login"},
        )
        assert done.status_code == 302, done.text
        assert "Secure" in done.headers["set-cookie"]
        began = time.monotonic()
        with browser.stream("GET", "/live") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            seen = ""
            for text in stream.iter_text():
                seen += text
                if "event: results" in seen:
                    break
        assert "retry: 2000" in seen
        assert time.monotonic() - began < 30


def test_the_second_run_changes_nothing(installed: Site) -> None:
    """Nor does it restart anything."""

    def processes(host: Host, units: tuple[str, ...]) -> str:
        return host.ssh("systemctl", "show", "--property=MainPID", "--value", *units)

    units = tuple(f"streamswarm-{name}" for name in UNITS)
    before = processes(installed.controller, units)
    changed, _ = installed.play("site.yml")
    assert changed == {"host1": 0, "host2": 0}
    assert processes(installed.controller, units) == before


def test_a_damaged_release_is_mended(installed: Site, api: httpx.Client) -> None:
    """A gateway without one of its modules ends over and over; the next run names the file, brings it again, and all is well."""
    host, lost = installed.controller, "lib/controller/gateway/sessions.py"
    host.ssh(f"cd /opt/streamswarm-controller/current/ && rm {lost}")
    host.ssh("systemctl", "restart", "streamswarm-gateway", "||", "true")
    wait_for(lambda: api.get("/api/v1/health").json()["components"]["gateway"], lambda state: state != "ok")
    changed, said = installed.play("controller.yml")
    assert changed["host1"] > 0
    assert f"Files of the release were missing or changed, and it was brought again: {lost}" in said
    wait_for(lambda: api.get("/api/v1/health").json()["status"], lambda status: status == "ok")


def test_a_keeper_that_is_stopped_is_given_time(installed: Site) -> None:
    """For hosts that it is returning to the release before: five tries, with pauses of up to a minute between them."""
    show = ("systemctl", "show", "--property=TimeoutStopUSec", "--value", "streamswarm-keeper")
    assert installed.controller.ssh(*show) == "15min\n"


@pytest.mark.parametrize("name", UNITS)
def test_the_services_run_with_least_privilege(installed: Site, name: str) -> None:
    """Not as root, with no capability but the one that a low port needs, and in a unit that systemd rates as safe."""
    host, unit = installed.controller, f"streamswarm-{name}"
    pid = host.ssh("systemctl", "show", "--property=MainPID", "--value", unit).strip()
    status = dict(
        line.split(":\t", 1) for line in host.ssh("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert "0" not in status["Uid"].split()
    bind = 1 << 10
    assert int(status["CapBnd"], 16) == (bind if name == "proxy" else 0)
    assert int(status["CapEff"], 16) == (bind if name == "proxy" else 0)
    assert status["NoNewPrivs"] == "1"
    host.ssh("systemd-analyze", "security", "--threshold=25", unit)
    assert host.ssh("systemctl", "is-enabled", unit).strip() == "enabled"


def test_secrets_are_in_nobodys_reach(installed: Site) -> None:
    """The keys of authority and proxy and the database's password are readable by the controller's account only."""
    host = installed.controller
    found = host.ssh("find", *OURS, "-perm", "/004", "-type", "f", "-path", "'*/var/lib/*'")
    assert found == ""
    assert host.ssh("stat", "-c", "'%U %a'", "/var/lib/streamswarm").strip() == "streamswarm 700"
    arguments = host.ssh("cat", "/proc/[0-9]*/cmdline").replace("\0", " ")
    password = host.ssh("cat", "/var/lib/streamswarm/secrets/postgres-password").strip()
    assert password not in arguments
    assert PASSWORD not in arguments
    journal = host.ssh("journalctl", "--no-pager", "--output=cat")
    assert password not in journal
    assert PASSWORD not in journal


def test_the_command_on_the_host_knows_the_installation(installed: Site) -> None:
    """`sudo streamswarm status` finds everything well."""
    said = installed.controller.ssh("sudo", "streamswarm", "status", user="deploy")
    assert said.startswith(f"ok  https://{installed.controller.address}\n")


def test_the_release_has_its_own_ansible_and_resolver(installed: Site) -> None:
    """What the keeper runs on other hosts, and builds for them, needs nothing of the host but Python."""
    release = "/opt/streamswarm-controller/current"
    assert "ansible-playbook [core 2." in installed.controller.ssh(
        f"{release}/bin/ansible-playbook", "--version"
    )
    found = "'from uv import find_uv_bin; print(find_uv_bin())'"
    said = installed.controller.ssh("env", f"PYTHONPATH={release}/lib", "/usr/bin/python3", "-c", found)
    assert said.strip() == f"{release}/lib/bin/uv"
    installed.controller.ssh(said.strip(), "--version")


def test_the_hardening_takes_nothing_from_the_keeper(installed: Site) -> None:
    """Under the very rules of its unit it learns: the libraries for that make code of their own."""
    host = installed.controller
    unit = host.ssh("systemctl", "cat", "streamswarm-keeper")
    rules = re.findall(
        r"^((?:Protect|Private|Restrict|SystemCall|Lock|NoNew|MemoryDeny|Capability)\w*=.*)$",
        unit,
        re.MULTILINE,
    )
    assert len(rules) > 15
    code = (
        "import numpy, threadpoolctl; from sklearn.ensemble import IsolationForest; threadpoolctl.threadpool_info(); "
        "IsolationForest(n_estimators=5).fit(numpy.random.rand(50, 3)); print('learnt')"
    )
    command = ["systemd-run", "--pipe", "--wait", "--quiet", "--property=User=streamswarm"]
    command += [shlex.quote(f"--property={rule}") for rule in rules]
    command += [
        "--setenv=PYTHONPATH=/opt/streamswarm-controller/current/lib",
        "/usr/bin/python3",
        "-c",
        shlex.quote(code),
    ]
    assert host.ssh(*command, timeout=120) == "learnt\n"


@pytest.fixture
def keeper_with_inventory(installed: Site, host_bundle: Bundle) -> Iterator[None]:
    """The keeper has what the guide to provisioning says that it needs to run playbooks: inventory, key and known hosts."""
    host, place = installed.controller, "/var/lib/streamswarm/fleet"
    unit = "/etc/systemd/system/streamswarm-keeper.service.d"
    folder = host.root / place[1:]
    folder.mkdir()
    for file in (
        installed.lab.folder / "key",
        installed.lab.folder / "known_hosts",
        host_bundle.path,
        host_bundle.path.with_name(f"{host_bundle.path.name}.json"),
    ):
        shutil.copy(file, folder)
    inventory = installed.inventory.read_text().replace(str(installed.lab.folder), place)
    inventory += f"streamswarm_worker_bundle={place}/{host_bundle.path.name}\n"
    (folder / "hosts.ini").write_text(inventory)
    host.ssh(f"chown -R streamswarm: {place} && chmod 600 {place}/key")
    host.ssh(
        f"mkdir {unit} && printf '[Service]\\nEnvironment=STREAMSWARM_INVENTORY={place}/hosts.ini' > {unit}/fleet.conf"
    )
    host.ssh("systemctl daemon-reload && systemctl restart streamswarm-keeper")
    yield
    host.ssh(f"rm -r {unit} {place} && systemctl daemon-reload && systemctl restart streamswarm-keeper")


@pytest.mark.parametrize("kind", ["verify", "provision", "rotate"])
def test_a_keeper_runs_playbooks_under_its_hardening(
    api: httpx.Client, test_id: int, keeper_with_inventory: None, kind: str
) -> None:
    """What is asked for on the dashboard reaches a worker's host from the unit as it is."""
    asked = api.post("/api/v1/operations", json={"kind": kind})
    assert asked.status_code == 202, asked.text
    number = asked.json()["id"]
    ended = wait_for(
        lambda: api.get(f"/api/v1/operations/{number}").json(),
        lambda operation: operation["state"] not in ("queued", "running"),
        seconds=120,
    )
    [host] = api.get(f"/api/v1/operations/{number}/hosts").json()["items"]
    assert (ended["state"], host["host"], host["state"]) == ("succeeded", "host2", "ok"), (ended, host)


def test_the_proxys_certificate_is_renewed_by_itself(installed: Site) -> None:
    """Daily it is looked at; while it is good nothing happens, and a new one is shown at once."""
    host, ca = installed.controller, "/var/lib/streamswarm/ca"
    listed = host.ssh("systemctl", "list-timers", "--no-pager", "streamswarm-certificate.timer")
    assert "streamswarm-certificate.service" in listed
    host.ssh("systemd-analyze", "security", "--threshold=25", "streamswarm-certificate")

    def shown() -> str:
        with installed.lab.inside():
            try:
                return ssl.get_server_certificate((host.address, 443), timeout=10)
            except OSError:  # the proxy starts
                return ""

    before = shown()
    host.ssh("systemctl", "start", "streamswarm-certificate")
    assert shown() == before != ""
    host.ssh("rm", f"{ca}/web.pem")
    host.ssh("systemctl", "start", "streamswarm-certificate")
    wait_for(shown, lambda certificate: certificate not in ("", before))
    assert (
        host.ssh("stat", "-c", "'%U %a'", f"{ca}/web.pem", f"{ca}/web.key").split()
        == ["streamswarm", "600"] * 2
    )


def test_a_killed_service_comes_back(installed: Site, api: httpx.Client) -> None:
    """Even the database, and everything is well again by itself."""
    killed = ("streamswarm-database", "streamswarm-gateway")
    installed.controller.ssh("systemctl", "kill", "--signal=KILL", *killed)
    wait_for(lambda: api.get("/api/v1/health").json()["status"], lambda status: status == "ok")


def guide(heading: str) -> list[list[str]]:
    """The commands that the guide to backups shows under a heading, block by block."""
    text = (Path(__file__).parents[3] / "docs/how-to/backup.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"(?ms)^```\n(.+?)\n```$", section)]


def follow(site: Site, commands: list[str]) -> None:
    """Do what the guide says, on the controller's host or beside it."""
    for command in commands:
        program, *words = shlex.split(command)
        if program == "ansible-playbook":
            site.play(Path(words[-1]).name)
        else:
            site.controller.ssh(command, user="deploy", timeout=120)


def test_a_new_host_takes_the_place_of_a_lost_one(installed: Site, test_id: int) -> None:
    """As the guide says, command by command: what came after the backup is gone, and the worker is back by itself."""
    saving, restoring = guide("A controller that the playbook set up")
    follow(installed, saving)
    [name] = re.findall(r"/var/backups/\S+", saving[0])
    file = installed.controller.root / name[1:]
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_bytes()
    late = {"name": "afterwards", "address": "192.0.2.1"}
    with installed.lab.inside(), installed.client() as client:
        assert client.post("/api/v1/destinations", json=late).status_code == 201
    worker = installed.worker.ssh("systemctl show --property=MainPID streamswarm-worker")

    installed.lab.replace(installed.controller)
    assert installed.controller.ssh("ls", "-d", *OURS, "2>/dev/null", "||", "true") == ""
    installed.play("controller.yml")
    file.write_bytes(kept)
    follow(installed, restoring)
    back = time.time()
    with installed.lab.inside(), installed.client() as client:
        found = client.get("/api/v1/destinations").json()["items"]
        assert "afterwards" not in [each["name"] for each in found]
        wait_for(
            lambda: [each["state"] for each in client.get("/api/v1/workers").json()["items"]],
            lambda states: states == ["connected"],
        )
        wait_for(lambda: client.get("/api/v1/health").json()["status"], lambda status: status == "ok")
        wait_for(lambda: due(client, test_id, since=back), lambda seconds: len(seconds) >= 3)
    assert installed.worker.ssh("systemctl show --property=MainPID streamswarm-worker") == worker


def test_another_run_with_a_newer_release_loses_no_result(
    installed: Site, api: httpx.Client, test_id: int, newer_bundle: Bundle
) -> None:
    """The worker comes back by itself, and nothing that was due while the services restarted is missing."""
    assert due(api, test_id)
    began = time.time()
    variable = f"streamswarm_controller_bundle={newer_bundle.path}"
    changed, _ = installed.play("controller.yml", "--extra-vars", variable)
    assert changed["host1"] > 0
    ended = time.time()
    assert ended - began < 400
    host = installed.controller
    assert (
        host.ssh("readlink", "/opt/streamswarm-controller/current").strip()
        == f"releases/{newer_bundle.version}"
    )
    assert len(host.ssh("ls", "/opt/streamswarm-controller/releases").split()) == 2
    running = [item for item in api.get("/api/v1/health").json()["processes"] if item["alive"]]
    assert {item["version"] for item in running} == {newer_bundle.version}
    expected = set(range(int(began) + 2, int(ended) - 2))
    wait_for(lambda: expected - set(due(api, test_id, since=began)), lambda left: left == set())
    came = due(api, test_id, since=began)
    assert len(came) == len(set(came))
