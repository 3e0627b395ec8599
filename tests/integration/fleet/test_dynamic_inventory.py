"""The inventory plug-in: `ansible-inventory` itself against a dashboard that serves."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.certificates import issue
from support.dashboard import Dashboard, dashboard, serving
from support.surroundings import clean_environment, free_port

from controller import assets
from controller.fleet.inventory import load_inventory
from controller.settings import Settings
from web import create_app

_ROWS = """
INSERT INTO processes (id, role, name, host_name, pid, version, heartbeat_at) OVERRIDING SYSTEM VALUE
VALUES (1000, 'gateway', 'g', 'here', 1, '1', now() + interval '1 hour');
INSERT INTO workers (name, host_name, site, labels, groups, version, facts, gateway_id, enrolled_at, connected_at,
    last_seen_at)
VALUES ('Berlin', 'edge-berlin-1', 'berlin', '{"uplink": "fibre"}', '["berlin", "workers"]', '1.2.0+ab',
        '{"addresses": ["192.0.2.11"], "architecture": "x86_64", "os": "{{ 7 * 6 }}"}', 1000, now(), now(),
        '2030-01-31T08:00:00Z'),
       ('Oslo', 'edge-oslo-1', '', '{}', '["workers"]', '', '{"addresses": ["192.0.2.21", "2001:db8::21"]}',
        NULL, now(), now(), NULL),
       ('Fresh', 'fresh', '', '{}', '[]', '', '{}', NULL, NULL, NULL, NULL)
"""


@pytest.fixture
def workers(engine: Engine) -> None:
    """One worker that is connected, one that is not, and one that has never enrolled."""
    with engine.begin() as connection:
        connection.execute(text(_ROWS.replace(":", r"\:")))


@pytest.fixture
def served(settings: Settings, workers: None, tmp_path: Path) -> Iterator[Dashboard]:
    """The dashboard, as a process."""
    with dashboard(settings, tmp_path / "log") as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that asks for the plug-in."""
    path = tmp_path / "streamswarm.yml"
    path.write_text("plugin: streamswarm\n")
    return path


def _ansible_inventory(source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call it as a user does who stands in the checkout."""
    program = Path(sys.executable).with_name("ansible-inventory")
    return subprocess.run(
        [program, "-i", source, "--list", "-vvv"],
        env=clean_environment(
            **environment,
            LC_ALL="C.UTF-8",
            ANSIBLE_HOME=str(source.parent / "ansible"),
            ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="True",
            ANSIBLE_NOCOLOR="1",
        ),
        cwd=assets.checkout(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _listed(source: Path, **environment: str) -> dict[str, Any]:
    done = _ansible_inventory(source, **environment)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{\n") :], object_hook=_unmarked)
    return answer


def _unmarked(value: dict[str, Any]) -> Any:
    """Take away Ansible's mark of what is no template."""
    if value.keys() == {"__ansible_unsafe"}:
        return value["__ansible_unsafe"]
    return value


def test_workers_are_hosts_with_variables_and_groups(served: Dashboard, source: Path) -> None:
    """`ansible-inventory --list` shows what the controller knows, and no secret."""
    listed = _listed(source, **served.environment)
    hosts = listed["_meta"]["hostvars"]
    assert set(hosts) == {"edge-berlin-1", "edge-oslo-1", "fresh"}
    berlin = hosts["edge-berlin-1"]
    assert berlin["streamswarm_site"] == "berlin"
    assert berlin["streamswarm_labels"] == {"uplink": "fibre"}
    assert berlin["streamswarm_groups"] == ["berlin", "workers"]
    assert berlin["streamswarm_version"] == "1.2.0+ab"
    assert (berlin["streamswarm_state"], berlin["streamswarm_status"]) == ("connected", "online")
    assert berlin["streamswarm_last_seen"] == "2030-01-31T08:00:00Z"
    assert berlin["streamswarm_address"] == "192.0.2.11"
    assert berlin["streamswarm_worker_name"] == "Berlin"
    assert hosts["edge-oslo-1"]["streamswarm_last_seen"] is None
    assert hosts["edge-oslo-1"]["streamswarm_addresses"] == ["192.0.2.21", "2001:db8::21"]
    assert "streamswarm_address" not in hosts["edge-oslo-1"], "which of two is not known"
    groups = {name: group.get("hosts") for name, group in listed.items() if name not in ("_meta", "all")}
    assert groups == {
        "berlin": ["edge-berlin-1"],
        "workers": ["edge-berlin-1", "edge-oslo-1"],
        "online": ["edge-berlin-1"],
        "offline": ["edge-oslo-1"],
        "pending": ["fresh"],
        "site_berlin": ["edge-berlin-1"],
        "version_1_2_0_ab": ["edge-berlin-1"],
        "label_uplink_fibre": ["edge-berlin-1"],
    }


def test_the_token_is_in_no_output(served: Dashboard, source: Path) -> None:
    """Neither variables nor what `-vvv` says have it, whether it comes by file or by variable, or is wrong."""
    token = served.token_file.read_text().strip()
    by_variable = {**served.environment, "STREAMSWARM_TOKEN": token}
    wrong = {**served.environment, "STREAMSWARM_TOKEN": "ssw_wrong-secret"}
    for environment, code in ((served.environment, 0), (by_variable, 0), (wrong, 1)):
        done = _ansible_inventory(source, **environment)
        assert (done.returncode == 0) == (code == 0), done.stderr
        assert token not in done.stdout + done.stderr
        assert "wrong-secret" not in done.stdout + done.stderr
        assert "edge-berlin-1" in done.stdout or code


def test_what_workers_tell_is_never_a_template(served: Dashboard, source: Path) -> None:
    """A playbook that prints a fact prints it as the host said it."""
    program = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [program, "-i", source, "edge-berlin-1", "-c", "local", "-m", "debug", "-a", "msg={{ streamswarm_facts.os }}"],
        env=clean_environment(
            **served.environment, LC_ALL="C.UTF-8", ANSIBLE_HOME=str(source.parent), ANSIBLE_NOCOLOR="1"
        ),
        cwd=assets.checkout(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{{ 7 * 6 }}" in done.stdout
    assert "42" not in done.stdout


def test_what_a_worker_tells_is_of_its_form_and_no_template(
    engine: Engine, served: Dashboard, source: Path
) -> None:
    """Addresses, versions and texts as one in other hands tells them, kept by a controller that did not look."""
    facts = {
        "addresses": ["-oProxyCommand=touch /tmp/x", "fe80::1%{{ 7 * 6 }}", "192.0.2.31", "host"],
        "os": "a\x1b[2J{{ 7 * 6 }}",
    }
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO workers (name, host_name, version, facts, enrolled_at) "
                "VALUES ('Evil', 'evil', '{{ 7 * 6 }}', cast(:facts AS jsonb), now())"
            ),
            {"facts": json.dumps(facts)},
        )
    source.write_text(
        "plugin: streamswarm\ncompose:\n  told: streamswarm_addresses | first\n  of: streamswarm_facts.os\n"
    )
    listed = _listed(source, **served.environment)
    evil = listed["_meta"]["hostvars"]["evil"]
    assert evil["streamswarm_addresses"] == evil["streamswarm_facts"]["addresses"] == ["192.0.2.31"]
    assert (evil["told"], evil["streamswarm_address"]) == ("192.0.2.31", "192.0.2.31")
    assert evil["streamswarm_version"] == ""
    assert not [name for name in listed if name.startswith("version_") and "evil" in listed[name]["hosts"]]
    assert evil["streamswarm_facts"]["os"] == evil["of"] == "a�[2J{{ 7 * 6 }}"


def test_options_of_ansibles_own_make_more_groups_and_variables(served: Dashboard, source: Path) -> None:
    """`compose`, `groups` and `keyed_groups` work on the variables; `url` may stand in the file."""
    environment = served.environment
    url = environment.pop("STREAMSWARM_URL")
    source.write_text(
        f"""\
plugin: streamswarm
url: {url}
strict: false
compose:
  first_address: streamswarm_addresses | first
groups:
  silent: streamswarm_state == 'offline'
keyed_groups:
  - key: streamswarm_facts.architecture
    prefix: architecture
"""
    )
    listed = _listed(source, **environment)
    assert listed["_meta"]["hostvars"]["edge-oslo-1"]["first_address"] == "192.0.2.21"
    assert listed["silent"]["hosts"] == ["edge-oslo-1"]
    assert listed["architecture_x86_64"]["hosts"] == ["edge-berlin-1"]


@pytest.mark.parametrize("by_variable", [False, True])
def test_streamswarms_own_commands_read_it_too(
    served: Dashboard, source: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    """Site, labels and groups come back as they were given, from any folder, with the token in a file or a variable."""
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STREAMSWARM_TOKEN", raising=False)
    if by_variable:
        monkeypatch.setenv("STREAMSWARM_TOKEN", served.token_file.read_text())
        monkeypatch.delenv("STREAMSWARM_TOKEN_FILE")
    monkeypatch.chdir(source.parent)
    host = load_inventory([source])[0]
    assert (host.name, host.site, host.measured_address) == ("edge-berlin-1", "berlin", "192.0.2.11")
    assert host.labels == {"uplink": "fibre"}
    assert {"berlin", "workers", "online"} <= {*host.groups}


def test_more_workers_than_a_page_has_all_come(engine: Engine, served: Dashboard, source: Path) -> None:
    """Lists are read to their end."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO workers (name, host_name, enrolled_at) "
                "SELECT 'w' || n, 'w' || n, now() FROM generate_series(1, 700) n"
            )
        )
    assert len(_listed(source, **served.environment)["_meta"]["hostvars"]) == 703


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"STREAMSWARM_URL": ""}, "url"),
        ({"STREAMSWARM_URL": "ftp://example.org"}, "must begin with https:// or http://"),
        ({"STREAMSWARM_TOKEN_FILE": ""}, "make one on the dashboard and set STREAMSWARM_TOKEN"),
        ({"STREAMSWARM_TOKEN_FILE": "/nowhere/token"}, "/nowhere/token, which cannot be read"),
        ({"STREAMSWARM_TOKEN": "ssw_" + "x" * 43}, "does not accept the token"),
        ({"STREAMSWARM_TOKEN": "two words"}, "characters that no token has"),
        ({"STREAMSWARM_URL": "http://127.0.0.1:{closed}"}, "could not be asked for its workers"),
        ({"STREAMSWARM_URL": "{url}/login/"}, "set `url` to the address of the dashboard"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(
    served: Dashboard, source: Path, environment: dict[str, str], says: str
) -> None:
    """Each ends with an error that says what to do; nothing passes as an empty inventory."""
    filled = {
        name: value.format(url=served.url, closed=free_port()) if "{" in value else value
        for name, value in environment.items()
    }
    done = _ansible_inventory(source, **{**served.environment, **filled})
    assert done.returncode != 0
    assert says in " ".join(done.stderr.replace("\n", " ").split())


def test_the_dashboards_certificate_is_verified(settings: Settings, workers: None, source: Path) -> None:
    """Over HTTPS only a certificate of an authority that is known is believed; the file may name one."""
    folder = source.parent
    authority = issue("authority", authority=True, days=3650)
    issued = issue("127.0.0.1", authority, names=("127.0.0.1",), days=3650)
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "server.pem").write_bytes(issued.pem + issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with dashboard(settings, folder / "log") as plain:
        app = create_app(settings)
        with serving(app, context) as url:
            environment = {**plain.environment, "STREAMSWARM_URL": url}
            refused = _ansible_inventory(source, **environment)
            assert refused.returncode != 0
            assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
            source.write_text(f"plugin: streamswarm\nca_file: {folder / 'ca.pem'}\n")
            assert "edge-berlin-1" in _listed(source, **environment)["_meta"]["hostvars"]
            source.write_text("plugin: streamswarm\nca_file: /nowhere/ca.pem\n")
            missing = _ansible_inventory(source, **environment)
            assert "/nowhere/ca.pem, which cannot be used" in " ".join(missing.stderr.split())
        app.extensions["streamswarm.engine"].dispose()
