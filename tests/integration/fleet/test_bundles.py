"""Bundles built by the real resolver, and the worker that runs out of one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.at_once import at_once

from controller.cli.main import cli
from controller.fleet import archive, distribution
from controller.fleet.bundles import Bundle, BundleError, described_version, ensure_bundle, ready_bundles
from controller.fleet.platforms import Platform


@pytest.fixture(scope="module")
def release(host_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of this machine, unpacked."""
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(host_bundle.path) as packed:
        packed.extractall(folder)  # noqa: S202  built by this very test run
    return folder


def test_the_worker_runs_out_of_a_bundle(release: Path, host_bundle: Bundle, tmp_path: Path) -> None:
    """With the system's bare Python and nothing installed, the release's launcher runs the worker of its version."""
    command = ["/usr/bin/python3", "-s", "-E", str(release / "bin/streamswarm-worker"), "--version"]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]}
    )
    assert host_bundle.version in said.stdout
    assert host_bundle.version.startswith(f"{distribution.version()}+")


def test_it_comes_compiled_for_this_python_and_starts_without_reading_sources(
    release: Path, tmp_path: Path
) -> None:
    """Hosts need not do it, and nothing there is looked at again; a module's file is named where it lies."""
    copy = tmp_path / "moved"
    shutil.copytree(release, copy)
    (copy / "lib/worker/identity.py").write_text("raise SystemExit('compiled anew')\n")
    words = [
        "-c",
        f"import sys; sys.path.insert(0, {str(copy / 'lib')!r}); import worker.identity as m; print(m.new_key.__code__.co_filename)",
    ]
    said = subprocess.run([sys.executable, "-I", "-S", *words], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(copy / "lib/worker/identity.py")


def test_bundles_that_lie_ready_are_known_without_building(host_bundle: Bundle, tmp_path: Path) -> None:
    """What would be given out now is found; what is damaged, of older sources or no bundle at all is not."""
    folder = tmp_path / "bundles"
    shutil.copytree(host_bundle.path.parent, folder)
    copy = dataclasses.replace(host_bundle, path=folder / host_bundle.path.name)
    description = folder / f"{copy.path.name}.json"
    (folder / "older.tar.gz.json").write_text(description.read_text())
    (folder / "odd.tar.gz.json").write_text('{"python": "2.7.18", "architecture": "vax", "libc": "none"}')
    (folder / "broken.tar.gz.json").write_text("{")
    assert ready_bundles(folder) == (copy,)
    assert described_version(str(copy.path)) == copy.version
    with copy.path.open("ab") as file:
        file.write(b"x")
    assert ready_bundles(folder) == ()
    assert described_version(str(folder / "none.tar.gz")) is None
    assert ready_bundles(tmp_path / "nowhere") == ()


def test_a_link_to_the_release_can_move_while_the_worker_runs(release: Path, tmp_path: Path) -> None:
    """The launcher uses the real path: modules loaded later come from the same release."""
    current = tmp_path / "current"
    current.symlink_to(release)
    command = ["/usr/bin/python3", str(current / "bin/streamswarm-worker"), "--once"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        deadline = time.monotonic() + 30
        while f"{release}/lib" not in Path(f"/proc/{worker.pid}/maps").read_text():
            assert time.monotonic() < deadline, "the worker does not start"
            time.sleep(0.01)
        current.unlink()
        current.symlink_to(tmp_path)
        said, _ = worker.communicate('{"jobId": "7", "spec": {"system": {"windowMs": 200}}}\n', timeout=60)
    assert worker.returncode == 0
    assert json.loads(said)["job_id"] == "7"


def test_a_bundle_describes_itself(release: Path, host_bundle: Bundle) -> None:
    """The description beside the bundle and the one inside agree with what was built."""
    beside = json.loads(host_bundle.path.with_name(host_bundle.path.name + ".json").read_text())
    assert beside == host_bundle.description()
    assert archive.file_hash(host_bundle.path) == beside["sha256"]
    inside = json.loads((release / "release.json").read_text())
    assert inside["version"] == host_bundle.version


def test_a_bundle_names_nothing_of_this_machine(host_bundle: Bundle) -> None:
    """No file knows where it was built: paths of this machine would make each build different."""
    own = str(Path(__file__).parents[3]).encode()
    with tarfile.open(host_bundle.path) as packed:
        for member in packed:
            content = packed.extractfile(member)
            assert content is not None
            assert own not in content.read(), member.name
            assert not member.name.endswith("/RECORD"), member.name


def test_building_again_gives_the_same_bytes_and_asks_nobody(
    host_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build has the same hash; a bundle that lies ready is used without any resolver or network."""
    again = ensure_bundle(host_bundle.platform, folder=tmp_path / "other")
    assert again.sha256 == host_bundle.sha256
    monkeypatch.setattr("controller.fleet.bundles._install_requirements", None)
    said: list[str] = []
    assert ensure_bundle(host_bundle.platform, folder=tmp_path / "other", report=said.append) == again
    assert len(said) == 1


def test_a_damaged_bundle_is_built_anew(host_bundle: Bundle, tmp_path: Path) -> None:
    """A bundle that is not what its description says is not used."""
    built = ensure_bundle(host_bundle.platform, folder=tmp_path)
    built.path.write_bytes(b"damaged")
    assert archive.file_hash(ensure_bundle(host_bundle.platform, folder=tmp_path).path) == host_bundle.sha256


def test_builders_that_meet_build_once(host_bundle: Bundle, tmp_path: Path) -> None:
    """Of two that want the same bundle at the same time one builds and the other takes it."""
    said: list[str] = []
    build = partial(ensure_bundle, host_bundle.platform, folder=tmp_path, report=said.append)
    first, second = at_once(build, build)
    assert first == second
    # Which of them speaks first does not matter.
    assert sum(text.startswith("building") for text in said) == 1


def test_another_platform_gets_its_own_wheels(tmp_path: Path) -> None:
    """A bundle for another architecture and Python has that platform's compiled modules and no others."""
    platform = Platform.parse(python="3.10.12", architecture="aarch64", libc="glibc-2.35")
    bundle = ensure_bundle(platform, folder=tmp_path)
    with tarfile.open(bundle.path) as packed:
        names = [name for name in packed.getnames() if name.endswith(".so")]
        grpc = packed.extractfile(next(name for name in names if "cygrpc" in name))
        assert grpc is not None
        header = grpc.read(20)
    assert header[18:20] == b"\xb7\x00"  # e_machine of AArch64
    assert not [name for name in names if "x86_64" in name or "cpython-311" in name]


def test_an_index_that_cannot_be_had_is_told_and_leaves_nothing(
    host_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the resolver fails, its words are in the message and no bundle, whole or half, is left."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    with pytest.raises(BundleError, match=r"127\.0\.0\.1:9") as caught:
        ensure_bundle(host_bundle.platform, folder=tmp_path)
    assert "package index" in caught.value.mend
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_told(host_bundle: Bundle, tmp_path: Path) -> None:
    """The message names the folder and the setting for another."""
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="cannot be written") as caught:
        ensure_bundle(host_bundle.platform, folder=tmp_path / "file" / "bundles")
    assert "STREAMSWARM_BUNDLE_DIR" in caught.value.mend


def test_a_cache_that_others_can_write_is_not_believed(host_bundle: Bundle, tmp_path: Path) -> None:
    """A bundle in a folder that others can write or own is refused; one of one's own is closed to others."""
    folder = tmp_path / "bundles"
    shutil.copytree(host_bundle.path.parent, folder)
    for mode in (0o777, 0o770, 0o702):
        folder.chmod(mode)
        with pytest.raises(BundleError, match=f"written by others .mode {mode:04o}") as caught:
            ensure_bundle(host_bundle.platform, folder=folder)
        assert str(folder) in caught.value.mend
    folder.chmod(0o755)
    assert ensure_bundle(host_bundle.platform, folder=folder).sha256 == host_bundle.sha256
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    os.chown(folder, 65534, 65534)
    with pytest.raises(BundleError, match=r"belongs to another user .uid 65534"):
        ensure_bundle(host_bundle.platform, folder=folder)


def test_the_lock_touches_no_other_file(host_bundle: Bundle, tmp_path: Path) -> None:
    """A link in the lock's place is not followed, and what stands in a lock file stays."""
    folder = tmp_path / "bundles"
    shutil.copytree(host_bundle.path.parent, folder)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / ".lock").symlink_to(victim)
    with pytest.raises(BundleError, match="cannot be written"):
        ensure_bundle(host_bundle.platform, folder=folder)
    assert victim.read_text() == "precious"
    (folder / ".lock").unlink()
    os.link(victim, folder / ".lock")
    ensure_bundle(host_bundle.platform, folder=folder)
    assert victim.read_text() == "precious"


def test_the_command_prints_what_the_role_reads(host_bundle: Bundle) -> None:
    """`fleet bundle --json` prints the description of the bundle, and only that, on standard output."""
    platform = host_bundle.platform
    words = ["fleet", "bundle", "--python", platform.python, "--architecture", platform.architecture]
    result = CliRunner().invoke(
        cli,
        [*words, "--libc", platform.libc, "--json"],
        env={"STREAMSWARM_BUNDLE_DIR": str(host_bundle.path.parent)},
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == host_bundle.description()


def test_the_command_refuses_a_platform_that_is_none(tmp_path: Path) -> None:
    """A wrong platform ends with the code for settings and one plain message."""
    words = ["fleet", "bundle", "--python", "3.8.1", "--architecture", "x86_64", "--libc", "glibc-2.31"]
    result = CliRunner().invoke(cli, words, env={"STREAMSWARM_DATA_DIR": str(tmp_path)})
    assert result.exit_code == 2
    assert "3.10 or newer" in result.stderr
