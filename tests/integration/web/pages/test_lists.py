"""Pages that list: search, filters, empty states, latest state, what a role may see."""

from __future__ import annotations

import datetime as dt
import re

from sqlalchemy import delete, func, insert, update
from sqlalchemy.orm import Session

from controller.store.entities import JobVersion, OverdueJob, Test, Worker
from controller.store.queries import pages
from controller.store.queries.pages import BadRuns
from streamswarm.v1 import probe_pb2
from web.live import MOST_PER_VIEWER, Hub


def ago(seconds: float) -> dt.datetime:
    """Return an instant before now."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)


def test_an_empty_installation_says_what_to_do_next(operator, viewer) -> None:
    """Every list that is empty tells its next step, and offers it only to those who may."""
    assert "Create the first test" in operator.get("/")
    assert "streamswarm fleet provision" in operator.get("/workers")
    assert "Add the first destination" in operator.get("/destinations")
    assert "Create the first test" in operator.get("/tests")
    for path in ("/", "/destinations", "/tests"):
        page = viewer.get(path)
        assert "first test" not in page
        assert "first destination" not in page


def test_the_overview_shows_fleet_tests_failures_and_what_needs_attention(operator, rows) -> None:
    """Each figure comes from rows: connected and lost workers, states of tests, errors of runs, mending commands."""
    kinds = {"ping": {"available": False, "reason": "no ICMP sockets here", "mend": "sysctl -w it"}}
    rows.worker("well")
    rows.worker("lame", kinds=kinds)
    gone = rows.worker("gone", connected=False)
    place = rows.destination("router", "192.0.2.1")
    good, bad = (
        rows.test("smooth", "ping", destinations=[place]),
        rows.test("rough", "tcp", destinations=[place]),
    )
    rows.run(rows.job(good, gone, place), ago(3), rtt_avg_ms=12.345)
    rows.run(
        rows.job(bad, gone, place),
        ago(3),
        status=probe_pb2.STATUS_FAILED,
        source=probe_pb2.FAILURE_SOURCE_TARGET,
        error="connection refused <by> 192.0.2.1",
    )
    page = operator.get("/")
    assert "2<small> / 3</small>" in page
    assert "12.3\u00a0ms" in page
    assert "connection refused &lt;by&gt; 192.0.2.1" in page
    assert "no ICMP sockets here" in page
    assert "sysctl -w it" in page
    assert 'data-state="offline"' in page
    assert operator.fragment("/overview/live").strip().startswith('<div class="tiles">')


def test_what_is_overdue_is_silent_not_down(operator, rows) -> None:
    """A test whose results stopped is unknown, even though its last run failed."""
    place = rows.destination("router", "192.0.2.1")
    test = rows.test("quiet", "ping", destinations=[place])
    rows.run(rows.job(test, rows.worker("w"), place), ago(300), status=probe_pb2.STATUS_FAILED)
    page = operator.get("/tests")
    assert "silent" in page
    assert 'data-state="failed"' not in page


def test_tests_are_found_by_name_kind_and_state(operator, rows) -> None:
    """Search and filters narrow the list; a fragment holds rows alone; nothing found is said."""
    place = rows.destination("router", "192.0.2.1")
    rows.test("Alpha", "ping", destinations=[place])
    rows.test("Beta 100%", "tcp", destinations=[place], paused=True)
    assert "Alpha" not in operator.get("/tests?kind=tcp")
    assert "Beta" in operator.get("/tests?paused=yes")
    found = operator.fragment("/tests?q=100%25")
    assert "Beta 100%" in found
    assert "Alpha" not in found
    assert "<html" not in found
    assert "Nothing found" in operator.fragment("/tests?q=omega")


def test_a_long_list_goes_on(operator, rows) -> None:
    """The end of the rows asks for those that follow, and each test is listed exactly once."""
    place = rows.destination("router", "192.0.2.1")
    for number in range(53):
        rows.test(f"test {number:02}", "ping", destinations=[place])
    first = operator.get("/tests")
    assert first.count('class="name"') == 50
    (address,) = [part.split('"')[0] for part in first.split('hx-get="') if part.startswith("/tests?cursor")]
    rest = operator.fragment(address.replace("&amp;", "&"))
    assert rest.count('class="name"') == 3
    assert "<table" not in rest
    assert "test 52" in rest


def test_destinations_tell_which_kinds_they_suit(operator, rows) -> None:
    """An address with a port suits TCP and DNS, a URL suits HTTP; search looks into addresses."""
    rows.destination("shop", "https://shop.example.org/")
    rows.destination("database", "db.example.org:5432")
    assert "HTTP" in operator.fragment("/destinations?q=shop")
    found = operator.fragment("/destinations?q=5432")
    assert "TCP connect, DNS" in found
    assert "shop" not in found


def test_a_worker_page_tells_facts_kinds_jobs_and_policy(operator, rows) -> None:
    """What the worker announced stands there, unavailable kinds with reason and mending command."""
    worker = rows.worker("edge-1", site="ams", facts={"memory_bytes": 2**31}, policy={"deny": ["10.0.0.0/8"]})
    rows.execute(
        update(Worker)
        .where(Worker.id == worker)
        .values(
            kinds={"ping": {"available": False, "reason": "not <allowed>", "mend": "setcap it"}},
            clock_offset_ms=-7210.0,
            spool_alarm="the disk is full",
            vantage_alarm="the interface eth0 has no carrier",
            results_expired=1234,
            results_expired_at=dt.datetime.now(dt.UTC),
        )
    )
    place = rows.destination("router", "192.0.2.1")
    rows.job(rows.test("Alpha", "tcp", destinations=[place]), worker, place)
    page = operator.get(f"/workers/{worker}")
    for text in (
        "not &lt;allowed&gt;",
        "setcap it",
        "2\u00a0GiB",
        "10.0.0.0/8",
        "Alpha",
        "\u22127\u202f210\u00a0ms",
        "the disk is full",
        "the interface eth0 has no carrier",
        "more than 5 s off",
        "1\u202f234\u00a0results of the worker came when they were older than results are kept",
    ):
        assert text in page, text
    assert "Revoke" not in page
    assert "7.2 s away from the controller" in operator.get("/")


def test_a_job_that_does_not_deliver_is_shown(operator, rows) -> None:
    """On the overview and on its test's page, until something comes."""
    worker, place = rows.worker("edge-1"), rows.destination("router", "192.0.2.1")
    test = rows.test("Alpha", "tcp", destinations=[place])
    job = rows.job(test, worker, place)
    assert "of what is due" not in operator.get(f"/tests/{test}")
    rows.execute(insert(OverdueJob).values(job_id=job, due_at=func.now()))
    assert "edge-1 → router: nothing of what is due has come since" in operator.get(f"/tests/{test}")
    assert "edge-1 → router delivers nothing of what is due" in operator.get("/")


def test_what_is_not_there_is_a_styled_404(operator) -> None:
    """Unknown ids of every kind of page answer 404 with a way back."""
    for path in (
        "/tests/99",
        "/destinations/99",
        "/workers/00000000-0000-0000-0000-000000000000",
        "/nowhere",
    ):
        response = operator.client.get(path)
        assert response.status_code == 404, path
        page = response.get_data(as_text=True)
        assert "To the overview" in page
        assert "404" in page


def test_live_streams_are_capped(app, operator) -> None:
    """Beyond the cap the answer is 503, so that pages keep their threads; a place that is freed is given again."""
    hub: Hub = app.extensions["live"]
    streams = [hub.open(f"user:{number}", "") for number in range(hub.capacity)]
    refused = operator.client.get("/live")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    hub.close(streams.pop())
    accepted = operator.client.get("/live")
    assert accepted.status_code == 200
    assert accepted.mimetype == "text/event-stream"
    accepted.close()
    assert hub.streams == hub.capacity - 1
    for stream in streams:
        hub.close(stream)


def test_one_viewer_cannot_take_every_stream(app, operator, visit) -> None:
    """The ninth stream of a viewer is refused while others still get theirs."""
    hub: Hub = app.extensions["live"]
    opened = [operator.client.get("/live") for _ in range(MOST_PER_VIEWER)]
    assert {response.status_code for response in opened} == {200}
    assert operator.client.get("/live").status_code == 503
    other = visit("viewer").client.get("/live")
    assert other.status_code == 200
    for response in (*opened, other):
        response.close()
    assert hub.streams == 0


def test_a_mean_says_of_how_many_jobs_it_is(operator, rows) -> None:
    """Jobs that measured nothing are not in the mean, and the page says so."""
    workers = [rows.worker(f"w{number}") for number in range(3)]
    place = rows.destination("router", "192.0.2.1")
    test = rows.test("smooth", "ping", destinations=[place])
    jobs = [rows.job(test, worker, place) for worker in workers]
    rows.run(jobs[0], ago(3), rtt_avg_ms=12.5)
    page = operator.get(f"/tests/{test}")
    assert "mean of 1 of 3\u00a0jobs" in page, page.partition("mean of")[2][:80]
    for job in jobs[1:]:
        rows.run(job, ago(3), rtt_avg_ms=12.5)
    assert "mean of 3\u00a0jobs" in operator.get(f"/tests/{test}")


def test_the_overview_says_only_what_is_known_of_runs(operator, rows) -> None:
    """None that came went wrong; whether all that was due has come is not known here."""
    place = rows.destination("router", "192.0.2.1")
    test = rows.test("smooth", "ping", destinations=[place])
    rows.run(rows.job(test, rows.worker("w"), place), ago(3), rtt_avg_ms=12.5)
    page = operator.get("/")
    assert "No result of the last 15 minutes went wrong." in page
    assert re.search(r"<h2>Went wrong in 15 minutes</h2><strong>0</strong>\s+<p>while no runs were due", page)


def test_the_overview_counts_what_went_wrong_beside_what_was_due(operator, rows) -> None:
    """Of the last quarter of an hour, whatever a run ended with if not well; due by the versions of that time."""
    place = rows.destination("router", "192.0.2.1")
    test = rows.test("rough", "tcp", destinations=[place])
    job = rows.job(test, rows.worker("w"), place)
    for number, status in enumerate(
        (probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED, probe_pb2.STATUS_ERROR, probe_pb2.STATUS_MISSED)
    ):
        rows.run(job, ago(3 + number), status=status)
    rows.run(job, ago(1000), status=probe_pb2.STATUS_FAILED)
    tile = r'data-tone="{}">\s+<h2>Went wrong in 15 minutes</h2><strong>3</strong>\s+<p>while some {}\u00a0runs were due'
    for interval_us, due, tone in (
        (90_000_000, 10, "failed"),
        (10_000_000, 90, "attention"),
        (1_000_000, 900, "ok"),
    ):
        rows.execute(delete(JobVersion))
        version = {"job_id": job, "version": 1, "interval_us": interval_us, "anchor_us": 0}
        rows.execute(insert(JobVersion).values(**version, valid_from=ago(2000)))
        assert re.search(tile.format(tone, due), operator.get("/"))


def test_no_more_is_counted_than_can_be_waited_for(engine, rows) -> None:
    """Where more went wrong it is said that there were more."""
    place = rows.destination("router", "192.0.2.1")
    job = rows.job(rows.test("rough", "tcp", destinations=[place]), rows.worker("w"), place)
    for number in range(4):
        rows.run(job, ago(3 + number), status=probe_pb2.STATUS_FAILED)
    within = dt.timedelta(minutes=15)
    with Session(engine) as session:
        assert pages.bad_runs(session, within=within, most=3) == BadRuns(count=3, more=True)
        assert pages.bad_runs(session, within=within, most=4) == BadRuns(count=4, more=False)


def test_the_legend_of_the_charts_has_all_marks(operator, rows) -> None:
    """The grey area is in it too."""
    test = rows.test("smooth", "ping", destinations=[rows.destination("router", "192.0.2.1")])
    page = operator.get(f"/tests/{test}")
    marks = page.partition('class="marks"')[2].partition("</div>")[0]
    for word in ("failed", "not measured", "missed", "due, but no run"):
        assert word in marks


def test_the_overview_counts_tests_that_run_as_running(operator, rows) -> None:
    """Paused, waiting and ended ones do not run."""
    place = rows.destination("router", "192.0.2.1")
    rows.test("runs", "ping", destinations=[place])
    rows.test("rests", "ping", destinations=[place], paused=True)
    rows.test("comes", "ping", destinations=[place], starts_at=ago(-3600))
    over = rows.test("was", "ping", destinations=[place])
    rows.execute(update(Test).where(Test.id == over).values(ends_at=ago(60)))
    assert "1<small> / 4</small>" in operator.get("/").partition("Tests running")[2]


def test_a_workers_jobs_have_destinations(operator, rows) -> None:
    """The column has the word that all other pages have."""
    place = rows.destination("router", "192.0.2.1")
    worker = rows.worker("w")
    rows.job(rows.test("smooth", "ping", destinations=[place]), worker, place)
    page = operator.get(f"/workers/{worker}")
    assert '<th scope="col">Destination</th>' in page
    assert "Target" not in page


def test_lists_come_in_the_order_asked_for(operator, rows) -> None:
    """Each order goes on from page to page, and an order that there is none of is refused by its name."""
    for number in range(52):
        rows.destination(f"place {number:02}", f"192.0.2.{(number * 7) % 52 + 1}")
    first = operator.get("/destinations?sort=newest")
    assert first.index("place 51") < first.index("place 50")
    (address,) = re.findall(r'hx-get="(/destinations\?[^"]*cursor[^"]+)"', first)
    rest = operator.fragment(address.replace("&amp;", "&"))
    assert re.findall(r"place \d\d(?=</a>)", rest) == ["place 01", "place 00"]
    place = rows.destination("router", "192.0.2.1")
    rows.test("A", "tcp", destinations=[place])
    rows.test("B", "ping", destinations=[place])
    by_kind = operator.get("/tests?sort=kind")
    assert by_kind.index(">B</a>") < by_kind.index(">A</a>")
    assert '<option value="kind" selected>' in by_kind
    rows.worker("x", site="ams")
    rows.worker("y", site="aaa")
    by_site = operator.get("/workers?sort=site&q=a")
    assert by_site.index(">y</a>") < by_site.index(">x</a>")
    assert 'hx-get="/workers?q=a&amp;sort=site"' in by_site, "it refreshes itself as it was searched"
    assert operator.client.get("/tests?sort=colour").status_code == 422
