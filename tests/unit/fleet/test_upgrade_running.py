"""A whole upgrade against a made-up fleet: which releases get through, which are returned, and what is said of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from controller.errors import NotFoundError, StreamSwarmError
from controller.fleet.events import HostRecap
from controller.fleet.operations import Recap
from controller.fleet.upgrades.comparison import Verdict
from controller.fleet.upgrades.left import left
from controller.fleet.upgrades.plan import plan
from controller.fleet.upgrades.running import Clock, Ended, Outcome, Terms, Upgrade
from controller.fleet.upgrades.telling import Judged
from streamswarm.zones import to_microseconds

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
OLD, NEW = "1.0+old", "1.1+new"
INTERVAL_S = 5.0


class Fleet(Clock):
    """Hosts that measure one destination every five seconds: the REST API, the playbooks and the time."""

    def __init__(
        self, hosts: int = 4, *, worse: float = 1.0, network: float = 1.0, fails: bool = False
    ) -> None:
        self._now = START + dt.timedelta(seconds=1000)
        self._chance = random.Random(1)
        self.release = {f"host{number}": OLD for number in range(1, hosts + 1)}
        self.connected = dict.fromkeys(self.release, START)
        #: Which release each host had since when, as its worker's sessions told.
        self.held = {host: [(START, OLD)] for host in self.release}
        self.worse, self.network, self.fails = worse, network, fails
        self.worse_on: dict[str, float] = {}
        #: What the host-side gate does with the new release; hosts that never deliver again.
        self.host_gate: set[str] = set()
        self.silent: set[str] = set()
        #: Hosts that measure another test.
        self.elsewhere: set[str] = set()
        #: Hosts whose workers somebody deletes while the canary is measured.
        self.deleted: set[str] = set()
        #: When the new release's workers end by themselves, in seconds after each start.
        self.ends_after_s = 0.0
        self.started: dict[str, dt.datetime] = {}
        #: What is said when the new release's workers end for good; whether each end is one of the whole host.
        self.ends_for_good = ""
        self.reboots = False
        #: Hosts whose SSH breaks while their own script brings the switch to its end, that never get so far, and how often
        #: a rollback does not reach a host.
        self.cut: set[str] = set()
        self.unreached: set[str] = set()
        self.deaf: dict[str, int] = {}
        self.interval_s = INTERVAL_S
        #: When the window of the job closes.
        self.closes = dt.datetime.max.replace(tzinfo=dt.UTC)
        self._runs: list[dict[str, Any]] = []
        self._measured = START
        self._upgraded_at = dt.datetime.max.replace(tzinfo=dt.UTC)
        self.said: list[str] = []
        #: Why hosts were returned, as the history has it.
        self.why: list[str] = []
        self.operations: list[dict[str, Any]] = []
        self.judged: list[Judged] = []
        self.stop_after = ""
        #: Since when the controller does not answer, and for how long.
        self.away_from = ""
        self.away_s = 0.0

    # -- the time ----------------------------------------------------------------------------------------------

    def now(self) -> dt.datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += dt.timedelta(seconds=seconds)
        for host, release in self.release.items():
            lives_s = (self._now - self.connected[host]).total_seconds()
            if release == NEW and 0 < self.ends_after_s < lives_s:
                self._measure()
                self._start(host)

    # -- the API -----------------------------------------------------------------------------------------------

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        self._measure()
        if self.away_from and any(self.away_from in line for line in self.said):
            self.away_s -= 1.0
            if self.away_s > 0:
                raise StreamSwarmError("the controller does not answer")
        if path == "/operations":
            return iter([each for each in self.operations[::-1] if query["host"] in each["hosts"]])
        if path.startswith("/operations/"):
            hosts = self.operations[int(path.split("/")[2])]["hosts"]
            return iter([{"host": host, "state": "ok", "changed": 1} for host in hosts])
        if path == "/workers":
            wanted = query.get("search", "")
            return iter([self._worker(host) for host in self.release if wanted in host])
        if path.endswith("/releases"):
            held = reversed(self.held[path.split("/")[2]])
            return iter([{"version": version, "since": since.isoformat()} for since, version in held])
        if path.startswith("/workers/"):
            host = path.split("/")[2]
            if host in self.deleted and any("measuring for" in line for line in self.said):
                raise NotFoundError(f"there is no worker {host}")
            mine = [run for run in self._runs if run["worker"] == host]
            return iter([self._job(host, mine[-1] if mine else None)])
        start, end = query.get("from", ""), query.get("to", "9999")
        found = [
            run
            for run in self._runs
            if run["worker"] == query["worker"] and start <= run["scheduled_at"] < end
        ]
        return iter(found[::-1])

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        raise AssertionError("an upgrade asks and changes nothing")

    def delete(self, path: str) -> None:
        raise AssertionError("an upgrade asks and changes nothing")

    def _worker(self, host: str) -> dict[str, Any]:
        return {
            "id": host,
            "host_name": host,
            "state": "offline" if self._is_dead(host) else "connected",
            "facts": {
                "boot_time_us": to_microseconds(self.started.get(host, START) if self.reboots else START)
                - 5_000_000,
                "started_at_us": to_microseconds(self.started.get(host, START)),
            },
            "version": self.release[host],
            "connected_at": self.connected[host].isoformat(),
            "jobs": 1,
        }

    def _is_dead(self, host: str) -> bool:
        return (
            self.release[host] == NEW
            and bool(self.ends_for_good)
            and any(self.ends_for_good in line for line in self.said)
        )

    def _job(self, host: str, latest: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "kind": "ping",
            "test_id": 2 if host in self.elsewhere else 1,
            "destination_id": 1,
            "destination_name": "office",
            "interval_s": self.interval_s,
            "live": True,
            "latest": latest,
            "first_due_at": (self.connected[host] + dt.timedelta(seconds=self.interval_s)).isoformat(),
            "last_due_at": min(self._measured, self.closes).isoformat(),
        }

    def _measure(self) -> None:
        while self._measured + dt.timedelta(seconds=self.interval_s) <= self._now:
            self._measured += dt.timedelta(seconds=self.interval_s)
            for host, release in self.release.items():
                closed = self._measured > self.closes
                if closed or host in self.silent or self._measured < self.connected[host]:
                    continue
                slower = self.worse_on.get(host, self.worse) if release == NEW else 1.0
                changed = self.network if self._measured > self._upgraded_at else 1.0
                value = 10.0 * slower * changed * self._chance.uniform(0.95, 1.05)
                failed = self.fails and release == NEW
                self._runs.append(
                    {
                        "worker": host,
                        "destination_id": 1,
                        "scheduled_at": self._measured.isoformat(),
                        "status": "failed" if failed else "ok",
                        "metrics": {
                            "rtt_avg_ms": None if failed else value,
                            "loss_pct": 100.0 if failed else 0.0,
                        },
                    }
                )

    # -- the playbooks -----------------------------------------------------------------------------------------

    def upgrade(self, hosts: Sequence[str]) -> Recap:
        self._measure()
        started = self._now
        recaps = []
        for host in hosts:
            if host in self.unreached:
                continue
            bad = host in self.host_gate
            recap = _recap(host, f"the release {NEW} was taken back: it ended 2 times" if bad else "")
            if not bad:
                self._set(host, NEW)
            if host in self.cut:
                recap = dataclasses.replace(
                    recap, unreachable=True, message="Timeout, server not responding", notes=()
                )
            recaps.append(recap)
        self._upgraded_at = min(self._upgraded_at, self._now)
        self._note("upgrade", hosts, started)
        return Recap(hosts=tuple(recaps))

    def roll_back(self, hosts: Sequence[str], bad_release: str, why: Sequence[str]) -> Recap:
        assert bad_release == NEW
        self.why = list(why)
        self._measure()
        started = self._now
        recaps = []
        for host in hosts:
            deaf = self.deaf.get(host, 0)
            self.deaf[host] = max(0, deaf - 1)
            if not deaf and self.release[host] == NEW:
                self._set(host, OLD)
            recaps.append(
                dataclasses.replace(_recap(host, "no route" if deaf else ""), unreachable=bool(deaf))
            )
        self._note("rollback", hosts, started)
        return Recap(hosts=tuple(recaps))

    def note(self, judged: Judged) -> None:
        self.judged.append(judged)
        self._note("judge", judged.hosts, self._now, state="failed" if judged.error else "succeeded")

    def _note(
        self, kind: str, hosts: Sequence[str], started: dt.datetime, *, state: str = "succeeded"
    ) -> None:
        self.operations.append(
            {
                "id": len(self.operations),
                "kind": kind,
                "state": state,
                "check": False,
                "hosts": tuple(hosts),
                "started_at": started.isoformat(),
                "finished_at": self._now.isoformat(),
            }
        )

    def return_by_hand(self, host: str) -> None:
        """Return a host to the release before as a playbook by itself does, of which the history knows nothing."""
        self._measure()
        self._set(host, OLD)

    def _set(self, host: str, release: str) -> None:
        self.release[host] = release
        self._start(host)
        self.held[host].append((self.connected[host], release))
        self._now += dt.timedelta(seconds=4)

    def _start(self, host: str) -> None:
        self.started[host] = self._now + dt.timedelta(seconds=2)
        self.connected[host] = self._now + dt.timedelta(seconds=3)

    # -- the upgrade -------------------------------------------------------------------------------------------

    def run(self, *, batch: int = 2, **terms: Any) -> Ended:
        """Upgrade the hosts that are not."""
        recaps = [_recap(host, moved=release != NEW) for host, release in self.release.items()]
        unjudged = left(self, recaps, now=self.now())
        upgrade = Upgrade(
            api=self,
            playbooks=self,
            terms=Terms(**{"patience_s": 300.0, **terms}),
            say=self.said.append,
            stopped=lambda: bool(self.stop_after) and any(self.stop_after in line for line in self.said),
            clock=self,
        )
        return upgrade.run(plan(recaps, canary=1, batch=batch, left=unjudged))

    @property
    def on_new(self) -> list[str]:
        """Hosts that have the new release."""
        return [host for host, release in self.release.items() if release == NEW]


def _recap(host: str, message: str = "", *, moved: bool = True) -> HostRecap:
    return HostRecap(
        host=host,
        ok=1,
        changed=1,
        failed=int(bool(message)),
        unreachable=False,
        message=message,
        notes=(f"{OLD} → {NEW}" if moved else f"has {NEW} already",),
    )


def test_a_good_release_gets_everywhere() -> None:
    """Canary, then the batches; the last one is compared with those that had the release before."""
    fleet = Fleet()
    ended = fleet.run()
    assert ended.outcome is Outcome.DONE
    assert ended.upgraded == ("host1", "host2", "host3", "host4")
    assert [judgement.verdict for judgement in ended.judgements] == [Verdict.NOT_WORSE] * 3
    assert any(
        "batch 2 of 2: not worse: ping" in line and "(host1, host2, host3)" in line for line in fleet.said
    )
    assert any("not worse: ping, RTT average: 1" in line for line in fleet.said)


def test_a_release_that_measures_a_fifth_more_is_returned_at_the_canary() -> None:
    """The report has the numbers, and no other host ever had the release."""
    fleet = Fleet(worse=1.2)
    ended = fleet.run()
    assert (ended.outcome, ended.upgraded, fleet.on_new) == (Outcome.ROLLED_BACK, (), [])
    [line] = [line for line in fleet.said if "worse: ping, RTT average" in line]
    assert line == (
        "canary: worse: ping, RTT average: 10.1 ms before, 12.2 ms after on 1 host (host1) with the release; 10 ms and 9.9 ms "
        "on 3 hosts (host2, host3, host4) without; difference +21.3 %, less than 0.001 by chance, 11 runs or more on each side"
    )
    assert "canary: returning host1 to the release before" in fleet.said
    assert fleet.why[0] == "what its hosts measure is worse with the release"
    assert line.removeprefix("canary: ") in fleet.why


def test_a_bad_release_is_not_its_own_baseline_when_it_is_tried_again() -> None:
    """However long it was on the canary before it was returned: what it measured then counts for nothing."""
    fleet = Fleet(worse=1.2)
    fleet.interval_s = 20.0
    for _ in range(3):
        assert fleet.run(patience_s=1200.0).outcome is Outcome.ROLLED_BACK
    lines = [line for line in fleet.said if "canary: worse: ping, RTT average" in line]
    before = [float(line.split("average: ")[1].split(" ms before")[0]) for line in lines]
    assert before == pytest.approx([10.0] * 3, abs=0.3)


def test_a_bad_release_that_was_returned_by_hand_is_not_its_own_baseline_either() -> None:
    """Nobody judged it, and no operation tells that it was taken back: the worker's sessions do."""
    fleet = Fleet(worse=1.2)
    fleet.interval_s, fleet.stop_after = 20.0, "measuring for"
    assert fleet.run().outcome is Outcome.STOPPED
    fleet.sleep(1500.0)
    fleet.return_by_hand("host1")
    fleet.sleep(60.0)
    fleet.stop_after = ""
    assert fleet.run(patience_s=1200.0).outcome is Outcome.ROLLED_BACK
    [line] = [line for line in fleet.said if "canary: worse: ping, RTT average" in line]
    assert float(line.split("average: ")[1].split(" ms before")[0]) == pytest.approx(10.0, abs=0.3)


def test_runs_that_fail_return_it_too() -> None:
    """A failed run is a result, so the gate is passed; the comparison is not."""
    fleet = Fleet(fails=True)
    assert fleet.run().outcome is Outcome.ROLLED_BACK
    assert any(
        "worse: ping, runs that did not end well: 0 % before, 100 % after" in line for line in fleet.said
    )


def test_a_network_that_changes_meanwhile_is_not_the_release() -> None:
    """Twice the latency everywhere: the upgrade goes on, and the report says what it was."""
    fleet = Fleet(network=2.0)
    assert fleet.run().outcome is Outcome.DONE
    assert any("the network, not the release: ping, RTT average changed by +9" in line for line in fleet.said)


def test_a_host_that_the_playbook_returned_ends_the_upgrade_and_returns_its_batch() -> None:
    """Those that were upgraded before stay."""
    fleet = Fleet()
    fleet.host_gate = {"host3"}
    ended = fleet.run()
    assert ended.outcome is Outcome.ROLLED_BACK
    assert (ended.upgraded, fleet.on_new) == (("host1",), ["host1"])
    reason = f"host3: the release {NEW} was taken back: it ended 2 times"
    assert f"batch 1 of 2: {reason}" in fleet.said
    assert "batch 1 of 2: returning host2 to the release before" in fleet.said
    assert fleet.why == [reason]
    assert ended.unjudged == ()


@pytest.mark.parametrize("times", [0, 2])
def test_a_host_whose_connection_breaks_in_the_middle_is_returned_too(times: int) -> None:
    """Its own script goes on: it has the release though nobody heard so. It is tried again where it cannot be reached."""
    fleet = Fleet(worse=1.5)
    fleet.cut, fleet.deaf = {"host1"}, {"host1": times}
    ended = fleet.run()
    assert (ended.outcome, ended.upgraded, ended.unjudged, fleet.on_new) == (Outcome.ROLLED_BACK, (), (), [])
    assert "canary: returning host1 to the release before" in fleet.said
    assert ended.mend == "its hosts have the release before again"


def test_a_host_that_cannot_be_returned_is_named() -> None:
    """In what is said, in why it ended, and in what to do; the others of its step are returned."""
    fleet = Fleet()
    fleet.cut, fleet.deaf = {"host3"}, {"host3": 1000}
    ended = fleet.run()
    assert (ended.outcome, ended.upgraded, ended.unjudged) == (Outcome.ROLLED_BACK, ("host1",), ("host3",))
    assert fleet.on_new == ["host1", "host3"]
    assert "batch 1 of 2: not confirmed to be on the release before: host3: no route" in fleet.said
    assert "not confirmed to be on the release before: host3" in ended.why
    assert "--limit host3" in ended.mend


def test_a_host_that_the_playbook_says_nothing_of_is_returned_too() -> None:
    """Nobody knows how far it came."""
    fleet = Fleet()
    fleet.unreached = {"host3"}
    assert fleet.run().unjudged == ()
    assert "batch 1 of 2: returning host2, host3 to the release before" in fleet.said


def test_a_worker_that_delivers_nothing_is_returned() -> None:
    """The gate says which job and how long it was waited for."""
    fleet = Fleet()
    fleet.silent = {"host1"}
    assert fleet.run().outcome is Outcome.ROLLED_BACK
    assert any(
        "1 of its 1 jobs delivered nothing within their interval and 15 s" in line for line in fleet.said
    )


def test_a_worker_that_ends_again_and_again_is_returned() -> None:
    """Between two ends it measures well, and systemd starts it anew at once: only its process tells."""
    fleet = Fleet()
    fleet.interval_s, fleet.ends_after_s = 20.0, 60.0
    ended = fleet.run(patience_s=900.0)
    assert (ended.outcome, fleet.on_new) == (Outcome.ROLLED_BACK, [])
    assert fleet.why[0] == "host1: its worker ended after it was connected, and was started again"
    [judged] = fleet.judged
    assert judged.error == fleet.why[0]


def test_a_worker_that_is_away_in_the_end_is_returned() -> None:
    """It measured enough before; one that comes back in time is not."""
    fleet = Fleet()
    fleet.ends_for_good = "measuring for"
    assert (fleet.run().outcome, fleet.on_new) == (Outcome.ROLLED_BACK, [])
    assert fleet.why[0] == "host1: its worker is not connected any more"


def test_the_control_group_is_of_hosts_that_measure_the_same() -> None:
    """However many others come before them in the list, and without asking all of a large fleet for their runs."""
    fleet = Fleet(20, network=2.0)
    fleet.elsewhere = {f"host{number}" for number in range(2, 19)}
    fleet.stop_after = "batch 1 of"
    assert fleet.run().outcome is Outcome.STOPPED
    assert any("canary: not worse: ping" in line and "(host19, host20)" in line for line in fleet.said)


def test_a_worker_of_the_control_group_that_is_deleted_meanwhile_is_left_out() -> None:
    """Nobody takes that for a controller that does not answer."""
    fleet = Fleet()
    fleet.deleted = {"host4"}
    fleet.stop_after = "batch 1 of 2"
    assert fleet.run().outcome is Outcome.STOPPED
    assert any("canary: not worse: ping" in line and "(host2, host3)" in line for line in fleet.said)


def test_a_job_whose_window_closes_meanwhile_is_not_broken() -> None:
    """Nobody else measures it. What came until then is too little to compare, and that is said."""
    fleet = Fleet(1)
    fleet.closes = fleet.now() + dt.timedelta(seconds=4 + 6 * INTERVAL_S)
    assert (fleet.run().outcome, fleet.on_new) == (Outcome.PAUSED, ["host1"])


def test_a_host_that_was_started_anew_is_no_fault_of_the_release() -> None:
    """Nor a clock that was set, which moves both instants that a worker tells."""
    fleet = Fleet()
    fleet.ends_after_s, fleet.reboots = 30.0, True
    assert fleet.run().outcome is Outcome.DONE


def test_too_few_runs_pause_it_and_may_be_accepted() -> None:
    """The canary keeps the release; running again goes on with the others, a canary first."""
    fleet = Fleet()
    fleet.interval_s = 120.0
    ended = fleet.run(patience_s=300.0)
    assert (ended.outcome, ended.upgraded, fleet.on_new) == (Outcome.PAUSED, ("host1",), ["host1"])
    assert any("inconclusive" in line and "--accept-inconclusive" in line for line in fleet.said)
    assert fleet.run(patience_s=300.0, accept_inconclusive=True).outcome is Outcome.DONE
    assert fleet.on_new == ["host1", "host2", "host3", "host4"]
    fleet.said.clear()
    assert (fleet.run().outcome, fleet.said) == (Outcome.DONE, [])


def test_a_fleet_of_one_has_no_control_group() -> None:
    """Its past decides, and the report says what that cannot tell apart."""
    fleet = Fleet(1)
    assert fleet.run().outcome is Outcome.DONE
    assert any("no host to compare with has enough runs of: ping" in line for line in fleet.said)
    bad = Fleet(1, worse=1.5)
    assert (bad.run().outcome, bad.on_new) == (Outcome.ROLLED_BACK, [])


def test_the_last_batch_is_judged_too() -> None:
    """A release that measures wrongly on one host only is returned there, though nobody is left without it."""
    fleet = Fleet(2, worse=1.0)
    fleet.worse_on = {"host2": 1.5}
    ended = fleet.run()
    assert (ended.outcome, fleet.on_new) == (Outcome.ROLLED_BACK, ["host1"])
    assert any(line.startswith("batch 1 of 1: worse: ping, RTT average") for line in fleet.said)


@pytest.mark.parametrize("moment", ["canary: host1", "measuring for"])
def test_it_stops_where_it_is_told_to(moment: str) -> None:
    """What has the release keeps it; nothing more is begun."""
    fleet = Fleet()
    fleet.stop_after = moment
    ended = fleet.run()
    assert ended.outcome is Outcome.STOPPED
    assert ended.upgraded == tuple(fleet.on_new) == ended.unjudged == ("host1",)
    assert "host1 may have the release, which nobody judged there" in ended.why


@pytest.mark.parametrize("moment", ["waiting for host1", "measuring for"])
@pytest.mark.parametrize("worse", [1.0, 1.3])
def test_a_canary_that_was_left_is_judged_by_the_next_upgrade(moment: str, worse: float) -> None:
    """Against what it measured before the one that was stopped; and only then others are upgraded."""
    fleet = Fleet(worse=worse)
    fleet.stop_after = moment
    assert fleet.run().outcome is Outcome.STOPPED
    assert (fleet.on_new, fleet.judged) == (["host1"], [])
    fleet.stop_after = ""
    fleet.said.clear()
    fleet.sleep(1000.0)
    ended = fleet.run()
    assert fleet.said[0] == (
        "left by operation 0: host1: has the release, which nobody judged there; judged now"
    )
    if worse == 1.0:
        assert (ended.outcome, len(fleet.on_new)) == (Outcome.DONE, 4)
        assert [each.hosts for each in fleet.judged] == [("host1",), ("host2",), ("host3", "host4")]
        fleet.said.clear()
        assert fleet.run().outcome is Outcome.DONE
        assert fleet.said == []
    else:
        assert (ended.outcome, ended.upgraded, fleet.on_new) == (Outcome.ROLLED_BACK, (), [])
        [judged] = fleet.judged
        assert judged.error == "what its hosts measure is worse with the release"
        assert any(line.startswith("worse: ping, RTT average: 10") for line in judged.lines)


def test_a_pause_is_judged_again_when_more_was_measured() -> None:
    """The next upgrade takes up what was inconclusive."""
    fleet = Fleet()
    fleet.interval_s = 120.0
    fleet.sleep(1500.0)
    assert fleet.run(patience_s=300.0).outcome is Outcome.PAUSED
    fleet.sleep(3000.0)
    fleet.said.clear()
    assert fleet.run(patience_s=1500.0).outcome is Outcome.DONE
    assert fleet.said[0].startswith("left by operation 0: host1: has the release")
    assert any(line.startswith("left by operation 0: not worse: ping, RTT average") for line in fleet.said)


@pytest.mark.parametrize("moment", ["canary: host1", "delivering"])
def test_a_controller_that_is_away_for_a_moment_is_asked_again(moment: str) -> None:
    """For a minute; then the step's hosts are returned, as nobody could tell that they are well."""
    short = Fleet()
    short.away_from, short.away_s = moment, 20.0
    assert short.run().outcome is Outcome.DONE
    long = Fleet()
    long.away_from, long.away_s = "delivering", 1000.0
    ended = long.run()
    assert (ended.outcome, ended.upgraded, long.on_new) == (Outcome.ROLLED_BACK, (), [])
    assert any("the controller cannot be asked about its hosts" in line for line in long.said)
