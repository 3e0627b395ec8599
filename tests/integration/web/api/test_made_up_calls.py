"""Everything that can be made up from the OpenAPI document is sent to a server, with every check that schemathesis has.

`STREAMSWARM_MADE_UP_CALLS=100` makes a hundred calls up for each operation instead of the usual few, and takes as much
longer; `STREAMSWARM_MADE_UP_SEED` makes up others.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import strategies
from schemathesis.config._checks import NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES
from schemathesis.engine import Status, StopReason, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData
from sqlalchemy import Engine, text
from support.clients import Api, make_destination, make_test
from support.dashboard import serving

from controller.settings import Settings
from controller.store.queries.users import Role
from web.auth import roles
from web.limits import Limit

#: Calls that are made up for each operation, beside one for each limit of each field.
EXAMPLES = int(os.environ.get("STREAMSWARM_MADE_UP_CALLS", "3"))
SEED = int(os.environ.get("STREAMSWARM_MADE_UP_SEED", "7"))
#: Number of the token that the calls are made with: one that no made-up path names.
TOKEN_ID = 777_777_777_777

#: What is refused though no schema can say that it is wrong: which calls, which fields, and why.
BEYOND_SCHEMAS = (
    (".*", r"cursor", "is good only as an answer gave it"),
    (".*", r"from|to|last", "what of a range goes together, and how much has expired"),
    (
        r"(POST|PATCH) /destinations.*",
        r"address",
        "is read by a grammar of its own, by kinds that are to reach it",
    ),
    (r"(POST|PATCH) /tests.*", r"kind", "stays as it was made"),
    (r"(POST|PATCH) /tests.*", r"destinations.*", "must be there, and go with the kind"),
    (r"(POST|PATCH) /tests.*", r"selection(\.workers.*)?", "names somebody who is there"),
    (r"(POST|PATCH) /tests.*", r"spec.*", "parameters go with the kind, and with one another"),
    (
        r"(POST|PATCH) /tests.*",
        r"interval_s|cron|zone|windows.*|starts_at|ends_at|max_runs|recurrence",
        "make a schedule together",
    ),
    (r"POST /reports", r"tests.*", "must be there"),
    (r"POST /operations", r"limit|check|options\..*", "go with the kind"),
    (r"POST /operations/begun", r"part_of", "is the caller's own"),
    (r"(POST|PATCH) /tokens.*", r"expires_at", "lies in the future"),
    (r"POST /users.*", r"password", "four characters must differ, and it must not be the name"),
    (r"GET /tests/.*", r"metric|child|key", "are those of the test's kind"),
)
#: Unicode tells which characters can be shown; patterns cannot say it so that everybody reads them alike.
NOT_TO_BE_SHOWN = "has the control character "
ODD_TAG = "The header If-Match must be"


@dataclass
class Findings:
    """What came of the calls."""

    failures: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    stopped: StopReason | None = None

    def take(self, event: events.EngineEvent) -> None:
        """Note what an event of the run tells."""
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            self.failures[f"error: {event.label}"] = f"{event.value!r}"
        if isinstance(event, events.EngineFinished):
            self.stopped = event.stop_reason
        if isinstance(event, events.ScenarioFinished | events.FuzzScenarioFinished):
            self._read(event.recorder)

    def _read(self, recorder: Any) -> None:
        for case_id, interaction in recorder.interactions.items():
            operation = recorder.cases[case_id].value.operation
            # Other methods are tried on its path too.
            if interaction.response is not None and interaction.request.method == operation.method.upper():
                label = operation.label
                self.statuses.setdefault(label, Counter())[interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            label = recorder.cases[case_id].value.operation.label
            for check in checks:
                if check.status == Status.FAILURE:
                    info = check.failure_info
                    said = f"{info.failure.title}: {info.failure.message}\n{info.code_sample[:2000]}"
                    answer = recorder.interactions[case_id].response
                    told = "" if answer is None else f"\n{answer.status_code} {answer.text[:600]}"
                    self.failures.setdefault(f"{check.name}: {label}", said + told)


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many calls in a minute are another test's matter."""
    for name in ("CALLS", "STRANGERS"):
        monkeypatch.setattr(roles, name, Limit(10_000_000))


@pytest.fixture
def world(settings: Settings, api: Api, make_user: Callable[..., int], worker: str) -> None:
    """Something of everything that a call can be about."""
    (settings.data_dir / "ca").mkdir(parents=True)
    (settings.data_dir / "ca" / "root.pem").write_text("a certificate")
    test = make_test(api)
    make_destination(api, "Other")
    for path, body in (
        ("/reports", {"tests": [test["id"]], "last": "1h"}),
        ("/operations", {"kind": "verify", "limit": "oslo"}),
        ("/operations/begun", {"kind": "upgrade", "hosts": ["alpha"]}),
        ("/tokens", {"name": "ci"}),
    ):
        assert api("POST", path, body).status_code in (201, 202)
    for name in ("ada", "grace"):
        make_user(name, "admin")
    make_user("joan")


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """Address of a real server on a free port."""
    with serving(app) as url:
        yield url


@pytest.fixture
def secret(engine: Engine, token: Callable[[Role], str]) -> str:
    """An administrator's token, which no call names."""
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE api_tokens ALTER COLUMN id RESTART WITH {TOKEN_ID}"))
    made = token("admin")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE api_tokens ALTER COLUMN id RESTART WITH 100"))
    return made


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("unlimited", "world")
def test_nothing_that_the_document_allows_or_forbids_is_answered_wrongly(address: str, secret: str) -> None:
    """No failure of any check, no answer 5xx, and most calls have succeeded at least once."""
    config = schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "operations": [
                # They take what making a test takes, which is tried in full there.
                *(
                    {"include-name": name, "phases": {"coverage": {"enabled": False}}}
                    for name in ("POST /tests/preview", "PATCH /tests/{test_id}")
                ),
                # That something is down is what it is there to answer.
                {
                    "include-name": "GET /health",
                    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]}},
                },
            ],
            "checks": {
                # What has too many items may be too large as well, and a made-up tag is refused before the body is read.
                "negative_data_rejection": {
                    "expected-statuses": [*NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES, "412", "413"]
                }
            },
            "headers": {"Authorization": f"Bearer {secret}"},
            "generation": {
                "deterministic": "STREAMSWARM_MADE_UP_SEED" not in os.environ,
                "max-examples": EXAMPLES,
                "database": "none",
                "no-shrink": True,
            },
        }
    )
    schemathesis.openapi.format("cursor", strategies.just(""))
    years = strategies.datetimes(
        dt.datetime(2000, 1, 2), dt.datetime(2199, 12, 30), timezones=strategies.just(dt.timezone.utc)
    )
    schemathesis.openapi.format("date-time", years.map(dt.datetime.isoformat))
    schema = schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json", config=config)
    found = Findings()
    for event in from_schema(schema).execute():
        found.take(event)
    assert not found.failures, "\n\n".join(f"{name}\n{said}" for name, said in found.failures.items())
    assert found.stopped is StopReason.COMPLETED
    never = {name for name, told in found.statuses.items() if not any(status < 400 for status in told)}
    # A token is no user, nobody makes the reports, and what belongs together is seldom made up together.
    assert len(never) * 5 < len(found.statuses), never


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out what would revoke the token that the calls are made with."""
    return str(TOKEN_ID) not in str(case.path_parameters)


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Leave out what is refused for a reason that no schema can say."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    if response.status_code in (412, 428) or ODD_TAG in response.text:
        # Nobody can make up which state an object is in, and some tags come without the quotes that their pattern has.
        return False
    return response.status_code != 422 or not all(
        fault["message"].startswith(NOT_TO_BE_SHOWN)
        or any(
            re.fullmatch(calls, case.operation.label) and re.fullmatch(path, fault["path"])
            for calls, path, _ in BEYOND_SCHEMAS
        )
        for fault in response.json()["errors"]
    )
