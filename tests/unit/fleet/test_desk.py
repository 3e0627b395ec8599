"""The enrolment desk and the look-up plug-in that asks it, over a real socket; the plug-in over real HTTP too."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleError
from support import certificates, programs

from controller.errors import StreamSwarmError
from controller.fleet.ansible import private_folder
from controller.fleet.desk import Grant, Reach, open_desk
from controller.fleet.inventory import InventoryHost

PLUGIN = Path(__file__).parents[3] / "playbooks/roles/worker/lookup_plugins/streamswarm_enrolment.py"
HOST = InventoryHost(name="a", address="192.0.2.1", measured_address="192.0.2.1")
REACH = {"ca_pem": "PEM", "enrolment": "192.0.2.9:7444", "gateways": ["192.0.2.9:7443"]}
ANSWER = {**REACH, "token": "t0ken"}


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The look-up plug-in as a module."""
    return programs.load(PLUGIN)


@pytest.fixture
def desk() -> Iterator[Callable[[], list[str]]]:
    """An open desk for host a; returns the names that were asked for."""
    asked: list[str] = []

    def grant_for(host: InventoryHost) -> Grant:
        asked.append(host.name)
        return Grant.from_answer(ANSWER)

    with private_folder() as folder, pytest.MonkeyPatch.context() as patch:
        path = folder / "desk"
        patch.setenv("STREAMSWARM_ENROLMENT_SOCKET", str(path))
        with open_desk(path, hosts=[HOST], grant_for=grant_for, ask_reach=lambda: Reach.from_answer(REACH)):
            assert path.stat().st_mode & 0o077 == 0
            yield lambda: asked
    assert not folder.exists()


def test_the_desk_answers_for_its_hosts(desk: Callable[[], list[str]], plugin: Any) -> None:
    """The plug-in gets the grant for a host of the run, fresh at each look-up."""
    assert plugin.grant({"host": "a"}) == ANSWER
    assert plugin.grant({"host": "a"}) == ANSWER
    assert desk() == ["a", "a"]


def test_addresses_alone_cost_no_token(desk: Callable[[], list[str]], plugin: Any) -> None:
    """What a host that is enrolled needs is told without a grant."""
    assert plugin.grant({"host": "a"}, with_token=False) == REACH
    assert desk() == []


def test_the_desk_knows_no_other_hosts(desk: Callable[[], list[str]], plugin: Any) -> None:
    """No token is made for a host that the run is not about."""
    with pytest.raises(AnsibleError, match="not about that host"):
        plugin.grant({"host": "b"})
    assert desk() == []


@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b'"a"\n', b"{\n", b'{"name": "a"}\n', b'{"host": "a"}\n', b"x" * 9000 + b"\n"]
)
def test_the_desk_survives_nonsense(desk: Callable[[], list[str]], plugin: Any, line: bytes) -> None:
    """A request that is none is answered as such, and the desk goes on."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(os.environ["STREAMSWARM_ENROLMENT_SOCKET"])
        connection.sendall(line)
        answer = json.loads(connection.makefile().readline())
    assert "not" in answer["error"]
    assert plugin.grant({"host": "a"}) == ANSWER


def test_the_controllers_refusal_reaches_the_playbook(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the controller says against a token is what the task fails with."""

    def refuse(host: InventoryHost) -> Grant:
        raise StreamSwarmError("the database is down", mend="start it")

    with private_folder() as folder, open_desk(folder / "desk", hosts=[HOST], grant_for=refuse):
        monkeypatch.setenv("STREAMSWARM_ENROLMENT_SOCKET", str(folder / "desk"))
        with pytest.raises(AnsibleError, match="the database is down"):
            plugin.grant({"host": "a"})


@pytest.mark.parametrize(
    "answer",
    [
        {},
        ANSWER | {"gateways": []},
        ANSWER | {"gateways": "x"},
        ANSWER | {"token": ""},
        ANSWER | {"ca_pem": 1},
    ],
)
def test_an_incomplete_answer_is_no_grant(answer: dict[str, Any]) -> None:
    """A grant lacks nothing."""
    with pytest.raises(StreamSwarmError, match="enrolment"):
        Grant.from_answer(answer)


def test_a_grant_does_not_show_its_token() -> None:
    """Logs and tracebacks that show a grant do not show the secret."""
    assert "t0ken" not in repr(Grant.from_answer(ANSWER))


class _Api(BaseHTTPRequestHandler):
    """Answers like the REST API, as the path or the token asks for."""

    def do_GET(self) -> None:
        """Tell the addresses."""
        self._say(200, REACH | {"seen": [self.path, self.headers["Authorization"]]})

    def do_POST(self) -> None:
        """Give a token."""
        answer: dict[str, Any]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer good":
            status, answer = 401, {"title": "Unauthorized", "detail": "the token is not known"}
        elif body["host"] == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            return
        else:
            status, answer = 201, ANSWER | {"seen": [self.path, body]}
        self._say(status, answer)

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server like the controller's, named in the environment."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("STREAMSWARM_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("STREAMSWARM_TOKEN", "good")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("api")
def test_plain_playbooks_ask_the_rest_api(plugin: Any) -> None:
    """Without a desk the plug-in posts the host with its site, labels and groups, under the API token."""
    about = {"host": "a", "site": "oslo", "labels": {}, "groups": ["workers"]}
    assert plugin.grant(about)["seen"] == ["/api/v1/enrolment-tokens", about]


@pytest.mark.usefixtures("api")
def test_plain_playbooks_ask_for_addresses_without_a_token(plugin: Any) -> None:
    """Asking how workers reach the controller changes nothing there."""
    assert plugin.grant({"host": "a"}, with_token=False)["seen"] == ["/api/v1/enrolment", "Bearer good"]


@pytest.mark.usefixtures("api")
def test_a_refused_api_token_is_told(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own words are in the error; the token is not."""
    monkeypatch.setenv("STREAMSWARM_TOKEN", "s3cret")
    with pytest.raises(AnsibleError, match="401 the token is not known") as caught:
        plugin.grant({"host": "a"})
    assert "s3cret" not in str(caught.value)


def test_plain_playbooks_believe_the_authority_that_is_named(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that the system does not know; without it nothing is sent."""
    authority = certificates.issue("Our own", authority=True)
    shown = certificates.issue("monitor", authority, names=("127.0.0.1",))
    monkeypatch.setenv("STREAMSWARM_TOKEN", "good")
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        context = certificates.server_context(tmp_path, shown, authority)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("STREAMSWARM_URL", f"https://127.0.0.1:{server.server_port}")
        with pytest.raises(AnsibleError, match="certificate verify failed"):
            plugin.grant({"host": "a"})
        monkeypatch.setenv("STREAMSWARM_CA_FILE", str(certificates.write(tmp_path, authority)[0]))
        assert plugin.grant({"host": "a"})["seen"][0] == "/api/v1/enrolment-tokens"
        server.shutdown()
        thread.join()
    monkeypatch.setenv("STREAMSWARM_CA_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(AnsibleError, match="which cannot be used"):
        plugin.grant({"host": "a"})


@pytest.mark.usefixtures("api")
def test_a_redirect_is_not_followed(plugin: Any) -> None:
    """The API token goes to the named controller only."""
    with pytest.raises(AnsibleError, match="302"):
        plugin.grant({"host": "elsewhere"})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "STREAMSWARM_URL"),
        ("file:///etc/passwd", "must begin with"),
        ("http://127.0.0.1:9", "could not be asked"),
    ],
)
def test_a_missing_or_wrong_address_is_told(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    """The error names the variable that is missing or wrong, or the address that does not answer."""
    monkeypatch.setenv("STREAMSWARM_URL", url)
    monkeypatch.setenv("STREAMSWARM_TOKEN", "good")
    with pytest.raises(AnsibleError, match=message):
        plugin.grant({"host": "a"})
