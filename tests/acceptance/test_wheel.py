"""The wheel alone, in an empty environment: what it holds, what it brings along, and a newcomer's road with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clones import ROOT
from support.newcomers import Newcomer, clean_up, first_day, installed
from support.packages import build, install
from support.surroundings import clean_environment

pytestmark = pytest.mark.timeout(600)

#: What the base installation brings along. A new line here is a decision: hosts and CI machines get it too.
BASE = {
    "anyio", "certifi", "cffi", "click", "cryptography", "dnspython", "grpcio", "h11", "httpcore", "httpx", "icmplib",
    "idna", "markdown-it-py", "mdurl", "protobuf", "psutil", "pycparser", "pygments", "pyyaml", "rich", "streamswarm",
    "typing-extensions",
}  # fmt: skip
#: MB of files without compiled code; 56 when this was written.
BASE_MB = 65


@pytest.fixture(scope="module")
def base(workshop: Path, wheel: Path) -> Path:
    """`bin` of an environment with the base installation only."""
    return install(workshop / "base", wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_the_sdist_makes_the_same_wheel(built: dict[str, Path], workshop: Path) -> None:
    """File by file and byte by byte."""
    [again] = build(workshop / "again", built[".gz"], "--wheel")
    assert again.name == built[".whl"].name
    assert contents(again) == contents(built[".whl"])


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    """Every file of the product's folders that git keeps is in it, and no test, tool or datum of anybody's."""
    kept = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    places = {
        "migrations/": "controller/_assets/",
        "playbooks/": "controller/_assets/",
        "inventory/": "controller/_assets/",
    }
    expected = set()
    for path in kept:
        top = path.partition("/")[0] + "/"
        if path.startswith(("controller/", "worker/", "web/")):
            expected.add(path)
        elif path.startswith("proto/streamswarm/"):
            expected.add(path.removeprefix("proto/"))
        elif top in places:
            expected.add(places[top] + path)
    found = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert found == expected - {"controller/_assets/playbooks/.ansible-lint"}
    metadata = {name.partition(".dist-info/")[2] for name in contents(wheel) if ".dist-info/" in name}
    assert metadata == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_base_installation_stays_small(base: Path) -> None:
    """Its list of packages and its size are decisions."""
    library = next((base.parent / "lib").glob("python*/site-packages"))
    names = {
        re.sub(r"[-_.]+", "-", path.name.rpartition("-")[0]).lower()
        for path in (Path(item.stem) for item in library.glob("*.dist-info"))
    }
    assert names == BASE
    size = sum(path.stat().st_size for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert size / 1e6 < BASE_MB


def test_the_base_installation_runs_suites(base: Path, tmp_path: Path) -> None:
    """Probes run without the controller's side; what needs it says what to install."""
    (tmp_path / "s.yaml").write_text(
        "tests:\n"
        "  - {name: Closed, kind: tcp, destinations: ['127.0.0.1:1'], expect: failed}\n"
        "  - {name: Host, kind: system, spec: {window_ms: 100}, assert: cpu_count >= 1}\n"
    )
    done = _call(base, tmp_path, "run", "s.yaml", "--allow-loopback", "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["suites"][0]["passed"] == 2
    assert _call(base, tmp_path, "schema").returncode == 0
    helped = _call(base, tmp_path, "--help")
    assert "Run the tests of suites once" in helped.stdout
    for command in ("up", "gateway", "db"):
        refused = _call(base, tmp_path, command)
        assert refused.returncode == 1
        assert "pip install 'streamswarm[controller]'" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert "not installed" in helped.stdout


def _call(folder: Path, where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "streamswarm", *words],
        cwd=where,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(params=["root", "ordinary"])
def newcomer(request: pytest.FixtureRequest, controller: Path) -> Iterator[Newcomer]:
    """Somebody who has installed the wheel into an environment of its own: root, or an ordinary user."""
    if request.param == "root" and os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("in CI this must run as root")
        pytest.skip("starting as root needs root")
    with tempfile.TemporaryDirectory(prefix="streamswarm-newcomer-") as name:
        home = Path(name)
        home.chmod(0o755)
        someone = installed(controller / "streamswarm", home, as_root=request.param == "root")
        yield someone
        clean_up(someone)


def test_a_newcomers_road_with_the_wheel(newcomer: Newcomer) -> None:
    """As with a clone: healthy, results, no rights that are not needed, killed parts come back, data kept."""
    first_day(newcomer)
