"""Whatever stands in the query of a page's address, the page answers: nobody's bookmark or script is an error of ours."""

from __future__ import annotations

import datetime as dt
import inspect
import re
from typing import Any
from urllib.parse import quote

from flask import Flask

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
_TAKEN = re.compile(r"""args(?:\.get|\.getlist)?[(\[]\s*"(\w+)\"""")
#: Taken by what several pages share.
_SHARED = ("cursor", "from", "to", "sort")


def parameters(app: Flask, endpoint: str) -> set[str]:
    """Return the parameters that the module of a page reads, and those of what pages share."""
    module = inspect.getmodule(inspect.unwrap(app.view_functions[endpoint]))
    assert module is not None
    return {*_TAKEN.findall(inspect.getsource(module)), *_SHARED}


def test_no_query_is_an_error_of_ours(app: Flask, visit: Any, rows: Any) -> None:
    """Numbers beyond any column, bytes that are no text, texts without end: each alone, on each page, with HTMX and without."""
    worker, place = rows.worker("edge-1"), rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    job = rows.job(test, worker, place)
    at = dt.datetime.now(dt.UTC)
    rows.run(job, at, rtt_avg_ms=1.0)
    known = {
        "worker_id": str(worker),
        "test_id": test,
        "job_id": job,
        "destination_id": place,
        "name": "ping",
    }
    known["at_us"] = round(at.timestamp() * 1e6)
    admin = visit("admin")
    admin.client.application.config["PROPAGATE_EXCEPTIONS"] = False
    wrong, asked = [], 0
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith("pages.") or "GET" not in (rule.methods or ()):
            continue
        values = {name: known.get(name, 1) for name in rule.arguments}
        path = app.url_map.bind("localhost").build(rule.endpoint, values, method="GET")
        for name in sorted(parameters(app, rule.endpoint)):
            for number, text in enumerate(TEXTS):
                headers = {"HX-Request": "true"} if number % 2 else {}
                answer = admin.client.get(f"{path}?{name}={text}", headers=headers)
                asked += 1
                if answer.status_code >= 500:
                    wrong.append((path, name, text[:30], answer.status_code))
    assert wrong == []
    assert asked > 1000


def test_a_form_with_a_nul_is_refused(visit: Any) -> None:
    """By its name, before anything is looked for or written."""
    admin = visit("admin")
    answer = admin.post("/destinations/new", {"name": "a\0b", "address": "192.0.2.1"})
    assert answer.status_code == 400
    assert "<code>name</code> has a NUL character" in answer.get_data(as_text=True)
