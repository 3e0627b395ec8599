"""Secrets while a playbook runs: in nobody's arguments or environment, and in no file that the run writes, here or on the host."""

from __future__ import annotations

import contextlib
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
from lab.laboratory import Lab

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
