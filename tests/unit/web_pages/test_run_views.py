"""What a run measured as pictures: phases, the way, the course of a transfer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamswarm import contract
from web.pages import run_views

HTTP = contract.kind("http")


def test_phases_follow_each_other() -> None:
    """Each begins where the one before ends, in the order of the contract; what was not measured is left out."""
    (drawn,) = run_views.waterfalls(
        HTTP, {"dns_ms": 10.0, "connect_ms": 30.0, "tls_ms": None, "ttfb_ms": 60.0, "transfer_ms": 100.0}, {}
    )
    assert [(phase.label, phase.x, phase.width) for phase in drawn.phases] == [
        ("Name resolution", 0.0, 5.0),
        ("TCP connect", 5.0, 15.0),
        ("Server processing", 20.0, 30.0),
        ("Transfer", 50.0, 50.0),
    ]
    assert drawn.total == "200\u00a0ms"


def test_each_request_has_a_waterfall_of_its_own() -> None:
    """A run that was redirected has one for each row; phases are never summed over them."""
    rows = {"1": {"connect_ms": 1.0, "ttfb_ms": 1.0}, "2": {"connect_ms": 3.0, "ttfb_ms": 1.0}}
    drawn = run_views.waterfalls(HTTP, {"connect_ms": 3.0, "ttfb_ms": 1.0}, {"hops": rows})
    assert [(one.title, one.total) for one in drawn] == [("Number 1", "2\u00a0ms"), ("Number 2", "4\u00a0ms")]


def test_a_single_phase_is_no_waterfall() -> None:
    """Nor are none."""
    assert run_views.waterfalls(HTTP, {"connect_ms": 30.0}, {}) == ()
    assert run_views.waterfalls(contract.kind("ping"), {"rtt_avg_ms": 1.0}, {}) == ()


def hop(ttl: int, *answers: dict[str, Any]) -> dict[str, Any]:
    """Return a hop in the shape of RIPE Atlas."""
    return {"hop": ttl, "result": list(answers)}


def test_the_way_is_a_graph() -> None:
    """A node for each who answered, a line for each flow from one hop to the next, also past a silent one."""
    way = run_views.path(
        {
            "hops": [
                hop(1, {"from": "10.0.0.1", "rtt": 1.0}, {"from": "10.0.0.1", "rtt": 3.0, "flow": 1}),
                hop(
                    2,
                    {"from": "10.0.1.1", "rtt": 5.0},
                    {"from": "10.0.1.2", "rtt": 6.0, "flow": 1, "name": "b"},
                ),
                hop(3, {"x": "*"}, {"x": "*", "flow": 1}),
                hop(4, {"from": "192.0.2.1", "rtt": 10.0}),
            ]
        }
    )
    assert way is not None
    assert [one.routers for one in way.hops] == [
        (("10.0.0.1", ""),),
        (("10.0.1.1", ""), ("10.0.1.2", "b")),
        (),
        (("192.0.2.1", ""),),
    ]
    assert [answered for *_, answered in way.nodes] == [True, True, True, False, True]
    assert len(way.lines) == 5, "two to the second hop, two from it, one to the last"
    assert (way.hops[0].text, way.hops[0].x, way.hops[0].width) == ("1\u00a0ms to 3\u00a0ms", 10.0, 20.0)
    assert (way.hops[2].lost, way.hops[2].sent, way.hops[2].text) == (2, 2, "")
    assert way.slowest == "10\u00a0ms"


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"hops": None},
        {"hops": []},
        {"hops": [1]},
        {"hops": [{"hop": 1}]},
        {"hops": [{"hop": 1, "result": [{"x": "*"}]}]},
        {"hops": [{"hop": 1, "result": ["?"]}]},
        {"hops": [{"hop": 1, "result": [{"from": "a", "rtt": "fast"}]}]},
        {"hops": [{"url": "https://example.org/", "status": 200}]},
    ],
)
def test_what_is_no_way_is_no_picture(detail: dict[str, Any]) -> None:
    """Details of other kinds, and of workers that write them otherwise."""
    assert run_views.path(detail) is None


def test_the_course_of_a_transfer_lifts_the_pen() -> None:
    """A line for each figure that was measured; where it was not, there is a hole."""
    length, drawn = run_views.courses(
        {
            "timeline": {
                "t_ms": [0, 50, 100, 150],
                "cwnd": [10, 20, None, 40],
                "rtt_ms": [None] * 4,
                "bytes": [0, 1, 2],
            }
        }
    )
    assert length == "150\u00a0ms"
    (cwnd,) = drawn
    assert (cwnd.label, cwnd.top, cwnd.last) == ("Cwnd", "40", "40")
    assert cwnd.path.count("M") == 2
    assert cwnd.path.count("L") == 1


@pytest.mark.parametrize(
    "timeline", [None, 1, {}, {"t_ms": [0]}, {"t_ms": "x"}, {"t_ms": [0, None], "a": [1, 2]}]
)
def test_what_is_no_course_is_no_picture(timeline: Any) -> None:
    """Anything else than columns of equal length over time."""
    assert run_views.courses({"timeline": timeline}) == ("", ())


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_detail_breaks_the_page(value: Any) -> None:
    """Workers write details as they like."""
    run_views.path({"hops": value})
    run_views.courses({"timeline": value})
    run_views.courses({"timeline": {"t_ms": [0, 1], "a": value}})
    run_views.path({"hops": [{"hop": 1, "result": value}]})
    run_views.path({"hops": [{"hop": 1, "result": [value]}]})
