"""Secrets while a playbook runs: in nobody's arguments or environment, and in no file that the run writes, here or on the host.

And keys afterwards: a worker's on its host only, the authority's on the controller only.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from lab.hosts import Host
from lab.laboratory import Lab

from controller.backup import programs
from controller.fleet import operations
from controller.fleet.operations import PlaybookRequest

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(400)]

_PAUSE_S = 0.05


class Watch:
    """Looks again and again at every process and at the files below some folders, and keeps where a secret was seen."""

    def __init__(self, hidden: Callable[[], Iterable[str]], *folders: Path) -> None:
        self.found: set[str] = set()
        #: Files of the folders and programs that were looked at.
        self.looked_at: set[str] = set()
        self.rounds = 0
        self._hidden = hidden
        self._folders = folders
        self._over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self._over.wait(_PAUSE_S):
            hidden = [secret.encode() for secret in self._hidden()]
            for path in self._paths():
                # What is gone by now, or cannot be read, was seen before or will be.
                with contextlib.suppress(OSError):
                    content = path.read_bytes()
                    self.looked_at.add(
                        str(path) if path.parts[1] != "proc" else content[:200].decode(errors="replace")
                    )
                    if any(secret in content for secret in hidden):
                        self.found.add(f"{path}: {content[:300]!r}")
            self.rounds += 1

    def end(self) -> None:
        """Let it end with the round under way."""
        self._over.set()

    def _paths(self) -> Iterator[Path]:
        own = f"/proc/{os.getpid()}"
        for process in Path("/proc").glob("[0-9]*"):
            if str(process) != own:
                yield process / "cmdline"
                yield process / "environ"
        for folder in self._folders:
            for where, _, names in os.walk(folder):
                yield from (path for name in names if (path := Path(where) / name).is_file())


@contextmanager
def _watching(hidden: Callable[[], Iterable[str]], *folders: Path) -> Iterator[Watch]:
    watch = Watch(hidden, *folders)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()


def test_a_secret_in_the_open_is_seen(tmp_path: Path) -> None:
    """Arguments, environment and files: the look of the other test finds each."""
    secret = secrets.token_urlsafe(24)
    (tmp_path / "file").write_text(f"key: {secret}\n")
    with _watching(lambda: [secret], tmp_path) as watch:
        for words, surroundings in ((["sh", "-c", "sleep 2", secret], {}), (["sleep", "2"], {"KEY": secret})):
            subprocess.run(words, env={**os.environ, **surroundings}, check=True)
    kinds = {Path(where.split(":", 1)[0]).name for where in watch.found}
    assert {"cmdline", "environ", "file"} <= kinds


def test_no_secret_is_seen_while_a_host_is_provisioned(controller: Any, lab: Lab, tmp_path: Path) -> None:
    """Neither the one-time token nor a key of the inventory's, though the host has both afterwards, or had; nor the API token."""
    keys = {name: secrets.token_urlsafe(24) for name in ("responder_key", "responder_key_previous")}
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(f"{lab.inventory.read_text()}\n[workers:vars]\nstreamswarm_worker_options={keys}\n")
    host = lab.hosts[0]
    variables = {"streamswarm_worker_bundle": str(controller.bundle.path)}
    request = PlaybookRequest(inventories=(inventory,), limit="host1", variables=variables)

    api_token = f"ssw_{secrets.token_urlsafe(24)}"

    def hidden() -> list[str]:
        return [api_token, *keys.values(), *(token for _, token in controller.granted)]

    with tempfile.TemporaryDirectory(prefix="own-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("STREAMSWARM_TOKEN", api_token)
        watched = (
            Path(folder),
            host.root / "tmp",
            host.root / "var/tmp",
            host.root / "root",
            host.root / "home",
        )
        with _watching(hidden, *watched) as watch, lab.inside():
            started = time.monotonic()
            recap = operations.provision(request, grant_for=controller.grant_for, ask_reach=controller.reach)
    assert recap.succeeded, recap.hosts
    assert watch.found == set()
    assert [name for name, _ in controller.granted] == ["host1"]
    written = yaml.safe_load((host.root / "etc/streamswarm/worker.yaml").read_text())
    assert {name: written[name] for name in keys} == keys
    # It was awake all the time, and saw what there was to see.
    assert watch.rounds > (time.monotonic() - started) / 5
    assert any("ansible-playbook" in each for each in watch.looked_at)
    assert any(each.endswith("variables.json") for each in watch.looked_at)


IDENTITY = "var/lib/streamswarm-worker/identity/identity.json"


def _forms(key_pem: str) -> list[bytes]:
    """Return how a private key may be written down: as it is, as its number, in hexadecimal digits, and in Base64, line by line too."""
    key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(32, "big")
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Of the last line too few characters are the key's.
    lines = [line.encode() for line in key_pem.splitlines() if len(line) == 64]
    # Within a longer text it may begin at any of three places.
    shifted = [base64.b64encode(bytes(shift) + number)[4:-4] for shift in range(3)]
    return [
        number,
        number.hex().encode(),
        number.hex().upper().encode(),
        base64.b64encode(der),
        *lines,
        *shifted,
    ]


def _holding(forms: Iterable[bytes], *folders: Path) -> set[str]:
    """Return the files below some folders that hold one of the forms; what is no file, or gone meanwhile, holds none."""
    wanted, found = list(forms), set()
    for folder in folders:
        assert folder.is_dir(), folder
        for where, _, names in os.walk(folder):
            for path in (Path(where) / name for name in names):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file() and not path.is_symlink():
                        content = path.read_bytes()
                        if any(form in content for form in wanted):
                            found.add(str(path))
    return found


def _written(host: Host) -> list[Path]:
    """Return where a host keeps what is written on it."""
    return [host.root / name for name in ("etc", "opt", "root", "home", "srv", "tmp", "var", "usr/local")]


def test_keys_stay_where_they_were_made(controller: Any, lab: Lab, tmp_path: Path) -> None:
    """The worker's, renewed too, is nowhere but in its identity; the authority's nowhere on a host: searched in many forms."""
    host, elsewhere = lab.hosts
    variables = {"streamswarm_worker_bundle": str(controller.bundle.path)}
    request = PlaybookRequest(inventories=(lab.inventory,), limit="host1", variables=variables)
    with lab.inside():
        recap = operations.provision(request, grant_for=controller.grant_for, ask_reach=controller.reach)
    assert recap.succeeded, recap.hosts
    connected = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL AND host_name = 'host1'"
    controller.wait_for(connected, [(1,)], seconds=60)
    held: list[str] = []

    def hidden() -> list[str]:
        key = json.loads((host.root / IDENTITY).read_text())["key"]
        if key not in held:
            held.append(key)
        return [line for pem in held for line in pem.splitlines() if len(line) == 64]

    hidden()
    with tempfile.TemporaryDirectory(prefix="own-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        with _watching(hidden, Path(folder), host.root / "tmp", host.root / "var/tmp") as watch, lab.inside():
            recap = operations.rotate(request)
    assert recap.succeeded, recap.hosts
    hidden()
    assert len(held) == 2
    assert watch.found == set()

    dump = tmp_path / "dump" / "all.sql"
    dump.parent.mkdir()
    major = int(controller.rows("SHOW server_version_num")[0][0]) // 10_000
    program = programs.find(major, None) / "pg_dump"
    programs.run(program, controller.settings.database_url, [f"--file={dump}"], failing="no dump")
    assert b"host1" in dump.read_bytes()
    journal = tmp_path / "journal"
    journal.mkdir()
    for each in lab.hosts:
        (journal / each.name).write_text(each.ssh("journalctl", "--no-pager", "--output=export", timeout=120))
    ours = [controller.settings.data_dir, dump.parent, journal]
    workers = [form for pem in held for form in _forms(pem)]
    assert _holding(workers, *ours, *_written(elsewhere)) == set()
    assert _holding(workers, *_written(host)) == {str(host.root / IDENTITY)}
    root_key = controller.settings.data_dir / "ca" / "root.key"
    authority = _forms(root_key.read_text())
    assert _holding(authority, *_written(host), *_written(elsewhere), dump.parent, journal) == set()
    assert _holding(authority, controller.settings.data_dir) == {str(root_key)}
