"""Pages of operations on the fleet: starting, watching live, cancelling, looking back, and marks on charts."""

from __future__ import annotations

import datetime as dt
import html
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.axe import violations
from support.statements import heard

from controller.store.commands import operation_progress as progress
from controller.store.commands import operations as commands
from controller.store.commands.audit import Actor
from controller.store.commands.operations import Claim
from controller.store.operation_notes import Figure, HostNote, TaskNote
from controller.store.queries import operations

SHE = Actor(name="user:ada")


class Runner:
    """Runs an operation as a command line does; one that is part of another as a keeper does."""

    def __init__(self, engine: Engine, *hosts: str, part_of: Runner | None = None, **values: Any) -> None:
        self._engine = engine
        with Session(engine) as session, session.begin():
            made = commands.begin(
                session,
                {"kind": "upgrade", "hosts": hosts, **values},
                actor=SHE,
                part_of=part_of.claim if part_of else None,
            )
        self.number = made.id
        self.claim: Claim = Claim(operation_id=made.id, version=made.version)

    def tell(self, host: str, task: str, state: str, message: str = "") -> None:
        """Tell of a task."""
        note = TaskNote(host=host, task=task, state=state, message=message, at=dt.datetime.now(dt.UTC))
        with Session(self._engine) as session, session.begin():
            progress.record(session, self.claim, [note])

    def end(self, state: str, *outcomes: HostNote, figures: Sequence[Figure] = ()) -> None:
        """Tell the end."""
        with Session(self._engine) as session, session.begin():
            progress.record(session, self.claim, outcomes=outcomes)
            progress.finish(session, self.claim, state=state, figures=figures)


def test_the_first_one_is_started_with_the_form(visit: Callable[[str], Any], engine: Engine) -> None:
    """The empty page says what to do; what is started waits, is shown with its pattern as text, and is cancelled."""
    admin = visit("admin")
    assert "streamswarm fleet provision" in admin.get("/fleet")
    answer = admin.post("/fleet", {"kind": "verify", "limit": "oslo:!edge"}, form="/fleet")
    assert answer.status_code == 302
    with Session(engine) as session:
        [asked] = operations.find(session).items
    assert (asked.kind, asked.limit, asked.state, asked.made_by) == (
        "verify", "oslo:!edge", "queued", "user:the-admin",
    )  # fmt: skip
    path = f"/fleet/{asked.id}"
    assert answer.location == path
    assert "waits for a keeper" in admin.get(path)
    assert admin.post(f"{path}/cancel", form=path).status_code == 302
    page = admin.get(path)
    assert "cancelled by user:the-admin" in page
    assert "Cancel…" not in page
    assert "is over: it is cancelled" in admin.client.get(
        admin.post(f"{path}/cancel", form="/fleet").location
    ).get_data(as_text=True)


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"kind": "format"}, "must be one of"),
        ({"kind": "provision", "limit": "@/etc/passwd"}, "must be names of hosts"),
        ({"kind": "verify", "check": "yes"}, "changes nothing anyhow"),
        ({"kind": "rotate", "check": "yes"}, "can only be done"),
        ({"kind": "upgrade", "release": "/tmp/own.whl"}, "must be the version of a bundle"),
        ({"kind": "upgrade", "batch": "none"}, "must be a number"),
        ({"kind": "remove"}, "must be ticked"),
    ],
)
def test_a_form_that_is_not_right_says_where(
    visit: Callable[[str], Any], engine: Engine, sent: dict[str, str], problem: str
) -> None:
    """Each fault stands at its field, and nothing is started; above all no removal by mistake."""
    answer = visit("admin").post("/fleet", sent, form="/fleet")
    assert answer.status_code == 422
    assert problem in answer.get_data(as_text=True)
    with Session(engine) as session:
        assert operations.find(session).items == ()


def test_an_upgrade_is_asked_for_with_its_options(visit: Callable[[str], Any], engine: Engine) -> None:
    """What is typed in its fields goes with it; with another kind they say nothing."""
    admin = visit("admin")
    typed = {"release": "1.4.0", "canary": "2", "batch": "20", "patience": "", "accept_inconclusive": "yes"}
    answer = admin.post("/fleet", {"kind": "upgrade", "limit": "oslo", **typed}, form="/fleet")
    assert answer.status_code == 302
    assert "accept inconclusive" in admin.get(answer.location)
    assert admin.post("/fleet", {"kind": "rotate", **typed}, form="/fleet").status_code == 302
    with Session(engine) as session:
        rotation, upgrade = operations.find(session).items
    assert (upgrade.kind, upgrade.limit, upgrade.options) == (
        "upgrade",
        "oslo",
        {"release": "1.4.0", "canary": 2, "batch": 20, "accept_inconclusive": True},
    )
    assert (rotation.kind, rotation.options) == ("rotate", {})


def test_others_watch(operator: Any, viewer: Any, engine: Engine) -> None:
    """No form and no button for them; hosts, tasks and what hosts said are text, whatever it is."""
    runner = Runner(engine, "edge-1")
    runner.tell("edge-1", "<b>Unpack</b>", "failed", "<script>disk full</script>")
    for person in (operator, viewer):
        assert "New operation" not in person.get("/fleet")
        page = person.get(f"/fleet/{runner.number}")
        assert "&lt;b&gt;Unpack" in page
        assert "&lt;script&gt;disk full" in page
        assert "Cancel…" not in page
        assert person.client.get("/fleet/4711").status_code == 404
    rows = viewer.fragment("/fleet")
    assert f"upgrade {runner.number}" in rows
    assert "run by the command line" in rows


#: What a canary was found to measure.
JUDGED = (
    Figure(
        kind="ping", quantity="RTT average", unit="ms", before=10.1, after=14.2,
        others=3, others_before=9.9, others_after=10.4, worse=True,
    ),
    Figure(
        kind="ping", quantity="runs that were not delivered", unit="%", before=0.0, after=0.0,
        others=3, others_before=0.0, others_after=1.0,
    ),
    Figure(
        kind="ping", where="edge-1: ping to <b>own</b>", quantity="RTT minimum", unit="ms", before=80.0, after=81.5,
    ),
)  # fmt: skip


def test_what_was_judged_is_drawn_with_its_numbers_as_text(viewer: Any, engine: Engine) -> None:
    """Before and since, with the release and without it; an operation of which nothing was judged shows no such thing."""
    runner = Runner(engine, "edge-1", kind="judge")
    assert "What was judged" not in viewer.get(f"/fleet/{runner.number}")
    runner.end("failed", figures=JUDGED)
    page = viewer.get(f"/fleet/{runner.number}")
    assert page.count('class="change"') == 3
    assert page.count('class="change-others"') == 2
    assert page.count('class="change-worse"') == 1
    for words in ("ping, RTT average", "10.1 ms", "14.2 ms", "10.4 ms", "3 hosts", "nobody measured it"):
        assert words in page
    assert "ping to &lt;b&gt;own" in page


def test_an_upgrade_leads_to_what_it_judged_and_back(viewer: Any, engine: Engine) -> None:
    """A keeper's is one operation, what was judged and returned are others; of very many the newest stand on its page."""
    upgrade, other = Runner(engine, "edge-1"), Runner(engine, "edge-2")
    page = f"/fleet/{upgrade.number}"
    assert "Further steps" not in viewer.get(page)
    judged = Runner(engine, "edge-1", kind="judge", part_of=upgrade)
    judged.end("failed", figures=JUDGED)
    returned = Runner(engine, "edge-1", kind="rollback", part_of=upgrade)
    shown = viewer.fragment(f"{page}/live")
    assert re.findall(r'href="/fleet/(\d+)">(\w+)', shown) == [
        (str(returned.number), "rollback"),
        (str(judged.number), "judge"),
    ]
    assert "Further steps" not in viewer.get(f"/fleet/{other.number}")
    returned.end("succeeded")
    back = f'part of <a href="{page}">operation {upgrade.number}</a>'
    assert back in viewer.get(f"/fleet/{judged.number}")
    assert "part of" not in viewer.get(page)
    for _ in range(50):
        Runner(engine, "edge-1", kind="judge", part_of=upgrade).end("succeeded")
    shown = viewer.get(page)
    assert shown.count(' class="name" href="/fleet/') == 50
    assert f"GET /api/v1/operations?part_of={upgrade.number}" in shown


def test_a_chart_knows_what_was_done_to_its_hosts(viewer: Any, rows: Any, engine: Engine) -> None:
    """Only what may have changed something, on hosts of the test, within the range."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    rows.job(test, rows.worker("edge-1"), place)
    done, elsewhere = Runner(engine, "edge-1"), Runner(engine, "edge-2")
    done.end("succeeded")
    elsewhere.end("succeeded")
    for values in ({"check": True}, {"kind": "verify"}):
        Runner(engine, "edge-1", **values).end("succeeded")

    def marks(start: dt.timedelta, end: dt.timedelta) -> list[dict[str, Any]]:
        now = dt.datetime.now(dt.UTC)
        query = {
            "from": round((now + start).timestamp() * 1000),
            "to": round((now + end).timestamp() * 1000),
        }
        answer = viewer.client.get(f"/tests/{test}/chart.json", query_string=query)
        found: list[dict[str, Any]] = answer.get_json()["operations"]
        return found

    hour = dt.timedelta(hours=1)
    [mark] = marks(-hour, hour)
    assert (mark["id"], mark["label"], mark["hosts"], mark["url"]) == (
        done.number, f"upgrade {done.number}", ["edge-1"], f"/fleet/{done.number}",
    )  # fmt: skip
    assert mark["from"] <= mark["to"]
    assert marks(-2 * hour, -hour) == []


#: Remembers of each text of a chart to which side of its place it was drawn, where that is, and whether it ends on the chart.
_SEE_TEXTS = """
window.texts = new Map();
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  window.texts.set(text, [this.textAlign, place[0], place[0] + this.measureText(text).width <= this.canvas.width]);
  return draw.call(this, text, ...place);
};
"""


@pytest.mark.browser
def test_an_operation_is_watched_live(open_window: Callable[..., Any], rows: Any, engine: Engine) -> None:
    """Hosts and log move without a reload, cancelling is asked about, the end takes the button away; charts are marked."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    window = open_window()
    page = window.log_in()
    window.open("/fleet")
    expect(page.get_by_text("No operations yet")).to_be_visible()
    found = {"/fleet empty": violations(page)}
    canaries, sure = page.get_by_label("Canaries"), page.get_by_label("Yes, take the workers off these hosts")
    expect(canaries).to_be_hidden()
    page.get_by_role("radio", name="Upgrade").check()
    expect(canaries).to_be_visible()
    expect(sure).to_be_hidden()
    found["/fleet upgrade"] = violations(page)
    page.get_by_role("radio", name="Remove").check()
    expect(sure).to_be_visible()
    expect(canaries).to_be_hidden()
    expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=15_000)

    runner = Runner(engine, "edge-1", "edge-2")
    link = page.get_by_role("link", name=f"upgrade {runner.number}")
    expect(link).to_be_visible(timeout=15_000)
    link.click()
    expect(page.locator("[data-live-state]")).to_have_text("Live", timeout=15_000)
    page.evaluate("window.stayed = true")
    runner.tell("edge-1", "Unpack the release", "changed")
    expect(page.get_by_role("log")).to_contain_text("Unpack the release", timeout=15_000)
    runner.tell("edge-2", "Gather facts", "unreachable", "no route to host")
    expect(page.get_by_role("row", name="edge-2 no route to host unreachable")).to_be_visible(timeout=15_000)
    assert page.evaluate("window.stayed"), "the page must not have been loaded anew"
    found["operation"] = violations(page)

    page.get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    dialog.get_by_role("button", name="Cancel the operation").click()
    expect(page.get_by_text("being cancelled")).to_be_visible()
    runner.end("cancelled", HostNote(host="edge-1", state="ok", changed=1))
    expect(page.get_by_role("button", name="Cancel…")).to_have_count(0, timeout=15_000)
    found["over"] = violations(page)

    rows.run(job, dt.datetime.now(dt.UTC), rtt_avg_ms=10.0)
    page.add_init_script(_SEE_TEXTS)
    window.open(f"/tests/{test}")
    mark = page.get_by_role("link", name=f"upgrade {runner.number}")
    expect(mark).to_be_visible(timeout=15_000)
    page.wait_for_function("label => texts.has(label)", arg=f"upgrade {runner.number}", timeout=15_000)
    side, place_px, whole = page.evaluate("label => texts.get(label)", f"upgrade {runner.number}")
    assert (side, whole) == ("left", True)
    assert place_px > 62, "it lies over the numbers of the axis"
    found["chart"] = violations(page)
    mark.click()
    expect(page.get_by_role("heading", name=f"upgrade {runner.number}", level=1)).to_be_visible()
    window.page.set_viewport_size({"width": 390, "height": 850})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert {where: items for where, items in found.items() if items} == {}
    assert window.troubles == []


def test_two_hundred_operations_stay_quick_and_readable(visit: Callable[[str], Any], engine: Engine) -> None:
    """As many questions to the database as for one, in pages of fifty; a limit that names a hundred hosts is cut."""
    viewer, limit = visit("viewer"), ",".join(f"edge-{number}" for number in range(100))
    Runner(engine, *limit.split(","), limit=limit).end("succeeded")
    with heard(Engine) as for_one:
        viewer.get("/fleet")
    for _ in range(199):
        Runner(engine, *limit.split(","), limit=limit).end("succeeded")
    began = time.monotonic()
    with heard(Engine) as for_all:
        page = viewer.get("/fleet")
    took_s = time.monotonic() - began
    assert len(for_one) == len(for_all) > 0
    assert took_s < 2
    seen: list[str] = []
    while True:
        assert "edge-0,edge-1," in page
        assert "edge-50" not in page
        assert len(page) < 200_000
        seen += re.findall(r'href="/fleet/(\d+)"', page)
        older = re.search(r'href="(/fleet\?cursor=[^"]+)">Older operations', page)
        if older is None:
            break
        page = viewer.get(html.unescape(older[1]))
    assert [int(number) for number in seen] == list(range(200, 0, -1))
    assert limit in viewer.get("/fleet/200")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_of_a_judgement_can_be_read(
    open_window: Callable[..., Any], engine: Engine, scheme: str
) -> None:
    """By everybody, in both schemes, and on a phone: there each quantity is a card, and nothing is cut off.

    So can the upgrade's page, which leads there.
    """
    upgrade = Runner(engine, "edge-1")
    runner = Runner(engine, "edge-1", kind="judge", part_of=upgrade)
    runner.end("failed", HostNote(host="edge-1", state="failed", changed=0), figures=JUDGED)
    window = open_window(color_scheme=scheme)
    page = window.log_in()
    window.open(f"/fleet/{runner.number}")
    row = page.get_by_role("row", name="ping, RTT average")
    expect(row).to_contain_text("10.1 ms")
    expect(row).to_contain_text("worse")
    expect(row.locator("svg.change")).to_be_visible()
    found = violations(page)
    page.set_viewport_size({"width": 390, "height": 850})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found += violations(page)
    page.get_by_role("link", name=f"operation {upgrade.number}").click()
    expect(page.get_by_role("link", name=f"judge {runner.number}")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert found + violations(page) == []
    assert window.troubles == []
