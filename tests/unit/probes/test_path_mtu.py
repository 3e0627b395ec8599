"""The search for a path's MTU, against paths that report, lie, keep silent, or lose packets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation.path_mtu import Search


def searched(
    search: Search, path_mtu: int, *, reporting: bool, hole: int = 100_000, says: int | None = None
) -> int:
    """Answer a search as a path does; return how many sizes it took.

    Packets up to `path_mtu` pass. Larger ones are reported if the path is reporting, but from `hole` on all vanish.
    """
    sizes = 0
    while (size := search.next_size()) is not None:
        sizes += 1
        assert sizes < 100, "the search does not end"
        if size >= hole:
            search.vanished(size)
        elif size <= path_mtu:
            search.passed(size)
        elif reporting:
            search.too_big(size, path_mtu if says is None else says)
        else:
            search.vanished(size)
    return sizes


def test_a_path_that_carries_everything_takes_one_size() -> None:
    """The largest packet passes: nothing limits the path."""
    search = Search(68, 1500)
    assert searched(search, 9000, reporting=True) == 1
    assert (search.passing, search.limited, search.vanishing) == (1500, False, None)


def test_a_report_is_used_and_checked() -> None:
    """Three sizes: the largest, the reported one, and the next larger one."""
    search = Search(68, 9000)
    assert searched(search, 1400, reporting=True) == 3
    assert (search.passing, search.reported, search.limited, search.vanishing) == (1400, 1400, True, None)


@given(st.integers(68, 8999))
def test_a_black_hole_is_found_to_the_byte(path_mtu: int) -> None:
    """Without reports by halving, in at most 15 sizes."""
    search = Search(68, 9000)
    assert searched(search, path_mtu, reporting=False) <= 15
    assert (search.passing, search.vanishing) == (path_mtu, path_mtu + 1)
    assert search.reported is None


@given(st.integers(68, 8000), st.integers(1, 900))
def test_a_black_hole_above_reported_sizes_is_found_too(path_mtu: int, above: int) -> None:
    """One router reports, another one before it does not."""
    search = Search(68, 9000)
    searched(search, path_mtu, reporting=True, hole=path_mtu + above)
    assert (search.passing, search.vanishing) == (path_mtu, path_mtu + above)


@given(st.integers(68, 8999), st.integers(0, 70_000))
def test_a_wrong_report_does_not_mislead(path_mtu: int, says: int) -> None:
    """Whatever a router says, the limit is what passes."""
    search = Search(68, 9000)
    searched(search, path_mtu, reporting=True, says=says)
    assert search.passing == path_mtu
    assert search.vanishing is None


def test_a_size_that_is_answered_after_all_reopens_the_search() -> None:
    """Losses were taken for a limit: the confirmation's answer brings the search up again."""
    search = Search(68, 1500)
    search.vanished(1500)
    search.passed(784)
    search.passed(1499)
    assert search.next_size() is None
    search.passed(1500)
    assert (search.passing, search.limited, search.vanishing) == (1500, False, None)
    assert search.next_size() is None
