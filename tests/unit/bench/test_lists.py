"""What the benchmark of pages asks of a page is what the page offers."""

from __future__ import annotations

from bench.pages.lists import NEEDLES, following, variants

LIST = """
<a href="/tests/new">New</a><a href="/tests?only=bad#results">Only bad ones</a><a href="/workers?q=1">Others</a>
<form role="search" action="/tests">
  <input type="search" name="q"><input type="hidden" name="origin" value="3">
  <select name="kind"><option value="">all</option><option value="ping">a</option><option value="tcp">b</option>
    <option value="dns">c</option></select>
  <select name="sort"><option value="">by name</option><option value="kind">by kind</option>
    <option value="newest">newest first</option><option value="oldest">oldest first</option></select>
</form>
<form action="/tests/bulk"><select name="verb"><option value="pause">Pause</option></select></form>
<button hx-get="/tests?kind=ping&amp;cursor=abc">Show more</button>
"""


def test_a_list_is_asked_for_all_that_its_form_offers() -> None:
    """Each search and order, both ends of each filter, links to itself; nothing of what changes something."""
    assert variants("/tests", LIST) == [
        "/tests?only=bad",
        *(f"/tests?q={needle}" for needle in NEEDLES),
        "/tests?kind=ping",
        "/tests?kind=dns",
        "/tests?sort=kind",
        "/tests?sort=newest",
        "/tests?sort=oldest",
    ]


def test_rows_that_follow_are_found() -> None:
    """By the button that asks for them; at the end there is none."""
    assert following(LIST) == "/tests?kind=ping&cursor=abc"
    assert following("<table><tr><td>the last</td></tr></table>") == ""
