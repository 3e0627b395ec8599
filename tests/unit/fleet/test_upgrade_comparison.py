"""What a comparison says of made-up histories: what it must find, and how seldom it finds what is not there.

Every history has its seed, so a test that passes passes always.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support.histories import Deed, Maker, World, broken, changed, losing, slower

from controller.fleet.upgrades import report
from controller.fleet.upgrades.comparison import Judgement, Verdict, compare, enough
from controller.fleet.upgrades.statistics import Level

#: A network as networks are; see `World` for what each number means.
REAL: dict[str, float] = {
    "weather": 0.05,
    "day": 0.2,
    "own_day": 0.1,
    "loss": 0.002,
    "outages": 0.0005,
    "gaps": 0.0005,
    "changes": 0.05,
}


def judged(seed: int, *, release: Deed | None = None, liar: Deed | None = None, **world: Any) -> Judgement:
    """Judge one history."""
    deeds = {name: deed for name, deed in (("release", release), ("liar", liar)) if deed}
    history = Maker(world=World(**{**REAL, **world}), **deeds).history(seed)
    return compare(history.upgraded, history.control)


def alarms(trials: int, **world: Any) -> int:
    """Return how many histories are found worse."""
    return sum(judged(seed, **world).verdict is Verdict.WORSE for seed in range(trials))


@pytest.mark.parametrize("controls", [0, 1, 2, 3, 10])
def test_a_good_release_is_hardly_ever_taken_for_a_bad_one(controls: int) -> None:
    """However few hosts there are to compare with; without any, changes of the network for all are kept out."""
    # At one in a hundred, three of 40 come by chance once in 120 such tests.
    changes = REAL["changes"] if controls else 0.0
    assert alarms(40, controls=controls, changes=changes) <= 2


@pytest.mark.parametrize("controls", [1, 3])
@pytest.mark.parametrize("change", [{"change": 0.7}, {"added_ms": 50.0}])
def test_a_network_that_changes_for_all_is_not_the_release(controls: int, change: dict[str, float]) -> None:
    """Neither when all ways take twice as long, nor when they all take 50 ms more, which short ones feel most."""
    assert alarms(20, controls=controls, outages=0.0, **change) == 0


def test_a_fifth_more_is_found() -> None:
    """By one canary with three jobs, also in a network that is not quiet."""
    assert alarms(20, release=slower(1.2), weather=0.0, day=0.0, own_day=0.0) >= 19
    assert alarms(20, release=slower(1.2)) >= 15


def test_a_release_that_breaks_a_third_of_the_jobs_is_found_and_they_are_named() -> None:
    """As one that cannot do IPv6: in the middle over all jobs nothing is to be seen."""
    for seed in range(10):
        found = judged(seed, destinations=9, outages=0.0, release=broken([0, 1, 2]))
        assert found.verdict is Verdict.WORSE
        said = list(report.lines(found))
        for place in (0, 1, 2):
            assert any(f"new0: ping to place{place}" in line for line in said), said
        assert not any("place5" in line for line in said)


def test_a_third_of_the_runs_of_one_job_in_nine_is_not_hidden_by_the_others() -> None:
    """It fails three of four times; the others are well."""

    def release(host: str, destination: int, runs: Any) -> Any:
        return [changed(run, ok=False) if destination == 0 and at % 4 else run for at, run in enumerate(runs)]

    found = judged(1, destinations=9, outages=0.0, release=release)
    assert [
        (each.level, each.where) for each in found.findings if each.worse and each.level is Level.LINE
    ] == [(Level.LINE, "new0: ping to place0")]


def test_one_slow_host_of_a_batch_is_found_and_named() -> None:
    """Half as long again on one of four hosts."""
    for seed in range(5):
        found = judged(seed, upgraded=4, release=slower(1.5, hosts=["new1"]))
        assert "new1" in {each.where for each in found.findings if each.worse}


def test_one_job_that_takes_twice_as_long_is_found() -> None:
    """Though two others of the canary are as they were."""
    assert alarms(20, release=slower(2.0, at=[0])) >= 12


@pytest.mark.parametrize("controls", [3, 10])
def test_one_control_host_that_lies_neither_hides_a_bad_release_nor_accuses_a_good_one(controls: int) -> None:
    """It tells ten times its times, or a tenth."""
    wild = slower(10.0, hosts=["old0"])
    assert alarms(5, controls=controls, liar=wild, release=slower(1.5)) == 5
    for factor in (10.0, 0.1):
        assert alarms(5, controls=controls, outages=0.0, liar=slower(factor, hosts=["old0"])) == 0


def test_an_outage_of_one_of_many_lines_is_bad_luck() -> None:
    """Twenty jobs: that one of them begins to fail for five runs just then is no rare thing, and no release's doing."""

    def outage(host: str, destination: int, runs: Any) -> Any:
        return [
            changed(run, ok=False, metrics={"loss_pct": 100.0}) if destination == 7 and 3 <= at < 8 else run
            for at, run in enumerate(runs)
        ]

    for seed in range(3):
        assert judged(seed, destinations=20, changes=0.0, release=outage).verdict is Verdict.NOT_WORSE


def test_what_fails_for_good_is_broken_whatever_one_control_host_does() -> None:
    """Of two control hosts one fails too, the other shows that the destination is there."""
    fails = broken([0, 1, 2])
    for seed in range(10):
        found = judged(
            seed,
            controls=2,
            release=fails,
            liar=lambda host, place, runs: fails(host, place, runs) if host == "old0" else runs,
            outages=0.0,
        )
        assert [each.fault for each in found.broken] == ["fails"] * 3
        assert {each.well for each in found.broken} == {("old1",)}


def test_a_destination_that_is_gone_for_all_is_the_network() -> None:
    """Nobody reaches it."""
    fails = broken([0])
    found = judged(3, release=fails, liar=fails, outages=0.0)
    assert (found.verdict, found.broken) == (Verdict.NOT_WORSE, ())


def test_a_job_that_delivers_nothing_any_more_is_broken() -> None:
    """Nothing, or hardly any of what was due; and nobody waits longer for it."""

    def release(host: str, destination: int, runs: Any) -> Any:
        return {0: [], 1: runs[:3]}.get(destination, runs)

    found = judged(2, release=release)
    assert found.verdict is Verdict.WORSE
    said = [report.breakage(each) for each in found.broken]
    assert said == [
        "new0: ping to place0 delivers nothing: a run every 30 s before, 0 of 11 runs that were due since; "
        "not so on 3 hosts (old0, old1, old2) without the release",
        "new0: ping to place1 delivers too little: a run every 30 s before, 3 of 11 runs that were due since; "
        "not so on 3 hosts (old0, old1, old2) without the release",
    ]
    lines = Maker(world=World(**REAL), release=release).history(2).upgraded
    assert enough(lines, within_s=900.0)
    assert not enough([dataclasses.replace(line, watched_s=60.0) for line in lines], within_s=900.0)


@pytest.mark.parametrize(
    ("well", "badly", "sufficient"),
    [(9, 0, False), (10, 0, True), (9, 1, False), (1, 9, False), (0, 10, True), (9, 11, True), (10, 1, True)],
)
def test_runs_that_failed_are_no_values_to_compare(well: int, badly: int, sufficient: bool) -> None:
    """A network that changes costs a run or two; twice as many are waited for, of what fails always none."""
    [line, *_] = Maker(world=World()).history(0).upgraded
    run = dataclasses.replace(line.after[0], ok=True)
    after = [run] * well + [dataclasses.replace(run, ok=False)] * badly
    seen = dataclasses.replace(line, after=after, watched_s=0.0)
    assert enough([seen], within_s=900.0) is sufficient
    never_well = [dataclasses.replace(run, ok=False) for run in line.before]
    assert enough([dataclasses.replace(seen, before=never_well)], within_s=900.0) is (well + badly >= 10)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_release_that_loses_some_runs_is_found(share: float) -> None:
    """Nothing fails, and what comes is as it was: only that runs were due which never came tells."""
    found = [judged(seed, runs=20, release=losing(share, seed=seed)) for seed in range(20)]
    assert sum(each.verdict is Verdict.WORSE for each in found) >= 19
    named = {finding.quantity for each in found for finding in each.findings if finding.worse}
    assert "runs that were not delivered" in named
    said = "\n".join(report.lines(found[0]))
    assert "ping, runs that were not delivered: 0 % before, " in said
    one = [judged(seed, runs=20, release=losing(0.4, [0], seed=seed)) for seed in range(20)]
    assert sum(each.verdict is Verdict.WORSE for each in one) >= 15


def test_runs_that_nobody_delivers_are_not_the_release() -> None:
    """The controller was away, or the schedule is not what it says: other hosts lost them too."""

    def away(host: str, destination: int, runs: Any) -> Any:
        return [run for at, run in enumerate(runs) if at not in (4, 5, 9, 13)]

    for seed in range(5):
        found = judged(seed, runs=20, outages=0.0, gaps=0.0, release=away, liar=away)
        assert found.verdict is Verdict.NOT_WORSE


def test_a_job_that_nobody_gets_results_of_is_not_broken_by_the_release() -> None:
    """Its schedule may have ended, or somebody paused it."""

    def ended(host: str, destination: int, runs: Any) -> Any:
        return [] if destination == 0 else runs

    assert judged(2, release=ended, liar=ended).broken == ()


def test_runs_that_end_well_without_their_metrics_are_broken() -> None:
    """A release that measures and tells nothing; no comparison of values would show it."""

    def release(host: str, destination: int, runs: Any) -> Any:
        return [changed(run, metrics={"loss_pct": 0.0}) for run in runs]

    found = judged(4, release=release, controls=1)
    assert {each.fault for each in found.broken} == {"brings no RTT minimum, RTT average"}
    said = next(report.lines(found))
    assert said.startswith(
        "broken: new0: ping to place0 brings no RTT minimum, RTT average: 0 of 100 runs before, all 11 "
    )


def test_without_anybody_to_compare_with_the_past_decides_and_that_is_said() -> None:
    """Half as long again is found, and the report says what it cannot tell apart."""
    found = judged(1, controls=0, changes=0.0, release=slower(1.5))
    assert found.verdict is Verdict.WORSE
    said = "\n".join(report.lines(found))
    assert "nobody without it measured that" in said
    assert "no host to compare with has enough runs of: ping; compared with the time before alone" in said


def test_control_hosts_that_never_reached_a_destination_say_nothing_of_it() -> None:
    """It is gone for the two that reached it; that the third fails as ever does not make it the release."""
    fails = broken([0])
    history = Maker(
        world=World(**{**REAL, "outages": 0.0, "controls": 2}),
        release=fails,
        liar=lambda host, place, runs: fails(host, place, runs) if host == "old0" else runs,
    ).history(3)
    control = [
        dataclasses.replace(
            line,
            **{name: [changed(run, ok=False) for run in getattr(line, name)] for name in ("before", "after")},
        )
        if line.host == "old1"
        else line
        for line in history.control
    ]
    assert compare(history.upgraded, control).broken == ()


def test_a_metric_that_is_missing_every_second_time_is_broken() -> None:
    """What remains of it is as it was, and too little to compare."""

    def release(host: str, destination: int, runs: Any) -> Any:
        return [
            dataclasses.replace(
                run, metrics={name: value for name, value in run.metrics.items() if name != "rtt_avg_ms"}
            )
            if destination == 0 and at % 2
            else run
            for at, run in enumerate(runs)
        ]

    found = judged(4, outages=0.0, release=release)
    assert [(each.host, each.fault, each.after) for each in found.broken] == [
        ("new0", "often brings no RTT average", "5 of 11 runs")
    ]
