"""The dashboard on a real database: a client of its pages, a real server, a real browser, and rows to show."""

from __future__ import annotations

import datetime as dt
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session
from support.chromium import CHROMIUM, FLAGS
from support.dashboard import serving

from controller.settings import Settings
from controller.store import results
from controller.store.channels import RESULTS
from controller.store.commands import destinations, tests, users
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Destination, Job, JobVersion, Process, Test, Worker
from controller.store.queries.users import Role
from streamswarm import contract
from streamswarm.v1 import probe_pb2
from web import create_app

PASSWORD = "correct horse battery"


@dataclass
class Rows:
    """Writes what a test wants to see."""

    engine: Engine

    def worker(self, name: str, *, connected: bool = True, **more: Any) -> uuid.UUID:
        """Make an enrolled worker on which every kind is available, with a session unless told otherwise."""
        with Session(self.engine) as session, session.begin():
            gateway = session.scalar(select(Process).where(Process.role == "gateway"))
            if gateway is None:
                gateway = Process(role="gateway", name="gateway-1", host_name="here", pid=1, version="0")
                session.add(gateway)
                session.flush()
                # Nobody beats for it here: it stays alive for as long as the test may take.
                gateway.heartbeat_at = func.now() + dt.timedelta(hours=1)
            kinds = {kind: {"available": True, "reason": "", "mend": ""} for kind in contract.kinds()}
            values = {
                "host_name": name,
                "kinds": kinds,
                "enrolled_at": func.now(),
                "last_seen_at": func.now(),
            }
            worker = Worker(name=name, gateway_id=gateway.id if connected else None, **(values | more))
            session.add(worker)
            session.flush()
            return worker.id

    def destination(self, name: str, address: str) -> int:
        """Make a destination."""
        with Session(self.engine) as session, session.begin():
            return destinations.create(session, {"name": name, "address": address}, actor=SYSTEM).id

    def test(self, name: str, kind: str, **more: Any) -> int:
        """Make a test, every 2 s unless told otherwise."""
        with Session(self.engine) as session, session.begin():
            values = {"name": name, "kind": kind, "interval_s": 2, **more}
            return tests.create(session, values, actor=SYSTEM).id

    def job(self, test_id: int, worker_id: uuid.UUID, destination_id: int | None = None) -> int:
        """Plan a job of a test, long ago; how it was scheduled is not known but for what `version` tells."""
        with Session(self.engine) as session, session.begin():
            test = session.get_one(Test, test_id)
            target = session.get_one(Destination, destination_id).address if destination_id else ""
            job = Job(
                test_id=test_id,
                worker_id=worker_id,
                destination_id=destination_id,
                kind=test.kind,
                target=target,
                spec=test.spec,
                interval_us=round((test.interval_s or 0) * 1e6),
                anchor_us=0,
                created_at=func.now() - dt.timedelta(days=1000),
            )
            session.add(job)
            session.flush()
            test.planned_version = test.version
            return job.id

    def version(self, job_id: int, number: int, since: dt.datetime, **schedule: Any) -> None:
        """Write down how a job was scheduled from an instant on, as the keeper does; what was before ends there."""
        with Session(self.engine) as session, session.begin():
            before = update(JobVersion).where(JobVersion.job_id == job_id, JobVersion.valid_until.is_(None))
            session.execute(before.values(valid_until=since))
            values = {"interval_us": 0, "anchor_us": 0, **schedule}
            session.add(JobVersion(job_id=job_id, version=number, valid_from=since, **values))

    def run(
        self,
        job_id: int,
        at: dt.datetime,
        *,
        status: int = probe_pb2.STATUS_OK,
        source: int = probe_pb2.FAILURE_SOURCE_NONE,
        error: str | None = None,
        detail: dict[str, Any] | None = None,
        children: dict[str, dict[str, dict[str, Any]]] | None = None,
        version: int = 1,
        **metrics: Any,
    ) -> None:
        """Store a run and tell of it, as a gateway does; `children` are rows by group and key."""
        with Session(self.engine) as session, session.begin():
            job = session.get_one(Job, job_id)
            values = {
                "job_id": job_id,
                "scheduled_at": at,
                "started_at": at,
                "duration_ms": 1.0,
                "job_version": version,
                "status": status,
                "failure_source": source,
                "error": error,
                **({} if detail is None else {"detail": detail}),
            }
            for name, value in metrics.items():
                values[results.metric_column(job.kind, name).name] = value
            session.execute(insert(results.table(job.kind)).values(**values))
            for child, by_key in (children or {}).items():
                of_run = {"job_id": job_id, "scheduled_at": at}
                rows = [{**of_run, "key": key, **row} for key, row in by_key.items()]
                session.execute(insert(results.child_table(job.kind, child)), rows)
            session.execute(select(func.pg_notify(RESULTS, str(job.test_id))))

    def execute(self, statement: Any) -> None:
        """Change rows directly."""
        with self.engine.begin() as connection:
            connection.execute(statement)

    def worker_gone(self, worker_id: uuid.UUID) -> None:
        """End a worker's session."""
        self.execute(update(Worker).where(Worker.id == worker_id).values(gateway_id=None))


@dataclass
class Visitor:
    """A client of the pages that is logged in."""

    client: FlaskClient

    def get(self, path: str, **more: Any) -> str:
        """Return a page that must be there."""
        response = self.client.get(path, **more)
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_data(as_text=True)

    def fragment(self, path: str) -> str:
        """Return a part of a page as htmx asks for it."""
        return self.get(path, headers={"HX-Request": "true"})

    def post(self, path: str, data: dict[str, Any] | None = None, *, form: str = "/destinations/new") -> Any:
        """Send a form with the token of this session."""
        token = csrf_of(self.client, form)
        return self.client.post(path, data={**(data or {}), "csrf_token": token})


@dataclass
class Window:
    """A browser window that notes everything that goes wrong in it."""

    page: Page
    address: str
    troubles: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page of the dashboard."""
        self.page.goto(self.address + path)
        return self.page

    def log_in(self, name: str = "ada") -> Page:
        """Log in through the form."""
        page = self.open("/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(self.address + "/")
        return page


class Translated(BytecodeCache):
    """Templates as they were translated for an earlier test's application."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give out what is kept; what was made of another text is not taken."""
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was translated."""
        self._kept[bucket.key] = bucket.bytecode_to_string()


TRANSLATED = Translated()


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application."""
    app = create_app(settings)
    app.jinja_env.bytecode_cache = TRANSLATED
    yield app
    app.extensions["live"].stop()
    app.extensions["streamswarm.engine"].dispose()


@pytest.fixture
def rows(engine: Engine) -> Rows:
    """What writes rows."""
    return Rows(engine)


@pytest.fixture
def make_user(engine: Engine) -> Callable[[str, Role], None]:
    """Make a user with the password `PASSWORD`."""

    def make(name: str, role: Role) -> None:
        with Session(engine) as session, session.begin():
            users.create(session, {"name": name, "role": role, "password": PASSWORD}, actor=SYSTEM)

    return make


@pytest.fixture
def visit(app: Flask, make_user: Callable[[str, Role], None]) -> Callable[[Role], Visitor]:
    """Log in as somebody of a role."""

    def log_in(role: Role) -> Visitor:
        make_user(f"the-{role}", role)
        client = app.test_client()
        data = {"csrf_token": csrf_of(client, "/login"), "name": f"the-{role}", "password": PASSWORD}
        assert client.post("/login", data=data).status_code == 302
        return Visitor(client)

    return log_in


@pytest.fixture
def operator(visit: Callable[[Role], Visitor]) -> Visitor:
    """An operator."""
    return visit("operator")


@pytest.fixture
def viewer(visit: Callable[[Role], Visitor]) -> Visitor:
    """Somebody who may only look."""
    return visit("viewer")


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """Address of a real server of the dashboard on a free port."""
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's chromium, headless. Ended with its module: its driver's event loop would be in others' way."""
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is missing; apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_window(
    chromium: Browser, address: str, make_user: Callable[[str, Role], None]
) -> Iterator[Callable[..., Window]]:
    """Open browser windows, each in a profile of its own; the administrator `ada` may log in."""
    make_user("ada", "admin")
    contexts: list[BrowserContext] = []

    def make(**more: Any) -> Window:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | more))
        contexts.append(context)
        window = Window(context.new_page(), address)
        window.page.on("pageerror", lambda error: window.troubles.append(f"error: {error}"))
        window.page.on(
            "console",
            lambda message: (
                window.troubles.append(f"{message.type}: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        window.page.on(
            "request",
            lambda request: (
                window.troubles.append(f"another host: {request.url}")
                if not request.url.startswith((f"{address}/", "data:", "blob:"))
                else None
            ),
        )
        window.page.on(
            "response",
            lambda response: (
                window.troubles.append(f"{response.status} {response.url}")
                if response.status >= 400
                else None
            ),
        )
        return window

    yield make
    for context in contexts:
        context.close()


def csrf_of(client: FlaskClient, path: str) -> str:
    """Return the CSRF token in a page's form."""
    page = client.get(path).get_data(as_text=True)
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page
    return found.group(1)
