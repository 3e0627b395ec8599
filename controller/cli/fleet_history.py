"""Lets the controller write down what a command does to hosts, so that its history is whole.

The command works without: where the controller is away, or the token does not suffice, it says so and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict

from controller.cli.client import Client
from controller.errors import ConflictError, StreamSwarmError
from controller.fleet.events import TaskEvent
from controller.fleet.inventory import load_inventory
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.recording import Recording
from controller.store.operation_notes import Figure, HostNote, Standing, TaskNote
from controller.store.operation_words import LONGEST_LIMIT

_GROUP = "workers"


class History:
    """One command's entry in the controller's history."""

    def __init__(
        self,
        kind: str,
        request: PlaybookRequest,
        client: Client | None = None,
        *,
        insists: bool = False,
        part_of: int | None = None,
    ) -> None:
        """`insists` runs it, without an entry, also where another operation works on one of the hosts.

        `part_of` is the number of the operation that it belongs to.
        """
        #: Its number; None where it is not written down.
        self.number: int | None = None
        self._client = client
        self._insists = insists
        self._part_of = part_of
        self._kind = kind
        self._request = request
        self._recording: Recording | None = None
        self._refused = ""

    @property
    def trouble(self) -> str:
        """Why it is not written down, or not to its end; empty when all is well."""
        return self._refused or (self._recording.trouble if self._recording else "")

    def _begin(self, stack: ExitStack) -> Recording | None:
        """Write down that it begins; None where that is not possible. A client made for it is closed with `stack`.

        Raises ConflictError when another operation works on one of the hosts, and ConfigurationError for an inventory
        that cannot be read.
        """
        request = self._request
        known = load_inventory(request.inventories, limit=request.limit)
        hosts = [host.name for host in known if _GROUP in host.groups]
        # Steps of an upgrade name each of their hosts.
        limit = request.limit if len(request.limit) <= LONGEST_LIMIT else f"{len(hosts)} hosts"
        try:
            client = self._client or stack.enter_context(closing(Client.from_environment()))
            made = client.post(
                "/operations/begun",
                {
                    "kind": self._kind,
                    "limit": limit,
                    "check": request.check,
                    "forks": request.forks,
                    "hosts": hosts,
                    "part_of": self._part_of,
                },
            )
        except StreamSwarmError as error:
            if isinstance(error, ConflictError) and not self._insists:
                raise
            self._refused = error.message
            return None
        self.number = made["id"]
        self._recording = Recording(RestLedger(client, made["id"], made["version"]))
        return self._recording

    def follow(
        self,
        operation: Callable[..., Recap],
        *,
        on_event: Callable[[TaskEvent], None],
        cancelled: Callable[[], bool],
    ) -> Recap:
        """Run an operation to its end, written down as far as that is possible; the controller may end it."""
        with ExitStack() as stack:
            recording = self._begin(stack)
            if recording is None:
                return operation(on_event=on_event, cancelled=cancelled)
            return recording.follow(operation, on_event=on_event, cancelled=cancelled)


class RestLedger:
    """Writes an operation down over the REST API."""

    def __init__(self, client: Client, operation_id: int, version: int) -> None:
        self._client = client
        self._path = f"/operations/{operation_id}"
        self._version = version

    def record(self, notes: Sequence[TaskNote], outcomes: Sequence[HostNote]) -> Standing:
        """Send what happened."""
        try:
            answer = self._client.post(
                f"{self._path}/events",
                {
                    "version": self._version,
                    "events": [
                        {
                            "host": note.host,
                            "task": note.task,
                            "state": note.state,
                            "message": note.message,
                            "at": note.at.isoformat(),
                        }
                        for note in notes
                    ],
                    "hosts": [
                        {
                            "host": note.host,
                            "state": note.state,
                            "changed": note.changed,
                            "message": note.message,
                        }
                        for note in outcomes
                    ],
                },
            )
        except ConflictError:
            return Standing.LOST
        return Standing(answer["standing"])

    def finish(self, state: str, *, error: str, mend: str, figures: Sequence[Figure] = ()) -> None:
        """Send how it ended."""
        body: dict[str, object] = {
            "version": self._version,
            "state": state,
            "error": error,
            "mend": mend,
        }
        if figures:
            body["figures"] = [asdict(figure) for figure in figures]
        self._client.post(f"{self._path}/finish", body)
