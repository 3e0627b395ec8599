"""What the controller's role asks before it changes anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from controller import assets
from controller.fleet import ansible
from controller.programs import module_command

UPGRADE = {"id": 12, "kind": "upgrade", "by_keeper": True, "check": False}


@contextmanager
def _controller(operations: list[dict[str, Any]]) -> Iterator[int]:
    """Answer on a port what runs, to whom has the token."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == "Bearer ssw_own"
            assert self.path.startswith("/api/v1/operations?state=running&")
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"items": operations} if known else {}).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _play(folder: Path, port: int, **variables: object) -> str:
    """Run the role's look for operations on this machine; return what was said, and "passed" where it went on."""
    given = {
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "streamswarm_controller_current": {"stat": {"exists": True}},
        "streamswarm_controller_data_dir": str(folder),
        "streamswarm_controller_web_listen": f"127.0.0.1:{port}",
        **variables,
    }
    role = {"ansible.builtin.import_role": {"name": "controller", "tasks_from": "operations"}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": given}
    (folder / "play.yml").write_text(
        json.dumps([play | {"tasks": [role, {"ansible.builtin.debug": {"msg": "passed"}}]}])
    )
    with ansible.private_folder() as private:
        done = subprocess.run(
            [*module_command("ansible", "playbook"), "-i", "localhost,", str(folder / "play.yml")],
            env={
                **os.environ,
                **ansible.environment(private),
                "ANSIBLE_ROLES_PATH": str(assets.playbooks() / "roles"),
                "no_proxy": "*",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode == 0) == ('"msg": "passed"' in done.stdout), done.stdout + done.stderr
    assert "ssw_own" not in done.stdout
    return done.stdout


@pytest.fixture(autouse=True)
def token(tmp_path: Path) -> Path:
    """The controller's own."""
    path = tmp_path / "secrets/local.token"
    path.parent.mkdir()
    path.write_text("ssw_own\n")
    return path


def test_nothing_is_changed_while_a_keeper_changes_hosts(tmp_path: Path) -> None:
    """The operation is named, with what to do."""
    with _controller([UPGRADE]) as port:
        said = _play(tmp_path, port)
    assert "passed" not in said
    assert "operation 12 (upgrade). Wait for its end, or cancel it" in said, said


@pytest.mark.parametrize(
    ("operations", "variables"),
    [
        ([], {}),
        ([UPGRADE], {"streamswarm_controller_interrupt": True}),
        ([UPGRADE | {"check": True}, UPGRADE | {"by_keeper": False}, UPGRADE | {"kind": "verify"}], {}),
        ([UPGRADE], {"streamswarm_controller_web_listen": "127.0.0.1:9"}),
        ([UPGRADE], {"streamswarm_controller_current": {"stat": {"exists": False}}}),
    ],
    ids=["nothing", "asked for", "changes nothing", "does not answer", "first run"],
)
def test_it_goes_on_otherwise(
    tmp_path: Path, operations: list[dict[str, Any]], variables: dict[str, object]
) -> None:
    """Where nothing would be broken off, or that is meant, or nobody can tell."""
    with _controller(operations) as port:
        assert "passed" in _play(tmp_path, port, **variables)


def test_a_controller_that_was_never_finished_is_not_asked(tmp_path: Path, token: Path) -> None:
    """Its first run broke off before there was a token."""
    token.unlink()
    with _controller([UPGRADE]) as port:
        assert "passed" in _play(tmp_path, port)
