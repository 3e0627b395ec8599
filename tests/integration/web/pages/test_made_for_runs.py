"""Tests that others have made for one run each, of which there may be thousands: they do not drown what people made."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import update

from controller.store.entities import Test


@pytest.fixture
def made(rows) -> dict[str, int]:
    """A test that makes tests, two that it has made, and one of its own."""
    place = rows.destination("router", "192.0.2.1")
    origin = rows.test("Nightly", "tcp", destinations=[place], interval_s=3600, recurrence="new_test")
    rows.test("Alpha", "tcp", destinations=[place])
    for number in range(2):
        run = rows.test(f"Nightly, {number}", "tcp", destinations=[place], interval_s=None)
        at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=number)
        rows.execute(update(Test).where(Test.id == run).values(origin_id=origin, origin_at=at))
    return {"origin": origin, "place": place, "run": run}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"Nightly", "Alpha"}),
        ("?q=night", {"Nightly"}),
        ("?made=too", {"Nightly", "Alpha", "Nightly, 0", "Nightly, 1"}),
        ("?made=only", {"Nightly, 0", "Nightly, 1"}),
        ("?origin={origin}", {"Nightly, 0", "Nightly, 1"}),
        ("?origin={origin}&q=1", {"Nightly, 1"}),
    ],
)
def test_the_list_hides_them_unless_asked_for(
    operator, made: dict[str, int], query: str, names: set[str]
) -> None:
    """A filter shows them, and so does the list of what one test has made."""
    page = operator.get(f"/tests{query.format(**made)}")
    assert {
        name for name in ("Nightly", "Alpha", "Nightly, 0", "Nightly, 1") if f">{name}</a>" in page
    } == names


def test_they_are_reached_from_what_made_them(operator, made: dict[str, int]) -> None:
    """Its page leads to them, and a search among them stays there."""
    page = operator.get(f"/tests/{made['origin']}")
    assert f'href="/tests?origin={made["origin"]}"' in page
    assert "Each run is a test of its own" in page
    assert "No worker runs this test" not in page
    listed = operator.get(f"/tests?origin={made['origin']}")
    assert f'<input type="hidden" name="origin" value="{made["origin"]}">' in listed
    assert f'<a href="/tests/{made["origin"]}">the test that repeats</a>' in listed


def test_the_overview_counts_them_apart(operator, made: dict[str, int]) -> None:
    """Neither in the states, nor among what needs attention; nor does what makes them lack a worker."""
    page = operator.get("/")
    assert "2<small> / 2</small>" in page.partition("Tests running")[2]
    assert '<a href="/tests?made=only">2 made for one run each</a>' in page
    assert "Nightly, 0" not in page
    attention = page.partition('aria-labelledby="attention"')[2].partition("</section>")[0]
    assert ">Alpha</a>" in attention
    assert "Nightly" not in attention


def test_a_destination_counts_them(operator, made: dict[str, int]) -> None:
    """The tests that aim at it are those that people made; of the others only how many there are."""
    page = operator.get(f"/destinations/{made['place']}")
    assert "And 2\u00a0tests that others have made" in page
    assert ">Alpha</a>" in page
    assert "Nightly, 0" not in page
