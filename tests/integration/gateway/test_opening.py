"""One installation has one root: whoever comes with another is refused before anything is served."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from controller.cli.main import cli
from controller.errors import ForeignRootError, StreamSwarmError
from controller.gateway import rotation
from controller.gateway.authority import Authority, open_root
from controller.gateway.opening import open_authority
from controller.gateway.rotation import Stage
from controller.gateway.server import running
from controller.roots import fingerprints
from controller.settings import Settings


def _elsewhere(settings: Settings, folder: Path, name: str = "gateway-2") -> Settings:
    """Settings of another gateway with a data folder of its own."""
    return dataclasses.replace(settings, data_dir=folder, gateway_name=name)


def _known(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(text("SELECT fingerprint FROM trusted_roots")))


def _list_a_certificate(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH w AS (INSERT INTO workers (name, host_name) VALUES ('edge', 'edge') RETURNING id) "
                "INSERT INTO certificates (serial, worker_id, not_before, not_after) "
                "SELECT '1f', w.id, now(), now() + interval '1 day' FROM w"
            )
        )


def test_the_first_gateway_notes_its_root(gateway_settings: Settings, engine: Engine) -> None:
    """Once; opening again changes nothing."""
    open_authority(gateway_settings, engine)
    assert _known(engine) == set(fingerprints(gateway_settings.data_dir))
    open_authority(gateway_settings, engine)
    assert len(_known(engine)) == 1


def test_a_second_gateway_with_an_empty_folder_makes_no_root(
    gateway_settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """It is told whose root there is and what to do, and finds its folder as it was: nothing half-made to trip over."""
    open_authority(gateway_settings, engine)
    other = _elsewhere(gateway_settings, tmp_path / "other")
    with pytest.raises(ForeignRootError) as raised:
        open_authority(other, engine)
    assert str(other.data_dir / "ca" / "root.pem") in raised.value.message
    assert f"of host {socket.gethostname()}" in raised.value.message
    assert "copy" in raised.value.mend
    assert "docs/how-to/gateways.md" in raised.value.mend
    assert not other.data_dir.exists()


def test_of_gateways_that_start_at_once_one_makes_the_root(
    gateway_settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """However closely: the others are refused, and none is left with a root of its own."""
    all_ = [_elsewhere(gateway_settings, tmp_path / str(number), f"gateway-{number}") for number in range(6)]

    def start(settings: Settings) -> bool:
        try:
            open_authority(settings, engine)
        except ForeignRootError:
            return False
        return True

    with ThreadPoolExecutor(len(all_)) as pool:
        assert sorted(pool.map(start, all_)) == [False] * 5 + [True]
    assert len(list(tmp_path.glob("*/ca/root.pem"))) == 1


def test_a_root_of_another_installation_is_named_and_refused(
    gateway_settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """Also one that lay in the folder before the database was asked."""
    open_authority(gateway_settings, engine)
    other = _elsewhere(gateway_settings, tmp_path / "other")
    open_root(other)
    with pytest.raises(ForeignRootError, match=r"other/ca/root\.pem \(SHA-256 .* is not this installation's"):
        open_authority(other, engine)
    assert _known(engine) == set(fingerprints(gateway_settings.data_dir))


def test_an_installation_of_an_earlier_release_notes_the_root_that_it_has(
    gateway_settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """Its workers trust one, so a folder without any is not where a root may be made."""
    _list_a_certificate(engine)
    with pytest.raises(ForeignRootError, match="workers have certificates under one"):
        open_authority(_elsewhere(gateway_settings, tmp_path / "other"), engine)
    Authority(gateway_settings)
    open_authority(gateway_settings, engine)
    assert _known(engine) == set(fingerprints(gateway_settings.data_dir))


def test_an_authority_that_is_lost_is_replaced_on_demand_only(
    gateway_settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """`ca init` is refused like a gateway; with --replace the new root is the installation's and the old one is not."""
    open_authority(gateway_settings, engine)
    environment = _elsewhere(gateway_settings, tmp_path / "other").environment()
    done = CliRunner().invoke(cli, ["ca", "init"], env=environment)
    assert done.exit_code == 1
    assert "--replace" in done.output
    done = CliRunner().invoke(cli, ["ca", "init", "--replace"], env=environment)
    assert done.exit_code == 0, done.output
    assert _known(engine) == set(fingerprints(tmp_path / "other"))
    with pytest.raises(ForeignRootError):
        open_authority(gateway_settings, engine)


@pytest.mark.parametrize("module", ["controller.gateway", "controller.keeper", "web"])
def test_no_process_starts_with_a_foreign_root(
    gateway_settings: Settings, engine: Engine, tmp_path: Path, module: str
) -> None:
    """One message, no traceback, an exit code that is not nought."""
    open_authority(gateway_settings, engine)
    other = dataclasses.replace(_elsewhere(gateway_settings, tmp_path / "other"), web_listen="127.0.0.1:0")
    open_root(other)
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, **other.environment()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "is not this installation's" in done.stderr
    assert "→ copy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["controller.keeper", "web"])
def test_keeper_and_dashboard_need_no_root_of_their_own(
    gateway_settings: Settings, engine: Engine, tmp_path: Path, module: str
) -> None:
    """On a host without any they start."""
    open_authority(gateway_settings, engine)
    other = dataclasses.replace(_elsewhere(gateway_settings, tmp_path / "other"), web_listen="127.0.0.1:0")
    process = subprocess.Popen(
        [sys.executable, "-m", module], env={**os.environ, **other.environment()}, stderr=subprocess.PIPE
    )
    role = module.rpartition(".")[2]
    try:
        for _ in range(600):
            with engine.connect() as connection, contextlib.suppress(subprocess.TimeoutExpired):
                if connection.scalar(text("SELECT 1 FROM processes WHERE role = :role"), {"role": role}):
                    break
                process.wait(0.1)
        else:
            pytest.fail(f"the {role} did not start")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


async def test_a_worker_of_one_gateway_is_heard_by_another_with_a_folder_of_its_own(
    deployment: Any, tools: Any, tmp_path: Path
) -> None:
    """With the three files that the how-to tells to copy, and without the root's key, which stays where it is."""
    first, second = deployment.settings, _elsewhere(deployment.settings, tmp_path / "second")
    made = CliRunner().invoke(
        cli, ["ca", "init"], env=dataclasses.replace(first, gateway_name="gateway-2").environment()
    )
    assert made.exit_code == 0, made.output
    (second.data_dir / "ca").mkdir(mode=0o700, parents=True)
    for name in ("root.pem", "intermediate-gateway-2.pem", "intermediate-gateway-2.key"):
        shutil.copy2(first.data_dir / "ca" / name, second.data_dir / "ca" / name)
    worker = await deployment.enrol("host-a")
    async with running(second, interval_s=0.2) as gateway:
        job = deployment.job(worker.worker_id)
        async with tools.session_to(gateway.session_port, worker.credentials) as session:
            await session.hello()
            await session.results([tools.make_result(job, 0)], [1])
            await session.expect_ack(1)
        other = await tools.Deployment(gateway, second, deployment.engine).enrol("host-b")
    async with deployment.session(other) as session:
        await session.hello()
    assert not (second.data_dir / "ca" / "root.key").exists()


def test_a_rotation_is_followed_and_the_old_root_is_refused_in_the_end(
    gateway_settings: Settings, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are good while they overlap. A gateway that was forgotten on the way is refused once the old one is gone."""
    monkeypatch.setattr(rotation, "NOTICED", dt.timedelta(0))
    open_authority(gateway_settings, engine)
    forgotten = _elsewhere(gateway_settings, tmp_path / "forgotten", "gateway-1")
    shutil.copytree(gateway_settings.data_dir, forgotten.data_dir)

    def step() -> Stage:
        with Session(engine) as session:
            return rotation.advance(session, gateway_settings)

    for reached, roots in ((Stage.TRUSTED, 2), (Stage.SWITCHED, 2)):
        assert step() is reached
        assert len(_known(engine)) == roots
        open_authority(gateway_settings, engine)
        open_authority(forgotten, engine)
    assert step() is Stage.SINGLE
    assert _known(engine) == set(fingerprints(gateway_settings.data_dir))
    open_authority(gateway_settings, engine)
    with pytest.raises(ForeignRootError):
        open_authority(forgotten, engine)


def test_a_rotation_that_is_asked_for_at_a_forgotten_gateway_shuts_nobody_out(
    gateway_settings: Settings, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the old root and no root's key: it is refused, and the new root is this installation's as before."""
    monkeypatch.setattr(rotation, "NOTICED", dt.timedelta(0))
    open_authority(gateway_settings, engine)
    forgotten = _elsewhere(gateway_settings, tmp_path / "forgotten")
    shutil.copytree(gateway_settings.data_dir, forgotten.data_dir)
    (forgotten.data_dir / "ca" / "root.key").unlink()
    for reached in (Stage.TRUSTED, Stage.SWITCHED):
        with Session(engine) as session:
            assert rotation.advance(session, gateway_settings) is reached
    with Session(engine) as session, pytest.raises(StreamSwarmError, match=r"root\.key is not here"):
        rotation.advance(session, forgotten)
    assert _known(engine) == set(fingerprints(gateway_settings.data_dir))
    open_authority(gateway_settings, engine)


def test_a_rotation_that_ended_before_it_had_noted_the_next_root_cuts_nobody_off(
    gateway_settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step notes it before it is put in force, so that a gateway that starts just then is not refused."""
    monkeypatch.setattr(rotation, "NOTICED", dt.timedelta(0))
    open_authority(gateway_settings, engine)
    assert rotation.take_step(gateway_settings, lambda since: []) is Stage.TRUSTED  # and there it is killed
    assert len(_known(engine)) == 1
    switch, seen = rotation.take_step, []

    def looked_at(*words: Any, **more: Any) -> Stage:
        seen.append(_known(engine))
        return switch(*words, **more)

    monkeypatch.setattr(rotation, "take_step", looked_at)
    with Session(engine) as session:
        assert rotation.advance(session, gateway_settings) is Stage.SWITCHED
    assert seen == [set(fingerprints(gateway_settings.data_dir))]
    open_authority(gateway_settings, engine)


def test_a_rotation_of_a_foreign_root_is_refused(
    gateway_settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """Before anything is made."""
    open_authority(gateway_settings, engine)
    other = _elsewhere(gateway_settings, tmp_path / "other")
    open_root(other)
    with Session(engine) as session, pytest.raises(ForeignRootError):
        rotation.advance(session, other)
    assert rotation.stage(other) is Stage.SINGLE
