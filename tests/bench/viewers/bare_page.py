"""The bare page: one Flask view that draws fifty tests from one statement down an index, through psycopg2.

Served by gunicorn as the product's own application is. Nobody has to log in, and nothing else is on the page.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, render_template_string
from psycopg2.pool import ThreadedConnectionPool

_TESTS = "SELECT id, name, kind, interval_s FROM tests WHERE deleted_at IS NULL ORDER BY lower(name) LIMIT 50"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tests</title></head><body><h1>Tests</h1><table>
{% for id, name, kind, interval_s in rows %}<tr><th><a href="/tests/{{ id }}">{{ name }}</a></th><td>{{ kind }}</td><td>{{ interval_s }}</td></tr>
{% endfor %}</table></body></html>
"""

app = Flask("bare_page")
pool = ThreadedConnectionPool(8, 24, os.environ["BARE_DATABASE_URL"])


@app.get("/tests")
def list_tests() -> str:
    """List the first tests by name."""
    connection: Any = pool.getconn()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(_TESTS)
            rows = cursor.fetchall()
    finally:
        pool.putconn(connection)
    return render_template_string(_PAGE, rows=rows)
