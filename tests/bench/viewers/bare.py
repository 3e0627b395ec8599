"""The bare endpoint: one Flask view that checks a token and reads a destination, by two statements through psycopg2.

Served by gunicorn as the product's own application is. Nothing else is done: no roles, no limits, no headers.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from psycopg2.pool import ThreadedConnectionPool

_TOKEN = """
    SELECT t.id, t.name, t.scope, t.user_id, u.name, u.role
    FROM api_tokens t LEFT JOIN users u ON u.id = t.user_id
    WHERE t.token_hash = %s AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
        AND (t.user_id IS NULL OR u.active)
"""
_DESTINATION = """
    SELECT d.id, d.name, d.address, d.description, d.tags,
        (SELECT count(*) FROM test_destinations td JOIN tests t ON t.id = td.test_id
         WHERE td.destination_id = d.id AND t.deleted_at IS NULL) AS tests,
        d.version, d.created_at, d.updated_at
    FROM destinations d WHERE d.id = %s AND d.deleted_at IS NULL
"""
_NAMES = ("id", "name", "address", "description", "tags", "tests", "version", "created_at", "updated_at")

app = Flask("bare")
pool = ThreadedConnectionPool(8, 24, os.environ["BARE_DATABASE_URL"])


@app.get("/api/v1/destinations/<int:destination_id>")
def show_destination(destination_id: int) -> Response:
    """Show one destination."""
    _, _, token = request.headers.get("Authorization", "").partition(" ")
    connection: Any = pool.getconn()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(_TOKEN, (hashlib.sha256(token.encode()).digest(),))
            if cursor.fetchone() is None:
                abort(401)
            cursor.execute(_DESTINATION, (destination_id,))
            row = cursor.fetchone()
    finally:
        pool.putconn(connection)
    if row is None:
        abort(404)
    shown = dict(zip(_NAMES, row, strict=True))
    return jsonify({**shown, **{name: shown[name].isoformat() for name in ("created_at", "updated_at")}})
