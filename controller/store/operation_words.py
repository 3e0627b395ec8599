"""What an operation on the fleet is made of: its kinds, their options, and what may be asked of a keeper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from controller.checking import Checker
from streamswarm.targets import shown

#: Every kind of operation, by the name of its command; `judge` is what an upgrade found its hosts to measure.
KINDS = (
    "provision",
    "upgrade",
    "judge",
    "rollback",
    "verify",
    "restart",
    "drain",
    "resume",
    "rotate",
    "remove",
)
#: Kinds that a keeper runs, each with its options. With `one_host` the limit is the name of a host, whatever else has it.
ASKED: Mapping[str, tuple[str, ...]] = {
    "provision": (),
    "upgrade": ("release", "canary", "batch", "patience", "accept_inconclusive"),
    "verify": (),
    "restart": ("one_host", "force"),
    "drain": ("one_host", "wait"),
    "resume": ("one_host",),
    "rotate": (),
    "remove": ("on_controller", "keep_data", "discard", "wait"),
}
#: Options of an upgrade where none are given: hosts that go first, hosts in each further step, seconds of patience.
CANARY, BATCH, PATIENCE_S = 1, 10, 900
#: Kinds that change nothing on a host.
HARMLESS = ("judge", "verify")
#: Kinds that a keeper brings to their end once they have begun: they undo what went wrong.
NEVER_CANCELLED = ("rollback",)
#: Kinds that want the hosts named: they were hardly ever meant for all.
NAMED = ("restart", "drain", "resume")
RETIREMENTS = ("revoke", "delete", "delete-with-data", "keep")
FIELDS = ("kind", "limit", "check", "forks", "options")
MOST_FORKS = 200
LONGEST_LIMIT = 1000
MOST_IN_STEP = 10_000
_LONGEST_WAIT_S = 86_400
#: Options of an upgrade that are numbers, with their bounds and units.
_UPGRADE_NUMBERS = (
    ("canary", 0, MOST_IN_STEP, "hosts"),
    ("batch", 1, MOST_IN_STEP, "hosts"),
    ("patience", 0, 86_400, "seconds"),
)
_DEFAULT_FORKS = 10
#: A host pattern of Ansible's without `@`, which reads a file, and `~`, which begins an expression.
_PATTERN = re.compile(r"[A-Za-z0-9_.*!&][A-Za-z0-9_.*!&:,\[\]-]*\Z")
#: The version of a bundle that lies ready. A wheel's path is not taken: it would be a file of the keeper's machine.
_RELEASE = re.compile(r"[0-9][0-9A-Za-z.+]{0,99}\Z")


def read_asked(checker: Checker) -> dict[str, Any]:
    """Return the parameters of an operation that a keeper is to run."""
    kind = checker.choice("kind", tuple(ASKED))
    limit = checker.text("limit", longest=LONGEST_LIMIT)
    if limit and not _PATTERN.match(limit):
        checker.add("limit", "must be names of hosts or groups with `:`, `,`, `!`, `&` or `*` between them")
    if kind in NAMED and not limit:
        checker.add("limit", "must name hosts or groups; `workers` names them all")
    check = checker.flag("check") if checker.given("check") else False
    if check and kind == "verify":
        checker.add("check", "verifying changes nothing anyhow")
    if check and kind == "rotate":
        checker.add("check", "a rotation can only be done")
    return {
        "limit": limit,
        "check": check,
        "forks": _forks(checker),
        "options": _options(checker, kind),
    }


def read_told(checker: Checker) -> dict[str, Any]:
    """Return the parameters of an operation that runs elsewhere and is only written down."""
    checker.choice("kind", KINDS)
    return {
        "limit": checker.text("limit", longest=LONGEST_LIMIT),
        "check": checker.flag("check") if checker.given("check") else False,
        "forks": _forks(checker),
        "options": {},
    }


def _forks(checker: Checker) -> int:
    number = checker.number("forks", smallest=1, largest=MOST_FORKS)
    return _DEFAULT_FORKS if number is None else round(number)


def _options(checker: Checker, kind: str) -> dict[str, Any]:
    given = checker.value("options")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        checker.add("options", "must be a mapping of options to values")
        return {}
    for name in given:
        if name not in ASKED.get(kind, ()):
            checker.add(f"options.{shown(str(name))}", f"`{kind}` has no such option")
    inner = Checker(given, tuple(map(str, given)))
    options: dict[str, Any] = {}
    for name in ("keep_data", "discard", "accept_inconclusive", "force", "one_host"):
        if inner.given(name) and inner.flag(name):
            options[name] = True
    if inner.given("on_controller"):
        options["on_controller"] = inner.choice("on_controller", RETIREMENTS)
    wait = inner.number("wait", smallest=0, largest=_LONGEST_WAIT_S, unit="seconds")
    if wait is not None:
        options["wait"] = round(wait)
    if release := inner.text("release", longest=100):
        if not _RELEASE.match(release):
            inner.add("release", "must be the version of a bundle that lies ready, such as 1.4.0")
        options["release"] = release
    for name, smallest, largest, unit in _UPGRADE_NUMBERS:
        number = inner.number(name, smallest=smallest, largest=largest, unit=unit)
        if number is not None:
            options[name] = round(number)
    for problem in inner.problems:
        checker.add(f"options.{problem.path}", problem.message)
    return options
