"""Forms: making, changing, pausing, running and deleting, with every fault at its field."""

from __future__ import annotations

import datetime as dt
import html
import re
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controller.store.commands import tests as commands
from controller.store.entities import AuditEntry, Destination, Test


def one(engine: Any, entity: Any) -> Any:
    """Return the only row of an entity."""
    with Session(engine) as session:
        return session.scalars(select(entity)).one()


def problem_at(page: str, path: str) -> bool:
    """Whether a field shows a problem and says so to screen readers."""
    name = f"field-{path}"
    return f'id="{name}-problem"' in page and bool(
        re.search(rf'id="{name}"[^>]*aria-invalid="true"|aria-invalid="true"[^>]*id="{name}"', page)
    )


def test_an_address_that_is_refused_by_now_says_how_to_mend_it(operator, rows) -> None:
    """Where it was stored by an earlier release, its page shows it as a fault of the field."""
    place = rows.destination("Router", "fd00::1")
    rows.execute(update(Destination).values(address="fd00::1%eth0"))
    page = operator.get(f"/destinations/{place}")
    assert problem_at(page, "address")
    assert "which only link-local addresses (fe80::/10) have; leave out" in html.unescape(page)


def test_a_destination_is_made_changed_and_deleted(operator, engine) -> None:
    """The whole life of a destination through its forms, written down in the audit log under the user's name."""
    sent = operator.post(
        "/destinations/new", {"name": "Router", "address": "192.0.2.1", "tags": "core, edge"}
    )
    assert sent.status_code == 302
    made = one(engine, Destination)
    assert (made.address, made.tags) == ("192.0.2.1", ["core", "edge"])
    path = f"/destinations/{made.id}"
    change = {"name": "Router", "address": "192.0.2.2", "tags": "", "version": str(made.version)}
    assert operator.post(path, change).status_code == 302
    assert one(engine, Destination).address == "192.0.2.2"
    assert operator.post(f"{path}/delete").status_code == 302
    assert one(engine, Destination).deleted_at is not None
    with Session(engine) as session:
        entries = session.execute(
            select(AuditEntry.action, AuditEntry.actor).where(AuditEntry.object_type == "destination")
        ).all()
    assert [tuple(entry) for entry in entries] == [
        ("destination.create", "user:the-operator"),
        ("destination.update", "user:the-operator"),
        ("destination.delete", "user:the-operator"),
    ]


def test_a_bad_address_is_told_at_its_field(operator, engine) -> None:
    """What was typed stays, the fault stands at the field, and nothing is stored."""
    for address in ("", "2852039166", "http://user:pw@host/", "a b", "file:///etc/passwd", "::1%lo"):
        sent = operator.post("/destinations/new", {"name": "<b>Bad</b>", "address": address})
        page = sent.get_data(as_text=True)
        assert sent.status_code == 422, address
        assert problem_at(page, "address"), address
        assert "&lt;b&gt;Bad&lt;/b&gt;" in page
        assert "<b>Bad" not in page
    with Session(engine) as session:
        assert session.scalars(select(Destination)).all() == []


def test_a_taken_name_is_told_at_the_name(operator, rows) -> None:
    """Names are the same whatever their case."""
    rows.destination("Router", "192.0.2.1")
    sent = operator.post("/destinations/new", {"name": "ROUTER", "address": "192.0.2.9"})
    assert sent.status_code == 422
    assert problem_at(sent.get_data(as_text=True), "name")


def test_somebody_elses_change_is_not_overwritten(operator, rows) -> None:
    """A form that was filled from an older version is refused, and says so."""
    place = rows.destination("Router", "192.0.2.1")
    change = {"name": "Router", "address": "192.0.2.2", "version": "1"}
    assert operator.post(f"/destinations/{place}", change).status_code == 302
    late = operator.post(f"/destinations/{place}", change | {"address": "192.0.2.3"})
    assert late.status_code == 422
    assert "has changed meanwhile" in late.get_data(as_text=True)
    assert operator.post(f"/destinations/{place}", {"name": "x", "address": "192.0.2.1"}).status_code == 400


def test_a_destination_in_use_is_not_deleted(operator, rows, engine) -> None:
    """The page names the test that aims at it."""
    place = rows.destination("Router", "192.0.2.1")
    rows.test("Alpha", "ping", destinations=[place])
    operator.post(f"/destinations/{place}/delete")
    assert one(engine, Destination).deleted_at is None
    assert "is aimed at by <code>Alpha</code>" in operator.get(f"/destinations/{place}")


def test_the_form_follows_the_kind(operator, rows) -> None:
    """Another kind brings its own parameters and the destinations that suit it, keeping those that were ticked."""
    host = rows.destination("Router", "192.0.2.1")
    rows.destination("Shop", "https://shop.example.org/")
    ping = operator.fragment(f"/tests/fields?kind=ping&destinations={host}")
    assert 'name="spec.count"' in ping
    assert "Shop" not in ping
    assert re.search(rf'value="{host}" checked', ping)
    http = operator.fragment("/tests/fields?kind=http")
    assert 'name="spec.method"' in http
    assert "Router" not in http
    assert "has no destination" in operator.fragment("/tests/fields?kind=system")
    assert 'name="spec.count"' in operator.fragment("/tests/fields?kind=nonsense")


def a_test(place: int, **more: Any) -> dict[str, Any]:
    """Return what a browser sends for a ping test."""
    return {
        "name": "Alpha",
        "kind": "ping",
        "destinations": [str(place)],
        "spec.count": "4",
        "spec.interval_ms": "100",
        "spec.timeout_ms": "500",
        "spec.size_bytes": "56",
        "spec.dscp": "46",
        "spec.ttl": "64",
        "spec.dont_fragment": "true",
        "spec.address_family": "ipv4",
        "which": "all",
        "repeat": "interval",
        "interval_s": "2.5",
        **more,
    }


def test_a_test_is_made_and_changed(operator, rows, engine) -> None:
    """What the form sends is what is stored; the form of the stored test shows it again."""
    place = rows.destination("Router", "192.0.2.1")
    worker = rows.worker("w1", site="ams", labels={"tier": "edge"})
    sent = operator.post("/tests/new", a_test(place))
    assert sent.status_code == 302, sent.get_data(as_text=True)
    made = one(engine, Test)
    assert made.spec["count"] == 4
    assert made.spec["dscp"] == 46
    assert made.spec["dont_fragment"] is True
    assert made.spec["address_family"] == "ipv4"
    assert (made.interval_s, made.selection, made.created_by) == (2.5, {"all": True}, "user:the-operator")
    form = operator.get(f"/tests/{made.id}/edit")
    assert re.search(r'name="spec.count" value="4"', form)
    assert re.search(r'name="spec.dont_fragment" value="true" checked', form)
    change = a_test(
        place,
        version=str(made.version),
        which="some",
        workers=[str(worker)],
        sites=["ams"],
        labels=["tier=edge"],
        starts_at="2031-01-01T10:00:00.000Z",
        ends_at="2031-01-02T10:00:00.000Z",
    )
    del change["spec.dont_fragment"]
    sent = operator.post(f"/tests/{made.id}/edit", change)
    assert sent.status_code == 302, sent.get_data(as_text=True)
    changed = one(engine, Test)
    assert changed.spec["dont_fragment"] is False
    assert changed.selection == {"workers": [str(worker)], "sites": ["ams"], "labels": {"tier": "edge"}}
    assert changed.starts_at.isoformat() == "2031-01-01T10:00:00+00:00"


WINDOWS = {"window0.days": ["1", "5"], "window0.from": "22:00", "window0.to": "6:00", "window1.days": ["1"]}


def test_a_schedule_by_cron_is_made_shown_and_changed(operator, rows, engine) -> None:
    """Cron, zone, windows, count and a test per run go in and come back; another way to repeat clears them."""
    place = rows.destination("Router", "192.0.2.1")
    sent = operator.post(
        "/tests/new",
        a_test(
            place,
            **WINDOWS,
            repeat="cron",
            cron="30 23 * * *",
            zone="Europe/Berlin",
            max_runs="7",
            recurrence="new_test",
        ),
    )
    assert sent.status_code == 302, sent.get_data(as_text=True)
    made = one(engine, Test)
    assert (made.interval_s, made.cron, made.zone) == (None, "30 23 * * *", "Europe/Berlin")
    assert made.windows == [{"days": ["mon", "fri"], "from": "22:00", "to": "06:00"}]
    assert (made.max_runs, made.recurrence) == (7, "new_test")
    form = operator.get(f"/tests/{made.id}/edit")
    for part in (
        'name="cron" value="30 23 * * *"',
        'name="zone" value="Europe/Berlin"',
        'value="new_test" checked',
    ):
        assert part in form
    assert re.search(r'name="window0.days" value="5" checked', form)
    assert re.search(r'name="window0.from" value="22:00"', form)
    assert re.search(r'name="window1.from" value=""', form)
    page = operator.get(f"/tests/{made.id}")
    assert "by cron 30 23 * * *; mon, fri 22:00-06:00 (Europe/Berlin)" in page
    sent = operator.post(
        f"/tests/{made.id}/edit", a_test(place, version=str(made.version), cron="30 23 * * *", zone="UTC")
    )
    assert sent.status_code == 302, sent.get_data(as_text=True)
    changed = one(engine, Test)
    assert (changed.interval_s, changed.cron, changed.windows) == (2.5, "", [])
    assert (changed.max_runs, changed.recurrence) == (None, "continue")


def test_faults_of_a_schedule_stand_at_their_fields(operator, rows, engine) -> None:
    """Cron, zone and windows, each with what was typed."""
    place = rows.destination("Router", "192.0.2.1")
    bad = {"window0.days": [], "window0.from": "9", "window0.to": "17:00"}
    sent = operator.post("/tests/new", a_test(place, **bad, repeat="cron", cron="61 * * * *", zone="Mars"))
    page = sent.get_data(as_text=True)
    assert sent.status_code == 422
    for path in ("cron", "zone"):
        assert problem_at(page, path), path
    for part in ("bad minute", "no time zone", "names no day", "no time of day", 'value="61 * * * *"'):
        assert part in page, part


def preview(visitor: Any, **form: Any) -> str:
    """Return what the form's preview says."""
    sent = visitor.post("/tests/preview", {"kind": "ping", **form}, form="/tests/new")
    assert sent.status_code == 200
    return html.unescape(sent.get_data(as_text=True))


def test_the_preview_says_when_it_is_due(operator, viewer) -> None:
    """The next instants by the clocks of the zone; nothing while the schedule is not complete or never due."""
    form = {"repeat": "cron", "cron": "30 23 * * 5", "zone": "Asia/Kathmandu"}
    shown = preview(operator, **form)
    assert len(re.findall(r"<li[^>]*><time[^>]*>Fri \d{4}-\d\d-\d\d 23:30:00</time>", shown)) == 5
    assert "UTC+05:45" in shown
    assert len(re.findall("<li[^>]*><time", preview(operator, **form, max_runs="2"))) == 2
    assert "once the schedule is complete" in preview(operator, repeat="cron", cron="")
    assert "once the schedule is complete" in preview(operator, repeat="interval", interval_s="x")
    over = {"repeat": "interval", "interval_s": "60", "ends_at": "2020-01-01T00:00:00Z"}
    assert "nothing is due any more" in preview(operator, **over)
    assert viewer.client.post("/tests/preview").status_code == 403


def test_the_preview_counts_jobs_and_their_load(operator, rows) -> None:
    """Pairs of worker and destination, runs a day, and who is left out for which reason."""
    rows.worker("edge-1", site="ams")
    rows.worker("edge-2", site="ams")
    lame = {"ping": {"available": False, "reason": "no ICMP sockets here", "mend": "sysctl -w it"}}
    rows.worker("edge-3", site="ber", kinds=lame)
    places = [str(rows.destination(f"Router {number}", f"192.0.2.{number}")) for number in (1, 2, 3)]
    form = {"which": "all", "destinations": places, "repeat": "interval", "interval_s": "60"}
    shown = preview(operator, **form)
    assert "6\u00a0jobs" in shown
    assert "2\u00a0workers \u00d7 3\u00a0destinations" in shown
    assert "about 8\u202f640\u00a0runs a day" in shown
    assert "1 left out: the worker cannot run <code>ping</code>: no ICMP sockets here" in shown
    once = preview(operator, **{**form, "repeat": "once", "which": "some", "sites": ["ams"]})
    assert "6\u00a0runs in all" in once
    assert "left out" not in once
    nobody = preview(operator, **{**form, "which": "some", "sites": ["rom"]})
    assert "0\u00a0jobs" in nobody
    assert "its selection takes no worker" in nobody


def test_the_preview_draws_the_windows(operator) -> None:
    """A row for each day of the week; a window past midnight goes on in the next day."""
    hours = {"window0.days": ["1", "5"], "window0.from": "22:00", "window0.to": "06:00"}
    shown = preview(operator, repeat="interval", interval_s="60", zone="UTC", **hours)
    assert 'aria-label="Mon: 22:00 to 24:00"' in shown
    assert 'aria-label="Tue: 00:00 to 06:00"' in shown
    assert 'aria-label="Wed: closed"' in shown
    assert 'aria-label="Sat: 00:00 to 06:00"' in shown
    assert 'class="week"' not in preview(operator, repeat="interval", interval_s="60")


def test_every_fault_of_a_test_stands_at_its_field(operator, rows, engine) -> None:
    """Several faults at once: each at its field and in the list above, and nothing is stored."""
    place = rows.destination("Router", "192.0.2.1")
    bad = a_test(place, name="", interval_s="0.2", which="some", **{"spec.count": "0", "spec.dscp": "sixty"})
    bad["destinations"] = []
    sent = operator.post("/tests/new", bad)
    page = sent.get_data(as_text=True)
    assert sent.status_code == 422
    for path in ("name", "interval-s", "spec-count", "spec-dscp"):
        assert problem_at(page, path), path
    assert "names no worker" in page
    assert "must name at least one destination" in page
    assert "6\u00a0things need" in page
    assert 'value="sixty"' in page
    assert re.search(r"<details class=\"more\" open>", page), "a fault in a folded field opens the fold"
    with Session(engine) as session:
        assert session.scalars(select(Test)).all() == []


def test_a_test_that_runs_once_and_one_without_destination(operator, rows, engine) -> None:
    """Once means no interval; the system kind takes no destination even when one was ticked before."""
    place = rows.destination("Router", "192.0.2.1")
    sent = operator.post(
        "/tests/new",
        {"name": "Hosts", "kind": "system", "destinations": [str(place)], "which": "all", "repeat": "once"},
    )
    assert sent.status_code == 302, sent.get_data(as_text=True)
    made = one(engine, Test)
    assert made.interval_s is None
    assert made.kind == "system"


def test_a_test_is_paused_resumed_run_and_deleted(operator, rows, engine) -> None:
    """Each button does what it says and comes back with a word about it."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    path = f"/tests/{test}"
    assert operator.post(f"{path}/pause").status_code == 302
    assert one(engine, Test).paused
    assert "Resume" in operator.get(path)
    assert operator.post(f"{path}/resume").status_code == 302
    assert not one(engine, Test).paused
    assert operator.post(f"{path}/run").status_code == 302
    assert "runs it once more" in operator.get(path)
    assert operator.post(f"{path}/delete").status_code == 302
    assert one(engine, Test).deleted_at is not None
    assert operator.client.get(path).status_code == 404


@pytest.mark.parametrize("ticked", [True, False])
def test_a_test_is_deleted_with_its_data_when_that_is_ticked(operator, rows, engine, ticked: bool) -> None:
    """The results go only when somebody said so."""
    test = rows.test("Alpha", "ping", destinations=[rows.destination("Router", "192.0.2.1")])
    assert "Remove its results too" in operator.get(f"/tests/{test}")
    operator.post(f"/tests/{test}/delete", {"with_data": "yes"} if ticked else {})
    deleted = one(engine, Test)
    assert deleted.deleted_at is not None
    assert (deleted.data_deleted_at is not None) is ticked
    assert ("results are being removed" in operator.get("/tests")) is ticked


def test_viewers_change_nothing(viewer, rows) -> None:
    """No form, no button, and the routes behind them refuse."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    page = viewer.get(f"/tests/{test}")
    assert "Delete" not in page
    assert "Run now" not in page
    assert "<form" not in viewer.get(f"/destinations/{place}").split("<main")[1]
    for path in ("/tests/new", f"/tests/{test}/edit", "/destinations/new"):
        assert viewer.client.get(path).status_code == 403, path
    for path in (f"/tests/{test}/delete", f"/tests/{test}/run", f"/destinations/{place}/delete"):
        assert viewer.post(path, form="/").status_code == 403, path


def test_a_form_without_the_sessions_token_is_refused(operator, rows, engine) -> None:
    """A forged form changes nothing and is answered by a page."""
    place = rows.destination("Router", "192.0.2.1")
    answer = operator.client.post(f"/destinations/{place}/delete")
    assert answer.status_code == 400
    assert "does not belong to this session" in answer.get_data(as_text=True)
    assert one(engine, Destination).deleted_at is None


def test_an_interval_that_is_shown_is_the_one_that_is_kept(operator, rows, engine) -> None:
    """However long or odd: the form shows every digit, and saving it unchanged keeps the number."""
    place = rows.destination("Place", "192.0.2.1")
    for interval in (1234567, 123456.7, 2.5):
        test = rows.test(f"Every {interval}", "ping", destinations=[place], interval_s=interval)
        page = operator.get(f"/tests/{test}/edit")
        field = re.search(r'<input[^>]*name="interval_s"[^>]*>', page)
        assert field
        shown = re.search(r'value="([^"]*)"', field.group(0))
        assert shown
        assert shown.group(1) == str(interval)
        version = re.search(r'name="version" value="(\d+)"', page)
        assert version
        form = a_test(place, name=f"Every {interval}", interval_s=shown.group(1), version=version.group(1))
        assert operator.post(f"/tests/{test}/edit", form).status_code == 302
        with Session(engine) as session:
            assert session.get_one(Test, test).interval_s == interval


def test_limits_are_told_to_the_digit(operator, rows) -> None:
    """A limit is a number that would be taken, not a rounded one."""
    place = rows.destination("Place", "192.0.2.1")
    sent = operator.post("/tests/new", a_test(place, interval_s="99999999"))
    assert sent.status_code == 422
    assert "must lie between 1 and 2678400 s" in sent.get_data(as_text=True)


def test_a_run_now_that_came_to_nothing_is_told_on_the_test_s_page(operator, rows, engine) -> None:
    """Why, in words, whatever is in them; and no more once it is asked for again."""
    test = rows.test("Alpha", "ping", destinations=[rows.destination("Router", "192.0.2.1")])
    operator.post(f"/tests/{test}/run")
    assert "and did not:" not in operator.get(f"/tests/{test}")
    with Session(engine) as session, session.begin():
        reason = "a: the worker cannot run `ping`: <none>"
        commands.run_failed(session, test, dt.datetime.now(dt.UTC), reason=reason)
    page = operator.get(f"/tests/{test}")
    assert (
        "and did not: a: the worker cannot run <code>ping</code>: &lt;none&gt;. Run it now once more." in page
    )
    operator.post(f"/tests/{test}/run")
    assert "and did not:" not in operator.get(f"/tests/{test}")


def test_a_test_is_cloned(operator, rows, engine) -> None:
    """The form of a new test has everything of the other one, under another name; the other one stays as it is."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test(
        "Round trip", "ping", destinations=[place], interval_s=7, spec={"count": 3}, tags=["core"]
    )
    assert f"/tests/new?like={test}" in operator.get(f"/tests/{test}")
    page = operator.get(f"/tests/new?like={test}")
    for part in (
        'value="Round trip (copy)"',
        'value="7"',
        'value="3"',
        'value="core"',
        'action="/tests/new"',
    ):
        assert part in page, part
    assert re.search(rf'name="destinations" value="{place}" checked', page)
    assert 'name="version"' not in page
    assert operator.client.get("/tests/new?like=4711").status_code == 404
    with Session(engine) as session:
        assert session.scalars(select(Test)).one().name == "Round trip"


def test_a_test_is_stopped_and_restarted(operator, rows, engine) -> None:
    """It ends now and keeps its results; restarted it runs again, and what counts its runs counts anew."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Round trip", "ping", destinations=[place], interval_s=60, max_runs=10)
    path = f"/tests/{test}"
    assert operator.post(f"{path}/stop", form=path).location == path
    stopped = one(engine, Test)
    assert stopped.ends_at is not None
    assert stopped.ends_at <= dt.datetime.now(dt.UTC)
    page = operator.get(path)
    assert "is stopped; it keeps its results" in page
    assert "ended" in page
    assert f'action="{path}/restart"' in page
    assert f'action="{path}/run"' not in page
    operator.post(f"{path}/stop", form=path)
    assert one(engine, Test).version == stopped.version, "stopping twice changes nothing"
    assert operator.post(f"{path}/restart", form=path).location == path
    again = one(engine, Test)
    assert again.ends_at is None
    assert again.starts_at is not None
    assert again.starts_at > stopped.ends_at
    assert f'action="{path}/run"' in operator.get(path)
    with Session(engine) as session:
        actions = session.scalars(select(AuditEntry.action).where(AuditEntry.object_type == "test")).all()
    assert list(actions) == ["test.create", "test.stop", "test.restart"]


def test_what_has_not_begun_is_not_stopped(operator, rows, engine) -> None:
    """It is said what to do instead; a test that repeats for ever keeps its grid when it is restarted."""
    place = rows.destination("Router", "192.0.2.1")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    test = rows.test("Round trip", "ping", destinations=[place], starts_at=later.isoformat())
    operator.post(f"/tests/{test}/stop", form=f"/tests/{test}")
    assert "has not begun: pause it, or give it an earlier start" in html.unescape(
        operator.get(f"/tests/{test}")
    )
    assert one(engine, Test).ends_at is None
    for_ever = rows.test("For ever", "ping", destinations=[place])
    operator.post(f"/tests/{for_ever}/restart", form=f"/tests/{for_ever}")
    with Session(engine) as session:
        assert session.get_one(Test, for_ever).starts_at is None


def test_how_much_of_a_test_is_over(operator, rows) -> None:
    """Of one with an end, or with a number of runs; one without either has no such figure."""
    place = rows.destination("Router", "192.0.2.1")
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    ends = rows.test(
        "Ends",
        "ping",
        destinations=[place],
        starts_at=(now - hour).isoformat(),
        ends_at=(now + 3 * hour).isoformat(),
    )
    assert "25&nbsp;% over" in operator.get(f"/tests/{ends}")
    counted = rows.test(
        "Counted",
        "ping",
        destinations=[place],
        interval_s=60,
        starts_at=(now - hour).isoformat(),
        max_runs=121,
    )
    assert "50&nbsp;% over" in operator.get(f"/tests/{counted}")
    for_ever = rows.test("For ever", "ping", destinations=[place])
    assert "% over" not in operator.get(f"/tests/{for_ever}")


def test_ticked_rows_are_changed_together(operator, viewer, rows, engine) -> None:
    """Pause, resume, delete; what cannot be done is told, and the list comes back as it was searched."""
    place = rows.destination("Router", "192.0.2.1")
    ids = [rows.test(f"Test {number}", "ping", destinations=[place]) for number in range(3)]
    token = {"act": "pause", "ids": [str(ids[0]), str(ids[2])]}
    assert operator.post("/tests/bulk", token, form="/tests").location == "/tests"
    with Session(engine) as session:
        assert session.scalars(select(Test.paused).order_by(Test.id)).all() == [True, False, True]
    assert "2\u00a0tests are paused" in operator.get("/tests")
    operator.post("/tests/bulk", {"act": "delete", "ids": [str(ids[0]), "4711", "x"]}, form="/tests")
    page = operator.get("/tests")
    assert "1\u00a0test is deleted" in page
    assert "there is no test 4711" in page
    operator.post("/destinations/bulk", {"act": "delete", "ids": [str(place)]}, form="/destinations")
    assert "Router" in operator.fragment("/destinations")
    assert operator.post("/tests/bulk", {"act": "explode", "ids": []}, form="/tests").status_code == 400
    assert "data-tick" not in viewer.get("/tests")
    assert "data-tick" in operator.get("/tests")
