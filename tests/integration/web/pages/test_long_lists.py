"""A long list in a real browser: it goes on by itself, and the page holds no more for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

pytestmark = pytest.mark.browser

ROWS = 700
#: Rows of one page of a list.
_AT_ONCE = 50
_NAMES = "() => [...document.querySelectorAll('main tbody th a')].map((link) => link.textContent)"


@pytest.fixture
def many(engine: Any) -> list[str]:
    """Destinations by name."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO destinations (name, address) "
                "SELECT 'place ' || lpad(n::text, 4, '0'), '192.0.2.1' FROM generate_series(1, :rows) n"
            ),
            {"rows": ROWS},
        )
    return [f"place {number:04}" for number in range(1, ROWS + 1)]


def _scroll(page: Any, pixels: int, until: Callable[[list[str]], bool]) -> list[str]:
    """Scroll again and again until the rows are as they should be; return the names of all rows that were there meanwhile."""
    seen: dict[str, None] = {}
    deadline = time.monotonic() + 60
    while True:
        names = page.evaluate(_NAMES)
        seen.update(dict.fromkeys(names))
        if until(names):
            return list(seen)
        assert time.monotonic() < deadline, (len(names), names[:1], names[-1:])
        page.mouse.wheel(0, pixels)
        page.wait_for_timeout(100)


def test_a_long_list_goes_on_and_holds_only_what_is_near(
    open_window: Callable[..., Any], many: list[str]
) -> None:
    """Down to its end and up again every row comes by, in order, while most of them are not there."""
    window = open_window()
    window.log_in()
    page = window.open("/destinations")
    page.mouse.move(600, 600)
    assert _scroll(page, 2000, lambda names: names[-1] == many[-1]) == many
    page.wait_for_timeout(500)
    assert len(page.evaluate(_NAMES)) <= 7 * _AT_ONCE
    height = page.evaluate("document.documentElement.scrollHeight")
    upwards = _scroll(page, -1500, lambda names: names[50:150] == many[50:150])
    assert set(many) - set(upwards) == set()
    page.wait_for_timeout(500)
    names = page.evaluate(_NAMES)
    assert names == sorted(names)
    assert len(names) <= 7 * _AT_ONCE
    assert abs(page.evaluate("document.documentElement.scrollHeight") - height) < 400
    assert window.troubles == []


def test_what_is_ticked_stays(open_window: Callable[..., Any], many: list[str]) -> None:
    """However far away it is: what is done to all that is ticked must find it."""
    window = open_window()
    window.log_in()
    page = window.open("/destinations")
    page.mouse.move(600, 600)
    _scroll(page, 2000, lambda names: many[149] in names)
    page.evaluate(
        """() => {
          const row = [...document.querySelectorAll('main tbody tr')].find((each) => each.textContent.includes('place 0120'));
          const box = Object.assign(document.createElement('input'), { type: 'checkbox', checked: true });
          row.firstElementChild.append(box);
        }"""
    )
    _scroll(page, 2000, lambda names: names[-1] == many[-1])
    page.wait_for_timeout(500)
    names = page.evaluate(_NAMES)
    assert many[119] in names
    assert many[199] not in names
