"""Charts follow from the contract: each metric on one chart, charts of one unit, the headline's first."""

from __future__ import annotations

import pytest

from streamswarm import contract
from streamswarm.contract import Kind
from web.pages.charts import chart_groups
from web.pages.rows import sections


@pytest.mark.parametrize("kind", list(contract.kinds().values()), ids=lambda kind: kind.name)
def test_every_metric_is_on_exactly_one_chart(kind: Kind) -> None:
    """Nothing is left out, nothing stands twice, and no chart mixes units."""
    groups = chart_groups(kind)
    names = [metric.name for group in groups for metric in group.metrics]
    assert sorted(names) == sorted(metric.name for metric in kind.metrics)
    for group in groups:
        assert {metric.unit for metric in group.metrics} == {group.unit}
        assert group.first in group.metrics
    assert len({group.slug for group in groups}) == len(groups)
    assert len({group.title for group in groups}) == len(groups)


@pytest.mark.parametrize("kind", list(contract.kinds().values()), ids=lambda kind: kind.name)
def test_the_headline_comes_first_and_folded_charts_last(kind: Kind) -> None:
    """The chart of the headline metric is drawn large; those that stand open come before the folded ones."""
    groups = chart_groups(kind)
    assert groups[0].first is kind.headline
    assert [group.first_of_all for group in groups] == [True] + [False] * (len(groups) - 1)
    assert [group.main for group in groups] == sorted((group.main for group in groups), reverse=True)


@pytest.mark.parametrize(
    "kind", [kind for kind in contract.kinds().values() if kind.children], ids=lambda kind: kind.name
)
def test_every_metric_of_a_repeated_group_is_on_exactly_one_chart(kind: Kind) -> None:
    """Each group has a section of its own, some charts of it stand open, and no two charts of the page share an id."""
    found = sections(kind)
    assert [section.child for section in found] == list(kind.children)
    for section in found:
        groups = (*section.charts, *section.more)
        names = [metric.name for group in groups for metric in group.metrics]
        assert sorted(names) == sorted(metric.name for metric in section.child.metrics)
        assert section.charts
    slugs = [group.slug for section in found for group in (*section.charts, *section.more)]
    slugs += [group.slug for group in chart_groups(kind)]
    assert len(set(slugs)) == len(slugs)


def test_only_a_path_is_shown_hop_by_hop_from_the_beginning() -> None:
    """Other groups are folded away until somebody asks: each costs a question to the database."""
    assert [section.open for section in sections(contract.kind("traceroute"))] == [True]
    assert [section.open for section in sections(contract.kind("qos"))] == [True, False]
    assert [section.open for section in sections(contract.kind("system"))] == [False, False]


def test_a_spread_is_found_by_the_names_of_its_metrics() -> None:
    """Smallest, middle, and what lies above it from the largest down; loss is the kind's."""
    first = chart_groups(contract.kind("ping"))[0]
    assert first.smoke == {
        "low": "rtt_min_ms",
        "center": "rtt_median_ms",
        "tops": ["rtt_max_ms", "rtt_p99_ms", "rtt_p95_ms", "rtt_p90_ms"],
        "loss": "loss_pct",
    }
    assert [group.smoke for group in chart_groups(contract.kind("system"))] == [None] * len(
        chart_groups(contract.kind("system"))
    )
