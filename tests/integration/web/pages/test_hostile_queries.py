"""Whatever stands in the query of a page's address or in a form, the page answers: nobody's bookmark or script is an error of ours."""

from __future__ import annotations

import datetime as dt
import inspect
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from controller.store.entities import User

#: More than a thousand requests each.
pytestmark = pytest.mark.timeout(600)
#: What a parameter may be given, as it stands in the address.
TEXTS = (
    "",
    "9" * 30,
    "-9223372036854775809",
    "2147483648",
    "1e400",
    "nan",
    "%00",
    "a%00b",
    "%ED%A0%80",
    quote("🙂" * 2000),
    quote("' OR 1=1 --"),
    quote('{"a": [1e400]}'),
)
_TAKEN = r"""%s(?:\.get|\.getlist)?[(\[]\s*"(\w+)\""""
#: Taken by what several pages share.
_SHARED = {"GET": ("cursor", "from", "to", "sort"), "POST": ("version",)}


def parameters(app: Flask, endpoint: str, method: str) -> set[str]:
    """Return the parameters that the module of a page reads of queries or forms, and those of what pages share."""
    module = inspect.getmodule(inspect.unwrap(app.view_functions[endpoint]))
    assert module is not None
    source = "args" if method == "GET" else "form"
    return {*re.findall(_TAKEN % source, inspect.getsource(module)), *_SHARED[method]}


def paths(app: Flask, method: str, known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield endpoint and path of every page that is asked for, or every form that is sent, by a method."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("pages.") and method in (rule.methods or ()):
            values = {name: known.get(name, 1) for name in rule.arguments}
            yield rule.endpoint, app.url_map.bind("localhost").build(rule.endpoint, values, method=method)


@pytest.fixture
def known(rows: Any) -> dict[str, Any]:
    """What pages are about: one of each."""
    worker, place = rows.worker("edge-1"), rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    job = rows.job(test, worker, place)
    at = dt.datetime.now(dt.UTC)
    rows.run(job, at, rtt_avg_ms=1.0)
    return {
        "worker_id": str(worker),
        "test_id": test,
        "job_id": job,
        "destination_id": place,
        "name": "ping",
        "at_us": round(at.timestamp() * 1e6),
    }


def test_no_query_is_an_error_of_ours(app: Flask, visit: Any, known: dict[str, Any]) -> None:
    """Numbers beyond any column, bytes that are no text, texts without end: each alone, on each page, with HTMX and without."""
    admin = visit("admin")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    wrong, asked = [], 0
    for endpoint, path in paths(app, "GET", known):
        for name in sorted(parameters(app, endpoint, "GET")):
            for number, text in enumerate(TEXTS):
                headers = {"HX-Request": "true"} if number % 2 else {}
                answer = admin.client.get(f"{path}?{name}={text}", headers=headers)
                asked += 1
                if answer.status_code >= 500:
                    wrong.append((path, name, text[:30], answer.status_code))
    assert wrong == []
    assert asked > 1000


def test_no_form_is_an_error_of_ours(app: Flask, visit: Any, known: dict[str, Any], engine: Engine) -> None:
    """The same of what is sent, with the other fields left out; about somebody else, so that the session goes on."""
    admin = visit("admin")
    visit("viewer")
    with Session(engine) as session:
        known["user_id"] = session.scalars(select(User.id).where(User.role == "viewer")).one()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    wrong, sent = [], 0
    for endpoint, path in paths(app, "POST", known):
        for name in sorted(parameters(app, endpoint, "POST")):
            for text in TEXTS:
                answer = admin.post(path, {name: unquote(text, errors="replace")})
                sent += 1
                if answer.status_code >= 500:
                    wrong.append((path, name, text[:30], answer.status_code))
    assert wrong == []
    assert sent > 500


def test_a_form_with_a_nul_is_refused(visit: Any) -> None:
    """By its name, before anything is looked for or written."""
    admin = visit("admin")
    answer = admin.post("/destinations/new", {"name": "a\0b", "address": "192.0.2.1"})
    assert answer.status_code == 400
    assert "<code>name</code> has a NUL character" in answer.get_data(as_text=True)
