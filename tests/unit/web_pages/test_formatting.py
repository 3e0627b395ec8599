"""Numbers with units and sensible precision, instants relative and exact."""

from __future__ import annotations

import datetime as dt

import pytest

from web.pages.formatting import ago, exact, marked, number, plural, quantity, shown, span, time_tag

NOW = dt.datetime(2030, 1, 31, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.3456, "ms", "12.3 ms"),
        (0.0421, "ms", "42.1 µs"),
        (123456.0, "ms", "2 min 3 s"),
        (0.0, "ms", "0 ms"),
        (-2.6, "ms", "\u22122.60 ms"),
        (99.96, "%", "100.0 %"),
        (1536, "By", "1.50 KiB"),
        (10 * 1024**3, "By", "10 GiB"),
        (2048.0, "By/s", "2 KiB/s"),
        (1234567, "1", "1\u202f234\u202f567"),
        (90061.0, "s", "1 d 1 h"),
        (41.5, "Cel", "41.5 °C"),
        (True, "1", "yes"),
        (None, "ms", "\u2013"),
        (float("nan"), "ms", "\u2013"),
    ],
)
def test_a_quantity_has_its_unit_and_three_digits(value: float | None, unit: str, text: str) -> None:
    """What was not measured is a dash, never a zero."""
    assert quantity(value, unit).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "now"),
        (12, "12 s ago"),
        (180, "3 min ago"),
        (7200, "2 h ago"),
        (200000, "2 d ago"),
        (-90, "in 2 min"),
    ],
)
def test_an_instant_is_told_from_now(seconds: float, text: str) -> None:
    """Past and future, in one unit."""
    assert ago(NOW - dt.timedelta(seconds=seconds), NOW).replace("\u00a0", " ") == text


def test_a_time_tag_carries_the_exact_instant() -> None:
    """Text is relative, title and attribute are exact, in UTC, whatever zone the instant came in."""
    zone = dt.timezone(dt.timedelta(hours=2))
    tag = str(time_tag(NOW.astimezone(zone)))
    assert 'datetime="2030-01-31T12:00:00.000Z"' in tag
    assert f'title="{exact(NOW)}"' in tag
    assert exact(NOW) == "2030-01-31 12:00:00.000 UTC"
    assert "never" in time_tag(None)


def test_words_and_spans() -> None:
    """One thing, several things, and lengths of time."""
    assert plural(1, "job") == "1\u00a0job"
    assert plural(2, "thing needs", "things need") == "2\u00a0things need"
    assert span(2.5) == "2.50\u00a0s"
    assert span(120) == "2\u00a0min"
    assert number(0.00004) == "0.0000"
    assert shown({"cpus": 4, "tags": ["a", "b"], "gone": None}) == "cpus: 4, tags: a, b, gone: \u2013"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("use `streamswarm up`, then `x < 1`", "use <code>streamswarm up</code>, then <code>x &lt; 1</code>"),
        ("<b>`<i>`</b>", "&lt;b&gt;<code>&lt;i&gt;</code>&lt;/b&gt;"),
        ("one ` alone", "one ` alone"),
        ("none in ``", "none in ``"),
        ("", ""),
    ],
)
def test_code_in_messages_is_marked_and_nothing_else(text: str, html: str) -> None:
    """What stands in backticks is shown as code; markup in a message stays text."""
    assert marked(text) == html
