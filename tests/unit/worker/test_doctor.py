"""Each check of the worker's doctor, with the files and processes it looks at; one thing is wrong at a time."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from support.certificates import Issued, issue
from support.spools import result_of

from streamswarm import __version__
from streamswarm.findings import Finding, Verdict
from streamswarm.v1 import probe_pb2
from worker import certificates
from worker.clock import SystemClock
from worker.config import WorkerConfig
from worker.doctor import clock, daemon, kinds, storage, trust
from worker.errors import WorkerError
from worker.facts import boot_id
from worker.identity import Identity, IdentityStore
from worker.lock import DataLock, holder_of
from worker.policy import Policy
from worker.probing import Availability
from worker.spool.file import SpoolFile
from worker.spool.peek import Waiting, peek
from worker.spool.records import Entry

WORKER = str(uuid.uuid4())
Configure = Callable[..., WorkerConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Make the configuration of a worker below the test's folder."""

    def make(**values: Any) -> WorkerConfig:
        folder = tmp_path / "data"
        folder.mkdir(mode=0o700, exist_ok=True)
        return WorkerConfig(data_dir=folder, policy_file=tmp_path / "policy.yaml", spool_mib=1, **values)

    return make


def _only(findings: list[Finding]) -> Finding:
    (found,) = findings
    return found


# -- identity, certificate, CA file ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root() -> Issued:
    return issue("root", authority=True)


def _identity(root: Issued, *, life_h: float = 24, age_h: float = 1, roots: bytes | None = None) -> Identity:
    leaf = issue("worker", root, for_servers=False, since_days=age_h / 24, days=(life_h - age_h) / 24)
    return Identity(
        worker_id=WORKER,
        trust_domain="test.example",
        key_pem=leaf.key_pem,
        chain_pem=leaf.pem,
        ca_pem=roots or root.pem,
        not_before_us=int(leaf.certificate.not_valid_before_utc.timestamp() * 1e6),
        not_after_us=int(leaf.certificate.not_valid_after_utc.timestamp() * 1e6),
        gateways=("127.0.0.1:7443",),
    )


def _certificate_of(found: Identity) -> Finding:
    return trust._certificate(found)


def test_a_young_certificate_is_good(root: Issued) -> None:
    """It says until when it is good and from when on it is renewed."""
    found = _certificate_of(_identity(root))
    assert found.verdict is Verdict.OK
    assert found.found.startswith("good until ")


@pytest.mark.parametrize(
    ("life_h", "age_h", "text"),
    [(24, 25, "it was good until"), (24, -1, "not yet"), (24, 20, "should have been renewed")],
)
def test_a_certificate_out_of_time_is_told(root: Issued, life_h: float, age_h: float, text: str) -> None:
    """Expired, from the future, and one whose renewal is overdue."""
    found = _certificate_of(_identity(root, life_h=life_h, age_h=age_h))
    assert found.verdict is Verdict.WRONG
    assert text in found.found
    assert found.mend


def test_a_certificate_of_another_authority_is_told(root: Issued) -> None:
    """A root of the same name does not vouch for it."""
    found = _certificate_of(_identity(root, roots=issue("root", authority=True).pem))
    assert found.verdict is Verdict.WRONG
    assert "none of the roots" in found.found


def test_who_is_not_enrolled_is_told_what_is_missing(configure: Configure, tmp_path: Path) -> None:
    """Settings, then the token; with both it is the worker's turn."""
    assert "lacks enrolment, ca_file, token_file" in _only(trust.identity(configure())[1]).found
    (tmp_path / "ca.pem").write_bytes(issue("root", authority=True).pem)
    config = configure(enrolment="192.0.2.1:7444", ca_file=tmp_path / "ca.pem", token_file=tmp_path / "token")
    identity, (found, ca_file) = trust.identity(config)
    assert identity is None
    assert "there is no token" in found.found
    assert ca_file.verdict is Verdict.OK
    (tmp_path / "token").write_text("t")
    assert "not enrolled yet" in trust.identity(config)[1][0].found


def test_an_identity_that_others_can_read_is_told(configure: Configure) -> None:
    """With the command that mends it."""
    config = configure()
    folder = config.data_dir / "identity"
    folder.mkdir()
    path = folder / "identity.json"
    path.write_text("{}")
    path.chmod(0o644)
    found = _only(trust.identity(config)[1])
    assert (found.check, found.verdict, found.mend) == ("identity", Verdict.WRONG, f"chmod 600 {path}")
    path.chmod(0o600)
    assert "is damaged" in _only(trust.identity(config)[1]).found


def test_a_key_that_is_not_the_certificates_is_told(configure: Configure, root: Issued) -> None:
    """Half of one identity and half of another."""
    config = configure()
    uri = x509.UniformResourceIdentifier(f"spiffe://test.example/worker/{WORKER}")
    key = issue("other").key
    now = datetime.datetime.now(datetime.timezone.utc)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .sign(root.key, root.certificate.signature_hash_algorithm)
    )
    chain = leaf.public_bytes(serialization.Encoding.PEM)
    good, bad = Issued(certificate=leaf, key=key), issue("stranger")
    for issued, verdict in ((good, Verdict.OK), (bad, Verdict.WRONG)):
        identity = Identity(
            worker_id=WORKER, trust_domain="x", key_pem=issued.key_pem, chain_pem=chain,
            ca_pem=root.pem, not_before_us=0, not_after_us=0,
        )  # fmt: skip
        IdentityStore(config.data_dir / "identity").save(identity)
        first = trust.identity(config)[1][0]
        assert first.verdict is verdict
        assert ("not for this worker's key" in first.found) is (verdict is Verdict.WRONG)


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "cannot be read"), (b"no PEM", "no certificate in PEM"), ("old", "good by this host's clock")],
)
def test_a_useless_ca_file_is_told(
    configure: Configure, tmp_path: Path, content: bytes | str | None, text: str
) -> None:
    """Missing, something else, expired."""
    path = tmp_path / "ca.pem"
    if content == "old":
        path.write_bytes(issue("old", authority=True, days=-1).pem)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    found = trust.identity(configure(ca_file=path))[1][-1]
    assert (found.check, found.verdict) == ("CA file", Verdict.WRONG)
    assert text in found.found


# -- files -----------------------------------------------------------------------------------------------------


def test_the_policy_is_judged(configure: Configure) -> None:
    """A missing one that was named, a broken one and one that allows nothing are wrong."""
    config = configure()
    for content, verdict, text in (
        (None, Verdict.WRONG, "cannot be read"),
        ("deny: [", Verdict.WRONG, "is wrong"),
        ("packets_per_second: 0", Verdict.WRONG, "no packets"),
        ("kinds: [tcp]", Verdict.OK, "is good"),
    ):
        if content is not None:
            config.policy_file.write_text(content)
        policy, found = storage.policy(config)
        assert (found.check, found.verdict) == ("policy", verdict)
        assert text in found.found
    assert policy.kinds == {"tcp"}


def test_a_disk_without_room_for_the_spool_is_told(configure: Configure) -> None:
    """What the spool may still take is what must be free."""
    config = configure()
    assert storage.folder(config).verdict is Verdict.OK
    huge = WorkerConfig(data_dir=config.data_dir, spool_mib=2**40)
    found = storage.folder(huge)
    assert found.verdict is Verdict.WRONG
    assert "the spool may want" in found.found


def test_a_missing_data_folder_is_told(tmp_path: Path) -> None:
    """Not as an unreadable one."""
    found = storage.folder(WorkerConfig(data_dir=tmp_path / "none"))
    assert found.verdict is Verdict.WRONG
    assert "does not exist" in found.found


def _due(seconds_ago: float, *, size: int = 10) -> Entry:
    result = probe_pb2.Result(
        job_id=1, scheduled_at_us=int((time.time() - seconds_ago) * 1e6), detail_json="x" * size
    )
    return Entry(body=result.SerializeToString())


@pytest.mark.parametrize(
    ("entries", "running", "verdict", "text"),
    [
        ([], True, Verdict.OK, "no results wait"),
        ([(5.0, 10), (1.0, 10)], True, Verdict.OK, "2 results"),
        ([(3600.0, 10)], False, Verdict.OK, "1 results"),
        ([(3600.0, 10)], True, Verdict.WRONG, "are not delivered"),
        ([(5.0, 2**20)], True, Verdict.WRONG, "the spool is full"),
        ([(40 * 86_400.0, 10)], False, Verdict.WRONG, "the spool is full"),
    ],
)
def test_what_waits_is_judged(
    configure: Configure, entries: list[tuple[float, int]], running: bool, verdict: Verdict, text: str
) -> None:
    """By its size, and by its age where a daemon should be delivering it; a spool at rest is read too."""
    config = configure()
    path = config.data_dir / "spool.sqlite"
    file = SpoolFile.open(path)
    file.commit([_due(age, size=size) for age, size in entries])
    for closed in (False, True):
        if closed:
            file.close()
        found = _only(storage.spool(config, running=running)[1])
        assert (found.check, found.verdict) == ("spool", verdict)
        assert text in found.found
    assert sorted(item.name for item in config.data_dir.iterdir()) == ["spool.sqlite"]


def test_looking_into_a_spool_holds_nobody_up(tmp_path: Path) -> None:
    """While a reader is in the middle of it, the daemon commits, deletes and folds its log in."""
    path = tmp_path / "spool.sqlite"
    file = SpoolFile.open(path)
    file.commit([Entry(body=result_of(1).SerializeToString())])
    seen = peek(path)
    assert seen is not None
    assert (seen.records, seen.oldest_us) == (1, 1)
    for number in range(2, 50):
        file.commit([Entry(body=result_of(number).SerializeToString())], delete_to=number - 1)
        seen = peek(path)
        assert seen is not None
        assert (seen.records, seen.oldest_us) == (1, number)
    file.close()
    assert not path.with_name("spool.sqlite-wal").exists()
    again = SpoolFile.open(path)
    assert again.damage == ""
    assert again.next_seq == 50
    again.close()


def test_a_damaged_spool_is_told(configure: Configure) -> None:
    """The file itself, and those that were kept."""
    config = configure()
    path = config.data_dir / "spool.sqlite"
    path.write_bytes(b"no database" * 1000)
    waiting, findings = storage.spool(config, running=False)
    assert waiting is None
    assert "is damaged" in _only(findings).found
    path.unlink()
    path.with_name("spool-damaged-20300101T000000Z-0000.sqlite").touch()
    _, (found, damaged) = storage.spool(config, running=False)
    assert found.verdict is Verdict.OK
    assert (damaged.verdict, damaged.check) == (Verdict.WRONG, "damaged spool")


# -- the clock -------------------------------------------------------------------------------------------------


def _kept(*, off_s: float = 0.0, boot: str = "", seen_s: float = 0.0) -> Waiting:
    """Return what a daemon keeps whose host's clock is so far ahead of the controller's."""
    system = SystemClock()
    base = system.wall_us() - system.steady_us() - int(off_s * 1e6)
    kept = {"boot_id": boot or boot_id(), "base_us": base, "seen_us": int((time.time() + seen_s) * 1e6)}
    return Waiting(records=0, size_bytes=0, oldest_us=None, kept_time=json.dumps(kept))


@pytest.mark.parametrize(
    ("kept", "verdict", "text"),
    [
        ({}, Verdict.OK, "0.00"),
        ({"off_s": 3600}, Verdict.WRONG, "ahead of the controller's"),
        ({"off_s": -3600}, Verdict.WRONG, "3600.0"),
        ({"boot": "another", "seen_s": 3600}, Verdict.WRONG, "behind: it was"),
        ({"boot": "another", "seen_s": -60}, Verdict.UNKNOWN, "neither"),
        (None, Verdict.UNKNOWN, "neither"),
    ],
)
def test_the_clock_is_judged_by_what_the_last_session_told(
    kept: dict[str, Any] | None, verdict: Verdict, text: str
) -> None:
    """Within a boot of the host to the millisecond; from an earlier boot only that time does not run back."""
    found = clock.compare(None if kept is None else _kept(**kept), [])
    assert found.verdict is verdict
    assert text in found.found


@pytest.mark.parametrize(
    ("since_days", "days", "verdict", "text"),
    [
        (1, 6, Verdict.UNKNOWN, "lies between"),
        (-1, 6, Verdict.WRONG, "behind"),
        (7, -1, Verdict.UNKNOWN, "ahead, or the gateway does not renew"),
    ],
)
def test_certificates_bound_the_time(since_days: float, days: float, verdict: Verdict, text: str) -> None:
    """They prove a clock that is behind; one that is ahead looks like a gateway that does not renew."""
    facts = certificates.read(issue("gateway", since_days=since_days, days=days).der)
    found = clock.compare(None, [facts])
    assert found.verdict is verdict
    assert text in found.found


# -- the daemon ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a unit of the worker's."""
    monkeypatch.setattr(daemon, "_unit", lambda config: {})


@pytest.fixture
def held(configure: Configure) -> Iterator[DataLock]:
    """A daemon's lock, held by this process."""
    lock = DataLock.take(configure().data_dir)
    yield lock
    lock.release()


def test_no_daemon_is_told(configure: Configure, no_unit: None) -> None:
    """Before the first start and after the last."""
    config = configure()
    assert daemon.look(config).findings[0].verdict is Verdict.WRONG
    DataLock.take(config.data_dir).release()
    found = daemon.look(config)
    assert found.pid is None
    assert "no daemon runs" in found.findings[0].found


def test_the_daemon_is_named(configure: Configure, held: DataLock, no_unit: None) -> None:
    """By its process, its rights and its release."""
    found = daemon.look(configure())
    assert found.pid == os.getpid()
    here, rights, version = found.findings
    assert (here.check, here.verdict) == ("daemon", Verdict.OK)
    assert rights.check == "rights"
    if os.geteuid() == 0:
        assert (rights.verdict, "as root" in rights.found) == (Verdict.WRONG, True)
    assert (version.check, version.verdict) == ("version", Verdict.OK)


@pytest.mark.parametrize(
    ("uid", "capabilities", "verdict", "text"),
    [
        (0, "3fffffffff", Verdict.WRONG, "as root"),
        (998, "0000000000000000", Verdict.WRONG, "without CAP_NET_RAW"),
        (998, "0000000000002000", Verdict.OK, "ordinary user"),
        (998, None, Verdict.UNKNOWN, "cannot be seen"),
    ],
)
def test_rights_are_read_from_the_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    capabilities: str | None,
    verdict: Verdict,
    text: str,
) -> None:
    """Effective user and effective capabilities, as proc(5) writes them."""
    monkeypatch.setattr(daemon, "_PROC", tmp_path)
    if capabilities is not None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "status").write_text(
            f"Name:\tpython3\nUid:\t998\t{uid}\t998\t998\nCapEff:\t{capabilities}\n"
        )
    found = _only(list(daemon._rights(7)))
    assert found.verdict is verdict
    assert text in found.found


def test_an_older_daemon_is_told(configure: Configure, held: DataLock, no_unit: None) -> None:
    """The release is the one that its process noted when it took the lock."""
    config = configure()
    (config.data_dir / "lock").write_text(f"{os.getpid()} 9.9.9\n")
    version = daemon.look(config).findings[-1]
    assert (version.check, version.verdict) == ("version", Verdict.WRONG)
    assert f"the daemon runs 9.9.9, and this is {__version__}" in version.found
    (config.data_dir / "lock").write_text(f"{os.getpid()}\n")
    assert daemon.look(config).findings[-1].verdict is Verdict.UNKNOWN


def test_the_units_process_must_be_the_daemon(
    configure: Configure, held: DataLock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another process on its data folder, a unit that is stopped, and a unit that would start another release."""
    config = configure()
    program = tmp_path / "releases" / "9.9.9" / "bin" / "streamswarm-worker"
    program.parent.mkdir(parents=True)
    program.touch()
    (tmp_path / "current").symlink_to(program.parents[1])
    unit = {
        "MainPID": "1",
        "ActiveState": "active",
        "ExecStart": f"{{ path=/usr/bin/python3 ; argv[]=/usr/bin/python3 {tmp_path}/current/bin/streamswarm-worker run }}",
    }
    monkeypatch.setattr(daemon, "_unit", lambda config: unit)
    found = daemon.look(config).findings
    assert (found[0].verdict, f"process {os.getpid()} holds" in found[0].found) == (Verdict.WRONG, True)
    assert found[-1].verdict is Verdict.WRONG
    assert "would start 9.9.9" in found[-1].found
    held.release()
    unit |= {"MainPID": "0", "ActiveState": "failed", "SubState": "failed"}
    gone = daemon.look(config).findings[0]
    assert "streamswarm-worker.service is failed" in gone.found
    assert "journalctl -u" in gone.mend


def test_looking_at_a_lock_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    """A start waits a moment for one who only looks; another daemon it does not wait for."""
    DataLock.take(tmp_path).release()
    assert holder_of(tmp_path) is None
    with (tmp_path / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(WorkerError, match="another worker daemon"):
            DataLock.take(tmp_path)
    lock = DataLock.take(tmp_path)
    holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.pid, holder.version) == (os.getpid(), __version__)
    with pytest.raises(WorkerError, match=f"process {os.getpid()}\\)"):
        DataLock.take(tmp_path)
    lock.release()


# -- kinds -----------------------------------------------------------------------------------------------------


def test_kinds_that_can_be_mended_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the host cannot have, or its policy leaves out, are not."""
    states = {
        "ping": Availability(available=True),
        "tcp": Availability(available=False, reason="no sockets", mend="buy some"),
        "dns": Availability(available=False, reason="no such device", mend=""),
        "http": Availability(available=False, reason="no sockets", mend="buy some"),
    }
    monkeypatch.setattr("worker.probes.availability", lambda: states)
    found = list(kinds.available(Policy.parse({"kinds": ["ping", "tcp", "dns"]})))
    assert [(finding.check, finding.verdict.value) for finding in found] == [
        ("kind ping", "ok"),
        ("kind tcp", "wrong"),
        ("kind dns", "ok"),
        ("kind http", "ok"),
    ]
    assert found[1].mend == "buy some"
