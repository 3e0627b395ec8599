"""The blueprint that every page hangs on."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("pages", __name__)
