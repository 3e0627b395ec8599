"""Addresses of pages and files, as templates ask for them: found once, as lists and pictures name hundreds of them each time."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import Any

from flask import request, url_for


def link(endpoint: str, **values: Any) -> str:
    """Return the address of an endpoint, as `url_for` does."""
    # What people type is not kept, however much they type.
    if endpoint == "static" or all(type(value) in (int, uuid.UUID) for value in values.values()):
        return _found(request.script_root, endpoint, **values)
    return url_for(endpoint, **values)


@lru_cache(maxsize=16_384, typed=True)
def _found(root: str, endpoint: str, **values: Any) -> str:
    """Find an address below `root`, where the application is mounted."""
    return url_for(endpoint, **values)
