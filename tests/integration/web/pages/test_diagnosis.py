"""The diagnosis on a test's page: every state, as a panel and as a page, for eyes, keyboards and screen readers."""

from __future__ import annotations

import datetime as dt
import random
import re
import shlex
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine, insert, update
from support.axe import AXE, violations

from controller.keeper.diagnose import diagnose
from controller.store import results
from controller.store.entities import Job
from controller.store.entities.diagnosis import DiagnosisState
from streamswarm.v1 import probe_pb2

STEP = dt.timedelta(seconds=2)
RING = re.compile(r'stroke-dasharray="([\d.]+) ([\d.]+)"')


class Story:
    """Jobs with quiet runs behind them, and what happens to them then."""

    def __init__(self, rows: Any, engine: Engine) -> None:
        self.rows = rows
        self.engine = engine
        self.now = dt.datetime.now(dt.UTC)
        self.chance = random.Random(1)

    def job(self, test: int, worker: Any, place: int | None = None) -> int:
        """Plan a job."""
        return int(self.rows.job(test, worker, place))

    def runs(
        self, job: int, kind: str, count: int, *, ago: int = 0, noise: float = 0.04, **values: Any
    ) -> None:
        """Store runs of which the last was due `ago` runs before now; metrics have a little noise."""
        metrics = {name: value for name, value in values.items() if name not in ("status", "source", "error")}
        made = []
        for index in range(count):
            at = self.now - STEP * (ago + count - 1 - index)
            made.append(
                {
                    "job_id": job,
                    "scheduled_at": at,
                    "started_at": at,
                    "duration_ms": 1.0,
                    "job_version": 1,
                    "status": values.get("status", probe_pb2.STATUS_OK),
                    "failure_source": values.get("source", probe_pb2.FAILURE_SOURCE_NONE),
                    "error": values.get("error"),
                    **{
                        results.metric_column(kind, name).name: value * self.chance.lognormvariate(0, noise)
                        for name, value in metrics.items()
                    },
                }
            )
        with self.engine.begin() as connection:
            connection.execute(insert(results.table(kind)), made)

    def look(self) -> None:
        """Have a keeper score what is there."""
        with self.engine.begin() as connection:
            connection.execute(update(DiagnosisState).values(looked_at=None))
        diagnose(self.engine)


@pytest.fixture
def story(rows: Any, engine: Engine) -> Story:
    """An empty story."""
    return Story(rows, engine)


def slow_path(story: Story) -> int:
    """Two workers ping a router; from one of them it is 50 ms slower since a few runs."""
    place = story.rows.destination("Router", "192.0.2.1")
    test = int(story.rows.test("Round trip", "ping", destinations=[place]))
    for name, faulty in (("edge-1", True), ("edge-2", False)):
        job = story.job(test, story.rows.worker(name), place)
        story.runs(job, "ping", 190, ago=6, rtt_avg_ms=12.0, loss_pct=0.0)
        story.runs(job, "ping", 6, rtt_avg_ms=62.0 if faulty else 12.0, loss_pct=0.0)
    story.look()
    return test


def refused(story: Story) -> int:
    """A port that was open refuses."""
    place = story.rows.destination("Shop", "192.0.2.7:8080")
    test = int(story.rows.test("Shop answers", "tcp", destinations=[place]))
    job = story.job(test, story.rows.worker("edge-1"), place)
    story.runs(job, "tcp", 60, ago=5, connect_ms=12.0, syn_retransmits=0.0)
    story.runs(
        job,
        "tcp",
        5,
        status=probe_pb2.STATUS_FAILED,
        source=probe_pb2.FAILURE_SOURCE_TARGET,
        error="Connection refused (ECONNREFUSED)",
    )
    story.look()
    return test


def busy_worker(story: Story) -> int:
    """A web site is slow because the worker's CPU is busy."""
    place = story.rows.destination("Site", "https://www.example.org/search?q=a+b&lang=<en>")
    test = int(story.rows.test("Site", "http", destinations=[place]))
    hosts = int(story.rows.test("Hosts", "system", destinations=[]))
    worker = story.rows.worker("edge-1")
    site, host = story.job(test, worker, place), story.job(hosts, worker)
    story.runs(site, "http", 190, ago=6, dns_ms=4.0, connect_ms=9.0, ttfb_ms=40.0, total_ms=60.0)
    story.runs(host, "system", 190, ago=6, cpu_busy_pct=14.0, load1=0.4, memory_used_pct=41.0)
    story.runs(site, "http", 6, dns_ms=19.0, connect_ms=30.0, ttfb_ms=120.0, total_ms=180.0)
    story.runs(host, "system", 6, cpu_busy_pct=99.0, load1=4.8, memory_used_pct=42.0)
    story.look()
    return test


def healthy(story: Story) -> int:
    """Nothing is wrong."""
    place = story.rows.destination("Router", "192.0.2.1")
    test = int(story.rows.test("Round trip", "ping", destinations=[place]))
    job = story.job(test, story.rows.worker("edge-1"), place)
    story.runs(job, "ping", 120, rtt_avg_ms=12.0, loss_pct=0.0)
    story.look()
    return test


def learning(story: Story) -> int:
    """A test that has just begun."""
    place = story.rows.destination("Router", "192.0.2.1")
    test = int(story.rows.test("Round trip", "ping", destinations=[place]))
    story.runs(story.job(test, story.rows.worker("edge-1"), place), "ping", 8, rtt_avg_ms=12.0, loss_pct=0.0)
    story.look()
    return test


def unmeasured(story: Story) -> int:
    """The worker's policy forbids it."""
    place = story.rows.destination("Metadata", "192.0.2.9")
    test = int(story.rows.test("Forbidden", "ping", destinations=[place]))
    story.runs(
        story.job(test, story.rows.worker("edge-1"), place),
        "ping",
        5,
        status=probe_pb2.STATUS_ERROR,
        source=probe_pb2.FAILURE_SOURCE_POLICY,
        error="192.0.2.9 is denied",
    )
    story.look()
    return test


def idle(story: Story) -> int:
    """No worker runs it."""
    place = story.rows.destination("Router", "192.0.2.1")
    return int(story.rows.test("Round trip", "ping", destinations=[place]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (slow_path, ["Points to</span> <strong>network path", "between edge-1 and Router", "1 of 2", "mtr -n -r -c 20 192.0.2.1"]),
        (refused, ["<strong>destination", "5 of the last 5 runs failed", "ss -ltunp 'sport = :8080'", "on the destination 192.0.2.7"]),
        (busy_worker, ["<strong>worker's host", "The host of edge-1 is at fault", "beside it, Hosts", "CPU busy", "top -b -n 1"]),
        (healthy, ["within its normal range", "Health 100 of 100", "RTT average"]),
        (learning, ["still learning", "22 more good runs", "Health is not known", "Nothing has to be done"]),
        (unmeasured, ["not measured", "nothing is known of the destination", "worker or test", "journalctl"]),
        (idle, ["not running", "No worker runs this test", "Choose workers for it"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_every_state_says_what_is_and_what_to_do(
    story: Story, viewer: Any, make: Callable[[Story], int], said: list[str]
) -> None:
    """A panel for htmx, and the same in a page of its own; a viewer may ask."""
    test = make(story)
    panel, page = viewer.fragment(f"/tests/{test}/diagnosis"), viewer.get(f"/tests/{test}/diagnosis")
    for text in said:
        assert text in unescape(panel), text
        assert text in unescape(page), text
    assert "<html" not in panel
    assert "<html" in page
    assert "Diagnose" in viewer.get(f"/tests/{test}")


def test_the_ring_is_as_full_as_health(story: Story, viewer: Any) -> None:
    """The picture says what the figure says."""
    panel = viewer.fragment(f"/tests/{slow_path(story)}/diagnosis")
    found = RING.search(panel)
    health = re.search(r"Health (\d+) of 100", panel)
    assert found
    assert health
    assert float(found[1]) / float(found[2]) == pytest.approx(int(health[1]) / 100, abs=0.001)
    assert 50 < int(health[1]) < 95


def test_a_refresh_does_not_take_the_focus(story: Story, viewer: Any) -> None:
    """The panel takes the focus when it is asked for, not each time it renews itself."""
    test = healthy(story)
    assert "autofocus" in viewer.fragment(f"/tests/{test}/diagnosis")
    assert "autofocus" not in viewer.fragment(f"/tests/{test}/diagnosis?live=1")


def test_what_tests_are_called_is_shown_as_text(story: Story, viewer: Any) -> None:
    """Names and addresses with markup in them stay text, and in the command one word."""
    test = busy_worker(story)
    with story.engine.begin() as connection:
        connection.execute(update(Job).where(Job.kind == "system").values(retired_at=dt.datetime.now(dt.UTC)))
    story.rows.destination("<script>alert(1)</script>", "192.0.2.3")
    panel = viewer.fragment(f"/tests/{test}/diagnosis")
    assert "<en>" not in panel
    command = re.search(r'<code class="command"[^>]*>(.*?)</code>', panel)
    assert command
    assert shlex.split(unescape(command[1]))[-1] == "www.example.org"


def test_there_is_no_diagnosis_of_nothing(viewer: Any) -> None:
    """An unknown test is a styled 404."""
    assert viewer.client.get("/tests/999/diagnosis").status_code == 404


@pytest.mark.browser
@pytest.mark.parametrize(
    ("make", "scheme"), [(slow_path, "light"), (busy_worker, "dark")], ids=["light", "dark"]
)
def test_the_panel_in_a_browser(
    open_window: Callable[..., Any], story: Story, make: Callable[[Story], int], scheme: str, tmp_path: Path
) -> None:
    """The button opens the panel in place, nothing breaks the policy, and axe finds no fault with it."""
    test = make(story)
    assert AXE.exists()
    window = open_window(color_scheme=scheme)
    page = window.log_in()
    window.open(f"/tests/{test}")
    page.get_by_role("link", name="Diagnose").click()
    panel = page.get_by_role("region", name="Diagnosis")
    expect(panel).to_be_visible()
    expect(page.get_by_role("heading", name="Diagnosis")).to_be_focused()
    assert page.url.endswith(f"/tests/{test}")
    assert violations(page) == []
    assert window.troubles == []
    panel.screenshot(path=tmp_path / "panel.png")
    page.set_viewport_size({"width": 390, "height": 844})
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


@pytest.mark.browser
def test_without_scripts_the_button_leads_to_a_page(open_window: Callable[..., Any], story: Story) -> None:
    """Where scripts do not run the link opens the page."""
    test = refused(story)
    window = open_window(java_script_enabled=False)
    page = window.log_in()
    window.open(f"/tests/{test}")
    page.get_by_role("link", name="Diagnose").click()
    page.wait_for_url(f"**/tests/{test}/diagnosis")
    expect(page.get_by_role("heading", name="Diagnosis of Shop answers")).to_be_visible()
    expect(page.get_by_text("ss -ltunp 'sport = :8080'")).to_be_visible()
