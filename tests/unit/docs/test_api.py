"""The page about the API names every call that there is."""

from __future__ import annotations

import re
from pathlib import Path

from flask import Flask

from controller.settings import Settings
from web import create_app
from web.api.openapi import path_of, routes

PAGE = Path(__file__).parents[3] / "docs/reference/api.md"


def test_every_call_is_on_the_page(tmp_path: Path) -> None:
    """Each path with each of its methods stands in code, and no path stands there that is not one."""
    app: Flask = create_app(Settings(data_dir=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none"))
    there = {
        (method, re.sub(r"\{\w+\}", "<id>", path_of(rule)).replace("/kinds/<id>", "/kinds/<name>"))
        for rule in routes(app)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    said: set[tuple[str, str]] = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        methods: list[str] = []
        path = ""
        for code in re.findall(r"`([^`]+)`", line.split("|")[1] if line.startswith("|") else line):
            match = re.fullmatch(r"(?:(GET|POST|PATCH|DELETE)\s?)?(/[\w<>/.-]+)?", code)
            if match is None:
                continue
            if match[1]:
                methods = [*methods, match[1]] if not path else [match[1]]
            if match[2]:
                # `/tests/<id>/pause`, `/resume`: the second one hangs on the first one's folder.
                beside = path.rpartition("/")[0] + match[2] if path and not match[1] else match[2]
                path = beside
                said |= {(method, path) for method in methods}
    assert there - said == set()
    assert {call for call in said - there if not call[1].startswith(("/run/", "/api"))} == set()
