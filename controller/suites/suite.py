"""A suite: tests with assertions, read from a YAML document and checked whole against the contract.

The same file runs once from this machine (`streamswarm run`) and becomes tests of a controller (`streamswarm apply`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from controller.checking import Checker, read_selection
from controller.errors import ConfigurationError
from controller.planning.asking import FIELDS as SCHEDULE_FIELDS
from controller.planning.asking import read_schedule
from controller.suites import document
from controller.suites.document import Document
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, Problem, UnknownKindError
from streamswarm.expression_parser import parse
from streamswarm.expressions import Expression, ExpressionError
from streamswarm.targets import TargetError, parse_address, shown
from streamswarm.v1 import probe_pb2

SUITE_FIELDS = ("suite", "description", "destinations", "tests")
DESTINATION_FIELDS = ("name", "address", "description", "tags")
TEST_FIELDS = (
    "name",
    "description",
    "kind",
    "spec",
    "destinations",
    "assert",
    "expect",
    "selection",
    "tags",
    *SCHEDULE_FIELDS,
    "paused",
)
MAX_TESTS = 1000
MAX_DESTINATIONS = 100
_MOST_ASSERTIONS = 50
_MOST_PROBLEMS = 20
_NO_WORD = re.compile(r"[^a-z0-9]+")

Expected = Literal["ok", "failed"]


class SuiteError(ConfigurationError):
    """A suite is wrong; the message has every fault with file and line."""


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """What a run must have measured."""

    #: As it stands in the file.
    text: str
    expression: Expression


@dataclass(frozen=True, kw_only=True)
class SuiteDestination:
    """A destination with a name, for several tests."""

    name: str
    #: Host, host:port or URL.
    address: str
    description: str
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Where a test of a suite aims: a destination of the file by its name, or an address as it stands."""

    name: str
    #: In the kind's canonical form; empty for kinds without a destination.
    target: str


@dataclass(frozen=True, kw_only=True)
class SuiteTest:
    """One test of a suite."""

    name: str
    description: str
    kind: Kind
    #: Parameters, defaults filled in.
    spec: probe_pb2.Spec
    #: One for each destination; a single one without a target for kinds that have none.
    aims: tuple[Aim, ...]
    assertions: tuple[Assertion, ...]
    #: How runs must end: `failed` proves that something cannot be reached.
    expect: Expected
    #: Which workers: `{"all": True}`, or any of `workers` (names), `sites`, `groups`, `labels`.
    selection: Mapping[str, Any]
    tags: tuple[str, ...]
    #: The fields of its schedule. Only a controller looks at them and at what follows.
    schedule: Mapping[str, Any]
    #: None leaves it as it is on the controller.
    paused: bool | None
    #: Where it stands: `office.yaml:12`.
    at: str


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tests and assertions of one file."""

    name: str
    description: str
    #: The file, as the user named it.
    file: str
    destinations: tuple[SuiteDestination, ...]
    tests: tuple[SuiteTest, ...]

    @property
    def slug(self) -> str:
        """The name as a word, for tags and files."""
        return slug(self.name)


def slug(name: str) -> str:
    """Return a suite's name as a word: plain when the name is, else with a digest, so that two never share one."""
    word = _NO_WORD.sub("-", name.lower()).strip("-")[:50].strip("-") or "suite"
    if word == name.lower().replace(" ", "-"):
        return word
    return f"{word[:41].strip('-')}-{hashlib.sha256(name.lower().encode()).hexdigest()[:8]}"


def load(path: Path) -> Suite:
    """Read and check a suite's file; `-` is standard input. Raises ConfigurationError with file and line."""
    return check(document.read(path))


def check(doc: Document) -> Suite:
    """Return the suite that a document describes; raises SuiteError with every fault."""
    try:
        return _Reader(doc).suite()
    except InvalidInputError as error:
        lines = [
            f"{doc.at(problem.path)}: {problem if problem.path else problem.message}"
            for problem in error.problems[:_MOST_PROBLEMS]
        ]
        more = len(error.problems) - len(lines)
        raise SuiteError("\n".join([*lines, *([f"… and {more} more"] if more else [])])) from error


class _Reader:
    """Reads one document; faults are collected with their paths."""

    def __init__(self, doc: Document) -> None:
        self._doc = doc
        self._problems: list[Problem] = []
        self._named: dict[str, SuiteDestination] = {}

    def suite(self) -> Suite:
        checker = Checker(self._doc.values, SUITE_FIELDS)
        name = checker.name("suite") if checker.given("suite") else Path(self._doc.name).stem
        description = checker.text("description", longest=2000, lines=True)
        listed = checker.items("destinations", checker.value("destinations"), most=MAX_TESTS)
        tests = checker.items("tests", checker.value("tests"), most=MAX_TESTS)
        if not tests and "tests" not in [problem.path for problem in checker.problems]:
            checker.add("tests", "are missing; list at least one test with `name`, `kind` and `destinations`")
        self._problems += checker.problems
        destinations = [self._destination(index, values) for index, values in enumerate(listed)]
        found = [self._test(index, values) for index, values in enumerate(tests)]
        self._check_names("tests", [test.name for test in found if test])
        if self._problems:
            raise InvalidInputError(self._problems)
        return Suite(
            name=name,
            description=description,
            file=self._doc.name,
            destinations=tuple(item for item in destinations if item),
            tests=tuple(test for test in found if test),
        )

    def _checker(self, path: str, values: Any, known: tuple[str, ...]) -> Checker | None:
        try:
            return Checker(values, known)
        except InvalidInputError as error:
            self._problems.append(Problem(path=path, message=error.problems[0].message))
            return None

    def _take(self, path: str, checker: Checker) -> bool:
        """Take over what a checker has found, below its path; returns whether that was nothing."""
        self._problems += (
            Problem(path=f"{path}.{problem.path}", message=problem.message) for problem in checker.problems
        )
        return not checker.problems

    def _check_names(self, path: str, names: list[str]) -> None:
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name.lower() in seen:
                self._problems.append(
                    Problem(path=f"{path}[{index}].name", message=f"`{shown(name)}` is there twice")
                )
            seen.add(name.lower())

    def _destination(self, index: int, values: Any) -> SuiteDestination | None:
        path = f"destinations[{index}]"
        checker = self._checker(path, values, DESTINATION_FIELDS)
        if checker is None:
            return None
        name = checker.name()
        address = checker.text("address", longest=2048, required=True)
        try:
            address = str(parse_address(address)) if address else ""
        except TargetError as error:
            checker.add("address", str(error))
            address = ""
        if name.lower() in self._named:
            checker.add("name", f"`{shown(name)}` is there twice")
        made = SuiteDestination(
            name=name,
            address=address,
            description=checker.text("description", longest=2000, lines=True),
            tags=tuple(checker.words("tags")),
        )
        self._take(path, checker)
        # Kept although it may be faulty: tests that aim at it are not to be blamed as well.
        self._named[name.lower()] = made
        return made

    def _test(self, index: int, values: Any) -> SuiteTest | None:
        path = f"tests[{index}]"
        checker = self._checker(path, values, TEST_FIELDS)
        if checker is None:
            return None
        name, kind = checker.name(), _kind(checker)
        spec = _spec(checker, kind)
        known = contract.spec_values(spec) if spec.WhichOneof("kind") else {}
        made = SuiteTest(
            name=name,
            description=checker.text("description", longest=2000, lines=True),
            kind=kind or next(iter(contract.kinds().values())),
            spec=spec,
            aims=self._aims(checker, kind),
            assertions=_assertions(checker, kind),
            expect="failed"
            if checker.given("expect") and checker.choice("expect", ("ok", "failed")) == "failed"
            else "ok",
            selection=_selection(checker),
            tags=tuple(checker.words("tags")),
            schedule=read_schedule(checker, known, now=None),
            paused=checker.flag("paused") if checker.given("paused") else None,
            at=self._doc.at(path),
        )
        return made if self._take(path, checker) else None

    def _aims(self, checker: Checker, kind: Kind | None) -> tuple[Aim, ...]:
        value = checker.value("destinations")
        items = checker.items(
            "destinations", [value] if isinstance(value, str) else value, most=MAX_DESTINATIONS
        )
        if kind is None:
            return ()
        if kind.target == "none":
            if items:
                checker.add(
                    "destinations",
                    f"must be left out: tests of kind `{kind.name}` look at the worker's own host",
                )
            return (Aim(name="", target=""),)
        if not items and not any(problem.path == "destinations" for problem in checker.problems):
            checker.add(
                "destinations",
                f"are missing; a test of kind `{kind.name}` names at least one, such as `192.0.2.1`",
            )
        aims: list[Aim] = []
        for index, item in enumerate(items):
            aim = self._aim(checker, f"destinations[{index}]", kind, item)
            if aim is not None and aim in aims:
                checker.add(f"destinations[{index}]", f"`{shown(str(item))}` is there twice")
            elif aim is not None:
                aims.append(aim)
        return tuple(aims)

    def _aim(self, checker: Checker, path: str, kind: Kind, item: Any) -> Aim | None:
        if not isinstance(item, str):
            checker.add(path, f"`{shown(str(item))}` is not text; put it into quotes")
            return None
        known = self._named.get(item.lower())
        address = known.address if known else item
        try:
            target = str(contract.parse_target(kind, address))
        except InvalidInputError as error:
            if known and not known.address:
                return None
            hint = "" if known else "; nor is it the name of one of this file's destinations"
            checker.add(path, error.problems[0].message + hint)
            return None
        return Aim(name=known.name if known else target, target=target)


def _kind(checker: Checker) -> Kind | None:
    name = checker.value("kind")
    if name is None:
        checker.add("kind", f"is missing; there are {', '.join(contract.kinds())}")
        return None
    try:
        return contract.kind(name if isinstance(name, str) else str(name))
    except UnknownKindError as error:
        checker.add("kind", str(error))
        return None


def _spec(checker: Checker, kind: Kind | None) -> probe_pb2.Spec:
    value = checker.value("spec")
    if kind is not None:
        try:
            made: probe_pb2.Spec = contract.make_spec(kind.name, {} if value is None else value)
            return made
        except InvalidInputError as error:
            checker.problems.extend(error.problems)
    return probe_pb2.Spec()


def _assertions(checker: Checker, kind: Kind | None) -> tuple[Assertion, ...]:
    value = checker.value("assert")
    items = checker.items("assert", [value] if isinstance(value, str) else value, most=_MOST_ASSERTIONS)
    found = []
    for index, item in enumerate(items):
        path = "assert" if isinstance(value, str) else f"assert[{index}]"
        if not isinstance(item, str):
            checker.add(path, f"`{shown(str(item))}` is not an expression such as `rtt_avg_ms < 20`")
        elif kind is not None:
            try:
                found.append(Assertion(text=item.strip(), expression=parse(item, kind)))
            except ExpressionError as error:
                checker.add(path, f"`{shown(item.strip())}`: {error}")
    return tuple(found)


def _selection(checker: Checker) -> Mapping[str, Any]:
    if checker.value("selection") is None:
        return {"all": True}
    return read_selection(checker, lambda value: _worker_names(checker, value))


def _worker_names(checker: Checker, value: Any) -> list[str]:
    """Return names of workers: ids differ from controller to controller, so a file cannot name them."""
    names = []
    for index, item in enumerate(checker.items("selection.workers", value, most=10_000)):
        if isinstance(item, str) and item.strip():
            names.append(item.strip())
        else:
            checker.add(f"selection.workers[{index}]", f"`{shown(str(item))}` is not the name of a worker")
    return sorted(set(names))
