"""The table of commands: what help says of each and where it is found when it is called."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

#: Belongs to the extra `controller`; without it, none of the controller's side is there.
_SIGN_OF_THE_CONTROLLER = "sqlalchemy"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A command as the table knows it. Its module is not imported until it is called: most are heavy."""

    #: What `streamswarm --help` says of it: the first sentence of its own help.
    summary: str
    #: Module and attribute that hold it.
    module: str
    attribute: str
    #: Works in the base installation too; the others need the extra `controller`.
    base: bool

    @property
    def installed(self) -> bool:
        """Whether what the command needs is there."""
        return self.base or importlib.util.find_spec(_SIGN_OF_THE_CONTROLLER) is not None


def _of_base(module: str, attribute: str, summary: str) -> Entry:
    return Entry(summary=summary, module=f"controller.cli.{module}", attribute=attribute, base=True)


def _of_controller(module: str, attribute: str, summary: str) -> Entry:
    return Entry(summary=summary, module=f"controller.cli.{module}", attribute=attribute, base=False)


#: In the order in which help shows them.
COMMANDS = {
    "run": _of_base("run", "run", "Run the tests of suites once from this machine."),
    "plan": _of_base("suites", "plan", "Show what `apply` would change on the controller; changes nothing."),
    "apply": _of_base("suites", "apply", "Make the controller's tests and destinations as the suite says."),
    "export": _of_base("suites", "export", "Write the controller's tests as a suite."),
    "schema": _of_base("suites", "schema", "Print the JSON Schema of suites, for editors."),
    "up": _of_controller(
        "local",
        "up",
        "Run everything on this machine: database, gateway, keeper, dashboard, one worker, example tests.",
    ),
    "down": _of_controller("local", "down", "Stop what `streamswarm up` started on this machine."),
    "status": _of_controller("local", "status", "Show whether everything is healthy."),
    "doctor": _of_controller(
        "doctor", "doctor", "Tell what is wrong with this controller and how to mend it."
    ),
    "backup": _of_controller(
        "backup", "backup", "Write database, certificate authority, secrets and settings into one file."
    ),
    "restore": _of_controller("backup", "restore", "Restore a backup into an empty installation."),
    "gateway": _of_controller("processes", "gateway", "Serve workers: sessions, ingest, enrolment."),
    "keeper": _of_controller("processes", "keeper", "Run background tasks: planning, partitions, upkeep."),
    "web": _of_controller("processes", "web", "Serve the dashboard and the REST API."),
    "db": _of_controller("db", "db", "Look after the database's schema."),
    "user": _of_controller("users", "user", "Look after users."),
    "token": _of_controller("tokens", "token", "Look after API tokens."),
    "ca": _of_controller(
        "ca", "ca", "Look after the certificates by which workers and gateways know each other."
    ),
    "report": _of_base("reports", "report", "Have a report on tests made, and fetch the PDF."),
    "results": _of_base("reports", "results", "Look after results."),
    "fleet": _of_controller("fleet", "fleet", "Hosts of the inventory and the workers on them."),
}
