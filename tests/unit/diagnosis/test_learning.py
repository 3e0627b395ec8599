"""What is normal and what is not: quiet series of every shape raise no alarm, faults are noticed within five runs."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterable, Sequence

import pytest
from support.series import SHAPES, losses

from controller.diagnosis.learning.detector import ADAPT, Detector, _tail
from controller.diagnosis.learning.forest import Question, agrees
from controller.diagnosis.learning.model import JobModel, Run
from controller.diagnosis.learning.normal import LEAST, Normal
from controller.diagnosis.learning.season import Season, slot_of
from controller.diagnosis.learning.usual import LOOK_BACK, usual
from controller.diagnosis.watched import floor, watched
from streamswarm import contract

#: A Monday, midnight.
START = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
QUIET = 2000


class Line:
    """A job of a kind that is scored run after run, with its seasons and the forest's answers as in the keeper."""

    def __init__(self, kind: str = "ping", *, step: dt.timedelta = dt.timedelta(minutes=1)) -> None:
        self.kind = kind
        self.model = JobModel(kind)
        self.seasons: dict[int, Season] = {}
        self.step = step
        self.count = 0
        self.rows: list[list[float | None]] = []
        self.suspicions = 0
        self.calls = 0

    def run(self, values: dict[str, float | None], *, status: str = "ok", source: str = "none") -> None:
        """Score one more run, and ask the forest when there is a suspicion."""
        at = START + self.step * self.count
        season = self.seasons.setdefault(slot_of(at), Season())
        self.model.score(
            Run(at=at, status=status, source=source, error="", clock_offset_ms=None, values=values), season
        )
        self.rows.append([values.get(metric.name) for metric in watched(self.kind)])
        self.count += 1
        if self.model.suspected:
            self._ask()

    def _ask(self) -> None:
        first = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        odd = {at for detector in self.model.suspected for at in detector.beyond_us()}
        since = min(detector.since_us or 0 for detector in self.model.suspected)

        def index(at_us: int) -> int:
            return round((first + dt.timedelta(microseconds=at_us) - START) / self.step)

        begin = index(since)
        agreed = agrees(
            Question(
                quiet=usual(
                    self.rows[max(0, begin - LOOK_BACK) : begin][::-1],
                    [metric.name for metric in watched(self.kind)],
                    self.model.suspected,
                ),
                suspect=[self.rows[index(at)] for at in sorted(odd)],
            )
        )
        self.suspicions += 1
        self.calls += agreed
        self.model.judged(agreed)

    def called(self) -> set[str]:
        """Return the names of the metrics that are called."""
        return {name for name, one in self.model.detectors.items() if one.state == "called"}


@pytest.mark.parametrize("shape", SHAPES)
def test_quiet_runs_raise_no_alarm_and_fifty_milliseconds_are_named_within_five(shape: str) -> None:
    """Two thousand runs of each shape with single lost packets; then the delay, unless the noise itself is larger."""
    chance = random.Random(f"{shape} 1")
    line = Line()
    values = SHAPES[shape](chance, QUIET + 5)
    lost = losses(chance, QUIET, share=0.002, packets=20)
    for value, loss in zip(values, lost, strict=False):
        line.run({"rtt_avg_ms": value, "loss_pct": loss})
    assert line.count == QUIET
    assert line.calls == 0
    for value in values[QUIET:]:
        line.run({"rtt_avg_ms": value + 50.0, "loss_pct": 0.0})
    if shape != "log_normal":
        assert line.called() == {"rtt_avg_ms"}


def test_the_shape_that_hides_the_delay_has_it_in_its_own_noise() -> None:
    """The one exception above: every twentieth quiet run is fifty milliseconds slower than the middle one."""
    values = sorted(SHAPES["log_normal"](random.Random(1), QUIET))
    assert values[int(0.95 * QUIET)] - values[QUIET // 2] > 35.0


@pytest.mark.parametrize("packets", [20, 50])
def test_ten_percent_loss_is_named_within_five_runs(packets: int) -> None:
    """At least nine times of ten with twenty packets a run, and always with fifty; never before it."""
    named = 0
    for seed in range(10):
        chance = random.Random(seed)
        line = Line()
        for loss in losses(chance, 300, share=0.001, packets=packets):
            line.run({"rtt_avg_ms": 12.0 + chance.gauss(0, 0.5), "loss_pct": loss})
        assert line.calls == 0
        for loss in losses(chance, 5, share=0.1, packets=packets):
            line.run({"rtt_avg_ms": 12.0 + chance.gauss(0, 0.5), "loss_pct": loss})
        named += line.called() == {"loss_pct"}
    assert named >= (9 if packets == 20 else 10)


@pytest.mark.parametrize(
    ("kind", "usual", "fault"),
    [
        ("http", {"dns_ms": 8.0, "connect_ms": 20.0, "ttfb_ms": 40.0}, {"ttfb_ms": 900.0}),
        ("http", {"dns_ms": 8.0, "connect_ms": 20.0, "ttfb_ms": 40.0}, {"dns_ms": 1500.0}),
        ("dns", {"query_ms": 12.0}, {"query_ms": 400.0}),
        ("tcp", {"dns_ms": 5.0, "connect_ms": 20.0, "syn_retransmits": 0.0}, {"connect_ms": 70.0}),
        ("system", {"cpu_busy_pct": 20.0, "cpu_steal_pct": 0.5, "load1": 0.6}, {"cpu_busy_pct": 99.0}),
    ],
    ids=["slow server", "slow resolver", "slow name server", "slow path", "busy CPU"],
)
def test_other_kinds_need_nothing_of_their_own(
    kind: str, usual: dict[str, float], fault: dict[str, float]
) -> None:
    """What is watched and which side is bad comes from the contract: quiet first, then only the faulty metric."""
    chance = random.Random(kind)

    def noisy(values: dict[str, float]) -> dict[str, float | None]:
        return {name: value * chance.lognormvariate(0.0, 0.12) for name, value in values.items()}

    line = Line(kind)
    for _ in range(QUIET):
        line.run(noisy(usual))
    assert line.calls == 0
    for _ in range(5):
        line.run(noisy({**usual, **fault}))
    assert line.called() == set(fault)


def test_the_right_side_is_bad() -> None:
    """Faster is no anomaly, and a metric of which more is better is bad when there is less."""
    line = Line()
    for _ in range(200):
        line.run({"rtt_avg_ms": 80.0, "loss_pct": 0.0})
    for _ in range(20):
        line.run({"rtt_avg_ms": 8.0, "loss_pct": 0.0})
    assert line.suspicions == 0
    days = contract.kind("http").metric("cert_days_left")
    normal = Normal(days, [60.0 + index % 3 for index in range(LEAST)])
    assert normal.beyond(20.0)
    assert not normal.beyond(90.0)
    shown = normal.range()
    assert shown.low < 60.0 <= shown.normal <= 62.0 == shown.high


def test_it_abstains_while_data_are_short() -> None:
    """Until thirty good runs were measured nothing is suspected, and it says how many are missing."""
    line = Line()
    for index in range(LEAST - 1):
        line.run({"rtt_avg_ms": 10.0 if index % 2 else 900.0, "loss_pct": 0.0})
        assert line.model.needed == LEAST - 1 - index
    line.run({"rtt_avg_ms": None, "loss_pct": 100.0}, status="failed", source="network")
    line.run({}, status="missed", source="schedule")
    assert line.model.needed == 1
    assert line.suspicions == 0
    line.run({"rtt_avg_ms": 10.0, "loss_pct": 0.0})
    assert line.model.needed == 0


def test_a_fault_ends_and_what_lasts_becomes_normal() -> None:
    """Five good runs end an anomaly; a new level that stays for hundreds of runs is what is normal now."""
    line = Line()
    chance = random.Random(3)

    def measure(level: float, count: int) -> None:
        for _ in range(count):
            line.run({"rtt_avg_ms": chance.gauss(level, 0.5), "loss_pct": 0.0})

    measure(12.0, 300)
    measure(62.0, 5)
    assert line.called()
    measure(12.0, 5)
    assert not line.called()
    measure(62.0, 5)
    assert line.called()
    measure(62.0, ADAPT)
    assert not line.called()
    detector = line.model.detectors["rtt_avg_ms"]
    assert 60 < detector.normal.range().normal < 64
    measure(12.0, 300)
    assert not line.called()


def test_a_spike_is_no_anomaly_and_is_learnt() -> None:
    """Single slow runs raise nothing, and when they come often they are part of what is normal."""
    line = Line()
    for index in range(1500):
        line.run({"rtt_avg_ms": 300.0 if index % 25 == 24 else 12.0, "loss_pct": 0.0})
    assert line.suspicions == 0
    assert 300.0 in line.model.detectors["rtt_avg_ms"].normal.values


def test_an_hour_of_the_week_that_is_always_slow_is_usual_from_the_fourth_week() -> None:
    """A backup on one night: called in the first weeks, not any more when three weeks have shown it; a fault still is."""
    line = Line(step=dt.timedelta(minutes=6))
    chance = random.Random(5)
    calls = []
    for week in range(5):
        before = line.calls
        for index in range(7 * 24 * 10):
            backup = index // 10 == 26
            more = 120.0 if backup else 0.0
            if week == 4 and 0 < index - 300 <= 5:
                more = 120.0
            line.run({"rtt_avg_ms": 12.0 + more + chance.gauss(0, 0.5), "loss_pct": 0.0})
        calls.append(line.calls - before)
    assert calls == [1, 1, 1, 0, 1]


def test_a_bad_week_does_not_become_usual() -> None:
    """The limit is the middle one of the weeks."""
    metric = contract.kind("ping").metric("rtt_avg_ms")
    season = Season()
    at = START
    for week, level in enumerate((10.0, 10.0, 500.0, 10.0, 11.0)):
        assert season.limit(metric, at) is None or week >= 3
        for _ in range(10):
            season.learn(metric, level, at)
        at += dt.timedelta(weeks=1)
    limit = Season.load(json.loads(json.dumps(season.dump()))).limit(metric, at)
    assert limit is not None
    assert 10.0 < limit < 20.0
    assert slot_of(START) == 0
    assert slot_of(START + dt.timedelta(days=6, hours=23)) == 167


def test_a_week_does_not_excuse_itself() -> None:
    """What happens now is judged by other weeks: with two of them nothing is known yet, whatever this one had."""
    metric = contract.kind("ping").metric("rtt_avg_ms")
    season = Season()
    for week in range(3):
        for _ in range(10):
            season.learn(metric, 10.0, START + dt.timedelta(weeks=week))
    assert season.limit(metric, START + dt.timedelta(weeks=2)) is None
    assert season.limit(metric, START + dt.timedelta(weeks=3)) == pytest.approx(10.0 + floor(metric))


def test_the_edge_of_the_range_lies_six_deviations_from_the_middle() -> None:
    """For an even spread from 0 to 149 the quartiles lie 75 apart, which is 55.6 deviations of one."""
    metric = contract.kind("ping").metric("rtt_avg_ms")
    normal = Normal(metric, [float(value) for value in range(150)])
    assert normal.limit() == pytest.approx(74.5 + 6 * 75 / 1.349, rel=0.02)
    steady = Normal(metric, [100.0] * 50)
    assert steady.limit() == pytest.approx(110.0)
    assert Normal(metric, [1.0] * 50).limit() == pytest.approx(3.0)
    share = contract.kind("system").metric("cpu_busy_pct")
    assert Normal(share, [90.0] * 50).limit() == pytest.approx(95.0)


def test_a_model_survives_json() -> None:
    """A model that is stored and read after every run is the one that never was."""
    chance = random.Random(7)
    kept, stored = Line(), Line()
    for index in range(320):
        values: dict[str, float | None] = {
            "rtt_avg_ms": chance.lognormvariate(2.5, 0.3) + (60.0 if 300 <= index < 306 else 0.0),
            "loss_pct": 5.0 if chance.random() < 0.02 else 0.0,
        }
        kept.run(values)
        stored.run(values)
        stored.model = JobModel("ping", json.loads(json.dumps(stored.model.dump())))
    assert kept.calls == stored.calls == 1
    assert kept.model.dump() == stored.model.dump()
    assert len(json.dumps(kept.model.dump())) < 16_000


def test_the_forest_disagrees_with_what_is_usual() -> None:
    """Runs like the quiet ones are not lonely, in no metric; the same question has the same answer."""
    chance = random.Random(11)

    def rows(count: int, **more: float) -> list[list[float | None]]:
        return [[more.get("loss", 0.0), chance.gauss(12.0, 1.0) + more.get("rtt", 0.0)] for _ in range(count)]

    usual = Question(quiet=rows(300), suspect=rows(5))
    assert [agrees(usual) for _ in range(2)] == [False, False]
    assert agrees(Question(quiet=rows(300), suspect=rows(5, rtt=50.0)))
    assert agrees(Question(quiet=rows(300), suspect=rows(5, loss=10.0)))
    assert not agrees(Question(quiet=rows(300), suspect=[]))
    assert not agrees(Question(quiet=[[None, None]] * 50, suspect=[[None, 3.0]] * 3))
    unmeasured: Sequence[Sequence[float | None]] = [[row[0], None] for row in rows(300)]
    assert agrees(Question(quiet=unmeasured, suspect=[[10.0, None]] * 4))


def test_chance_is_counted_exactly() -> None:
    """The tail of the binomial distribution, at its ends and in between."""
    assert _tail(0, 5, 0.3) == pytest.approx(1.0)
    assert _tail(5, 5, 0.1) == pytest.approx(1e-5)
    assert _tail(4, 5, 0.5) == pytest.approx(6 / 32)


def test_what_is_watched_and_what_is_too_small_comes_from_the_contract() -> None:
    """Every kind has something to watch, with a bad side and a floor; nothing is a yes or no."""
    for kind in contract.kinds().values():
        metrics: Iterable[contract.Metric] = watched(kind.name)
        assert metrics
        assert kind.headline in metrics
        assert all(metric.better != "neither" and metric.type != "boolean" for metric in metrics)
        assert all(floor(metric) > 0 for metric in metrics)


def test_a_new_detector_is_empty() -> None:
    """Nothing is assumed before the first run."""
    detector = Detector.load(contract.kind("ping").headline, None)
    assert (detector.state, detector.needed) == ("learning", LEAST)


def test_a_fault_that_comes_back_is_called_each_time() -> None:
    """Ten episodes within a few hundred runs: the earlier ones do not pass for usual."""
    chance = random.Random("again")
    line = Line()
    for _ in range(200):
        line.run({"rtt_avg_ms": 10.0 + chance.random(), "loss_pct": 0.0})
    for episode in range(10):
        for _ in range(8):
            line.run({"rtt_avg_ms": 1000.0 + chance.random(), "loss_pct": 0.0})
        assert "rtt_avg_ms" in line.called(), f"episode {episode + 1}"
        for _ in range(12):
            line.run({"rtt_avg_ms": 10.0 + chance.random(), "loss_pct": 0.0})
        assert line.called() == set()
