"""What a worker's page tells of results that do not come: refused ones, and a spool that does not shrink."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from controller.store.entities import Backlog, Drain, Operation, OverdueJob, Quarantine, Worker
from worker.policy import Policy


def test_refused_results_are_on_their_workers_page(operator, rows) -> None:
    """How many, and of the newest fifty when, why and how much is kept; nothing where there are none."""
    worker, other = rows.worker("edge-1"), rows.worker("edge-2")
    values = {"worker_id": worker, "spool_id": "s", "reason": "no <job> of its", "payload": b"x" * 2048}
    rows.execute(insert(Quarantine).values([{**values, "seq": seq} for seq in range(1001, 1054)]))
    page = operator.get(f"/workers/{worker}")
    for text in (
        "Refused results",
        '<span class="count">53</span>',
        "the newest 50 are listed",
        "2\u00a0KiB",
    ):
        assert text in page, text
    assert page.count("no &lt;job&gt; of its") == 50
    assert "1\u202f053" in page
    assert "1\u202f003" not in page
    assert "Refused results" not in operator.get(f"/workers/{other}")


@pytest.mark.parametrize(
    ("records", "minutes", "connected", "stuck"),
    [(20_000, 11, True, True), (20_000, 9, True, False), (500, 11, True, False), (20_000, 11, False, False)],
)
def test_a_spool_that_does_not_shrink_is_told(
    operator, rows, records: int, minutes: int, connected: bool, stuck: bool
) -> None:
    """On the worker's page, in lists, on the overview, and as the reason of jobs that are overdue."""
    since = dt.timedelta(minutes=minutes)
    worker, place = rows.worker("edge-1", connected=connected), rows.destination("router", "192.0.2.1")
    job = rows.job(test := rows.test("Alpha", "tcp", destinations=[place]), worker, place)
    rows.execute(insert(Backlog).values(worker_id=worker, least=records, since=func.now() - since))
    rows.execute(
        update(Worker)
        .where(Worker.id == worker)
        .values(spool_records=records, connected_at=func.now() - dt.timedelta(hours=1))
    )
    rows.execute(insert(OverdueJob).values(job_id=job, due_at=func.now()))
    told = {
        f"/workers/{worker}": "has got rid of none of its stored results since",
        "/workers": "spool stuck",
        "/": "Has got rid of none of its 20\u202f000 stored results since",
        f"/tests/{test}": "its spool has not shrunk since",
    }
    assert {path: text in operator.get(path) for path, text in told.items()} == dict.fromkeys(told, stuck)
    assert ("whose spool does not shrink" in operator.get("/")) is stuck


def test_a_new_session_may_empty_its_spool_first(operator, rows) -> None:
    """What was noted in the session before does not count."""
    worker = rows.worker("edge-1")
    rows.execute(
        insert(Backlog).values(worker_id=worker, least=900, since=func.now() - dt.timedelta(hours=1))
    )
    rows.execute(update(Worker).where(Worker.id == worker).values(spool_records=900, connected_at=func.now()))
    assert "got rid of none" not in operator.get(f"/workers/{worker}")


@pytest.mark.parametrize("ticked", [True, False])
def test_a_worker_is_deleted_with_its_data_when_that_is_ticked(visit, rows, engine, ticked: bool) -> None:
    """The dialog asks; the results go only when somebody said so, and a revoked worker can be deleted too."""
    admin, worker = visit("admin"), rows.worker("edge-1")
    page = admin.get(f"/workers/{worker}")
    assert "Remove its results too" in page
    assert "streamswarm fleet remove" in page
    admin.post(f"/workers/{worker}/revoke")
    assert "Delete worker" in admin.get(f"/workers/{worker}")
    admin.post(f"/workers/{worker}/delete", {"with_data": "yes"} if ticked else {})
    with Session(engine) as session:
        deleted = session.scalars(select(Worker)).one()
    assert deleted.deleted_at is not None
    assert (deleted.data_deleted_at is not None) is ticked
    listed = admin.get("/workers")
    assert ("results are being removed" in listed) is ticked
    assert admin.client.get(f"/workers/{worker}").status_code == 404


def test_operators_delete_no_worker(operator, rows) -> None:
    """Neither the button nor the route behind it is for them."""
    worker = rows.worker("edge-1")
    assert "Delete worker" not in operator.get(f"/workers/{worker}")
    assert operator.post(f"/workers/{worker}/delete").status_code == 403


def test_a_policy_that_is_not_the_intended_one_is_shown_beside_it(operator, rows) -> None:
    """Both, with what to do; what means the same is the same, and what was never told is not compared."""
    worker = rows.worker("edge-1")

    def page(policy: dict[str, object], intended: dict[str, object] | None) -> str:
        values = {"policy": policy, "intended_policy": intended, "connected_at": func.now()}
        rows.execute(update(Worker).where(Worker.id == worker).values(**values))
        return str(operator.get(f"/workers/{worker}"))

    told = page({"deny": ["192.0.2.0/24"]}, {"deny": ["198.51.100.0/24"], "packets_per_second": 10})
    for text in (
        "another policy than the inventory intends",
        "--limit edge-1",
        "192.0.2.0/24",
        "198.51.100.0/24",
    ):
        assert text in told, text
    assert told.index("In force") < told.index("192.0.2.0/24") < told.index("Intended")
    assert "another policy" not in page({"deny": ["192.0.2.0/24"]}, {"deny": ["192.0.2.0/24"], "allow": []})
    assert "another policy" not in page({"deny": ["192.0.2.0/24"]}, None)
    assert "It keeps to the defaults" in page({}, {})
    # What a worker tells beside its policy, of a responder that knows only names and so answers nobody.
    names = {"allow": ["www.example.org"], "responder": 5405}
    warned = page(json.loads(Policy.parse(names).as_json()), names)
    assert "the responder answers nobody: `allow` has names of hosts only" in warned
    assert "another policy" not in warned


@pytest.mark.parametrize("kind", ["restart", "drain", "resume"])
def test_a_worker_goes_in_and_out_of_service_from_its_page(visit, operator, rows, engine, kind: str) -> None:
    """A keeper is asked to do it on its host; only administrators may, and only what has a button there."""
    admin, worker = visit("admin"), rows.worker("edge-1", connected=kind != "resume")
    assert f'name="kind" value="{kind}"' in admin.get(f"/workers/{worker}")
    assert admin.post(f"/workers/{worker}/operate", {"kind": kind}).status_code == 302
    assert admin.post(f"/workers/{worker}/operate", {"kind": "remove"}).status_code == 302
    with Session(engine) as session:
        [asked] = session.scalars(select(Operation)).all()
    assert (asked.kind, asked.parameters["limit"]) == (kind, "edge-1")
    assert "must be one of" in admin.get(f"/workers/{worker}")
    assert "/operate" not in operator.get(f"/workers/{worker}")
    assert operator.post(f"/workers/{worker}/operate", {"kind": kind}).status_code == 403


def test_the_worker_beside_the_controller_is_not_the_fleets(visit, rows) -> None:
    """`streamswarm up` looks after it."""
    worker = rows.worker("localhost", connected=True)
    assert "/operate" not in visit("admin").get(f"/workers/{worker}")


def test_uptime_and_limits_are_among_the_facts(operator, rows) -> None:
    """Of the process and of its host, as spans of time; a limit that there is not is said so, and nonsense breaks no page."""
    facts = {"started_at_us": 1_900_000_000_000_000, "boot_time_us": 2**62, "memory_max_bytes": 2**29}
    worker = rows.worker("edge-1", facts=facts | {"tasks_max": 0, "open_files_max": 16384})
    page = operator.get(f"/workers/{worker}")
    for text in (
        "<dt>started</dt>",
        "2030-03-17",
        "512\u00a0MiB",
        "<dt>tasks max</dt><dd>no limit</dd>",
        "16\u202f384",
    ):
        assert text in page, text


def test_a_drained_worker_is_shown_as_such_and_needs_no_attention(operator, rows) -> None:
    """On its page with since when and by whom, in lists, and on the overview, where its silent test needs none either."""
    worker = rows.worker("edge-1", connected=False, spool_alarm="the disk is full")
    job = rows.job(rows.test("Load", "system"), worker)
    rows.run(job, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    told = ("Has no session", "Results are overdue", "the disk is full")
    assert all(text in operator.get("/") for text in told)
    rows.execute(insert(Drain).values(worker_id=worker, made_by="user:ada"))
    page = operator.get("/")
    assert [text for text in told if text in page] == []
    assert "1 drained" in page
    assert 'data-state="drained"' in page
    shown = operator.get(f"/workers/{worker}")
    assert "by user:ada" in shown
    assert "state-drained" in shown
    assert "drained" in operator.get("/workers")
    assert "workers drained" in operator.get("/tests")
