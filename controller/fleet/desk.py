"""The enrolment desk: hands tokens to the playbook while it runs, one host at a time, when the host needs one.

The role's look-up plug-in asks over a socket in the run's private folder. So a token is made only for a host that
has no identity, is as young as can be when it arrives there, and never stands in an argument list, a variable of
the environment or a file on this machine.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from controller.errors import StreamSwarmError
from controller.fleet.inventory import InventoryHost

#: The environment variable that names the socket to the look-up plug-in.
SOCKET_VARIABLE = "STREAMSWARM_ENROLMENT_SOCKET"
#: Longest request, bytes.
LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How workers reach the controller, and whom they trust."""

    #: Certificates of the controller's CA, PEM.
    ca_pem: str
    #: Where workers enrol, `host:port`.
    enrolment: str
    #: Where workers hold their sessions, `host:port` each.
    gateways: tuple[str, ...]

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> Self:
        """Return what the REST API's answer says; raises StreamSwarmError when it is incomplete."""
        try:
            values = {field.name: answer[field.name] for field in fields(cls)}
        except KeyError as error:
            raise StreamSwarmError(
                f"the controller's answer about enrolment lacks {error}",
                mend="use the same release on both sides",
            ) from error
        gateways = values.pop("gateways")
        texts = (*values.values(), *(gateways if isinstance(gateways, list) else ()))
        if (
            not isinstance(gateways, list)
            or not gateways
            or not all(isinstance(text, str) and text for text in texts)
        ):
            raise StreamSwarmError(
                "the controller's answer about enrolment is incomplete",
                mend="use the same release on both sides",
            )
        return cls(**values, gateways=tuple(gateways))

    def as_plain(self) -> dict[str, Any]:
        """Return it as the look-up plug-in hands it to the role."""
        return {"ca_pem": self.ca_pem, "enrolment": self.enrolment, "gateways": list(self.gateways)}


@dataclass(frozen=True, kw_only=True, repr=False)
class Grant(Reach):
    """What one host needs to enrol."""

    #: The one-time token; a secret.
    token: str

    def __repr__(self) -> str:
        return f"Grant(enrolment={self.enrolment!r}, gateways={self.gateways!r}, token=…)"


#: Gets a grant for a host of the inventory: over REST, or in the controller's own process.
GrantFor = Callable[[InventoryHost], Grant]
#: Asks how workers reach the controller, in the same way; makes no token.
AskReach = Callable[[], Reach]


@contextmanager
def open_desk(
    path: Path,
    *,
    hosts: Collection[InventoryHost],
    grant_for: GrantFor,
    ask_reach: AskReach | None = None,
) -> Iterator[None]:
    """Answer at the socket `path` for these hosts until the block ends."""
    known = {host.name: host for host in hosts}

    def answered(line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            host, with_token = known.get(str(request["host"])), request["token"] is True
        except (ValueError, KeyError, TypeError):
            return {"error": "the request is not understood"}
        if host is None:
            return {"error": "this run is not about that host"}
        try:
            if not with_token:
                return (ask_reach() if ask_reach else grant_for(host)).as_plain()
            grant = grant_for(host)
        except StreamSwarmError as error:
            return {"error": str(error)}
        return {**grant.as_plain(), "token": grant.token}

    class Handler(socketserver.StreamRequestHandler):
        timeout = 30

        def handle(self) -> None:
            self.wfile.write(json.dumps(answered(self.rfile.readline(LONGEST))).encode() + b"\n")

    with _Desk(str(path), Handler) as desk:
        path.chmod(0o600)
        thread = threading.Thread(
            target=desk.serve_forever, kwargs={"poll_interval": 0.1}, name="enrolment-desk"
        )
        thread.start()
        try:
            yield
        finally:
            desk.shutdown()
            thread.join()


class _Desk(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
