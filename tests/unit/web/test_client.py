"""The command line's client, against a small server that answers as told."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import certificates

from controller.cli.client import CA_FILE, Client, RefusedError, UnreachableError
from controller.errors import ConfigurationError, ConflictError, NotFoundError


class Server:
    """Answers one call after the other with what was laid down, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, str, str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                token = self.headers.get("Authorization", "")
                outer.asked.append((self.command, self.path, token, self.rfile.read(length)))
                status, headers, body = outer.answers.pop(0)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def lay(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
        """Lay an answer down."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {"Content-Type": kind, **named}, data))

    def problem(self, status: int, **body: Any) -> None:
        """Lay problem details down."""
        self.lay(
            status, {"title": "T", "status": status, **body}, "application/problem+json", Retry_After="0"
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port."""
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of it."""
    made = Client(server.url + "/", "ssw_x", through_proxies=False)
    yield made
    made.close()


def test_calls_carry_the_token_and_come_back_as_objects(server: Server, client: Client) -> None:
    """Bodies go out as JSON; an answer without a body is empty."""
    server.lay(200, {"a": 1})
    assert client.post("/tests", {"name": "x"}) == {"a": 1}
    server.lay(204, b"")
    client.delete("/tests/1")
    method, path, token, body = server.asked[0]
    assert (method, path, token, json.loads(body)) == ("POST", "/api/v1/tests", "Bearer ssw_x", {"name": "x"})


def test_lists_are_read_to_their_end(server: Server, client: Client) -> None:
    """The cursor of each page leads to the next, and the filters go with it."""
    server.lay(200, {"items": [{"id": 1}], "next_cursor": "abc"})
    server.lay(200, {"items": [{"id": 2}], "next_cursor": None})
    assert [item["id"] for item in client.items("/tests", kind="ping")] == [1, 2]
    assert [path for _, path, _, _ in server.asked] == [
        "/api/v1/tests?kind=ping",
        "/api/v1/tests?kind=ping&cursor=abc",
    ]


def test_problems_become_errors_in_the_controllers_words(server: Server, client: Client) -> None:
    """Classified by what to do about them; every fault of an input with its path."""
    server.problem(404, detail="there is no test 1", mend="list the tests")
    with pytest.raises(NotFoundError, match="there is no test 1\n  → list the tests"):
        client.get("/tests/1")
    server.problem(409, detail="taken")
    with pytest.raises(ConflictError, match="taken"):
        client.post("/tests", {})
    server.problem(422, detail="x", errors=[{"path": "spec.count", "message": "is too big"}])
    with pytest.raises(RefusedError, match=r"spec\.count: is too big"):
        client.post("/tests", {})
    server.problem(401, detail="x")
    with pytest.raises(RefusedError, match="does not accept the token"):
        client.get("/me")


def test_too_many_calls_are_waited_for_once(server: Server, client: Client) -> None:
    """Then the controller's refusal is told."""
    server.problem(429, detail="too many")
    server.lay(200, {"a": 1})
    assert client.get("/me") == {"a": 1}
    server.problem(429, detail="too many")
    server.problem(429, detail="too many")
    with pytest.raises(RefusedError, match="too many"):
        client.get("/me")


def test_whoever_is_not_the_api_is_told_apart(server: Server, client: Client) -> None:
    """Redirects are not followed with the token; other servers' answers are named as such."""
    server.lay(302, b"", Location="https://evil.example/")
    with pytest.raises(ConfigurationError, match=r"https://evil\.example/"):
        client.get("/me")
    server.lay(502, b"<html>", "text/html")
    with pytest.raises(RefusedError, match="is no StreamSwarm API"):
        client.get("/me")
    for body in (b"not json", b"[]"):
        server.lay(200, body)
        with pytest.raises(RefusedError):
            client.get("/me")
    assert len(server.asked) == 4


def test_nobody_there_is_said_with_the_address() -> None:
    """And what to start."""
    client = Client("http://127.0.0.1:1", "ssw_x", through_proxies=False)
    with pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:1 does not answer"):
        client.get("/me")
    client.close()


def test_the_environment_names_controller_and_token(tmp_path: Path) -> None:
    """Token by value or by file; half a configuration names the missing half; without any, this machine's."""
    file = tmp_path / "token"
    file.write_text("ssw_file\n")
    url = "https://mon.example.org/"
    made = Client.from_environment({"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN_FILE": str(file)})
    assert made.url == "https://mon.example.org"
    made.close()
    data = {"STREAMSWARM_DATA_DIR": str(tmp_path), "STREAMSWARM_WEB_LISTEN": "127.0.0.1:9"}
    for environment, words in (
        ({"STREAMSWARM_URL": url}, "but no token"),
        ({"STREAMSWARM_URL": "mon.example.org", "STREAMSWARM_TOKEN": "x"}, "not the address"),
        ({"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN": "a\nb"}, "characters that no token has"),
        ({"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN_FILE": str(tmp_path / "none")}, "cannot be read"),
        (data, "no controller has run on this machine"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Client.from_environment(environment)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "local.token").write_text(f"ssw_{'x' * 43}\n")
    # Where people reach it may be a proxy, whose certificate this machine does not know.
    for further in ({}, {"STREAMSWARM_WEB_URL": "https://mon.example.org"}):
        local = Client.from_environment(data | further)
        assert local.url == "http://127.0.0.1:9"
        local.close()


def test_what_is_no_token_of_the_data_folders_owner_is_never_sent(tmp_path: Path) -> None:
    """A link to another file, a pipe, other text, another's file: each is refused and none of it is shown."""
    data = {"STREAMSWARM_DATA_DIR": str(tmp_path / "data"), "STREAMSWARM_WEB_LISTEN": "127.0.0.1:9"}
    token = tmp_path / "data" / "secrets" / "local.token"
    token.parent.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text(f"ssw_{'s' * 43}\n")

    def refused() -> None:
        with pytest.raises(ConfigurationError, match=r"token") as caught:
            Client.from_environment(data)
        assert "sss" not in str(caught.value)
        token.unlink()

    token.symlink_to(secret)
    refused()
    os.mkfifo(token)
    refused()
    token.write_text("root:$y$hash:19000:0:99999:7:::\nsss")
    refused()
    if os.geteuid() == 0:
        token.write_text(f"ssw_{'s' * 43}\n")
        os.chown(tmp_path / "data", 65534, 65534)
        refused()


@pytest.fixture
def own_authority(server: Server, tmp_path: Path) -> Path:
    """The server speaks TLS, with a certificate of an authority that this system does not know; returns the authority's."""
    authority = certificates.issue("Our own", authority=True)
    shown = certificates.issue("monitor", authority, names=("127.0.0.1",))
    context = certificates.server_context(tmp_path, shown, authority)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    return certificates.write(tmp_path, authority)[0]


def test_an_authority_of_ones_own_is_named_by_a_variable(server: Server, own_authority: Path) -> None:
    """Without it the certificate is not believed, and the message says how it could be; another is not believed either."""
    environment = {"STREAMSWARM_URL": server.url, "STREAMSWARM_TOKEN": "ssw_x", "no_proxy": "*"}

    def ask(**more: str) -> dict[str, Any]:
        with contextlib.closing(Client.from_environment(environment | more)) as client:
            return client.get("/workers")

    with pytest.raises(ConfigurationError, match="cannot be verified: ") as told:
        ask()
    assert CA_FILE in told.value.mend
    assert "--ca-file" in told.value.mend
    server.lay(200, {"items": []})
    assert ask(**{CA_FILE: str(own_authority)}) == {"items": []}
    other = certificates.write(own_authority.parent, certificates.issue("Another", authority=True))[0]
    with pytest.raises(ConfigurationError, match="cannot be verified"):
        ask(**{CA_FILE: str(other)})


def test_a_file_of_authorities_that_is_none_is_told(server: Server, tmp_path: Path) -> None:
    """It is missing, or holds no certificate."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (tmp_path / "missing.pem", empty):
        environment = {"STREAMSWARM_URL": server.url, "STREAMSWARM_TOKEN": "ssw_x", CA_FILE: str(path)}
        with pytest.raises(ConfigurationError, match=f"names {path}, which cannot be used"):
            Client.from_environment(environment)
