"""The wheel alone, in an empty environment: what it holds, what it brings along, and a newcomer's road with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from support.clones import ROOT, fresh_clone
from support.newcomers import Newcomer, clean_up, first_day, installed
from support.packages import build, install
from support.surroundings import clean_environment

pytestmark = pytest.mark.timeout(600)

#: What the base installation brings along. A new line here is a decision: hosts and CI machines get it too.
BASE = {
    "anyio", "certifi", "cffi", "click", "cronsim", "cryptography", "dnspython", "grpcio", "h11", "h2", "hpack", "httpcore", "httpx", "hyperframe", "icmplib",
    "idna", "markdown-it-py", "maxminddb", "mdurl", "protobuf", "psutil", "pycparser", "pygments", "pyopenssl", "pyyaml", "regex", "rich", "streamswarm",
    "typing-extensions", "tzdata", "uvloop",
}  # fmt: skip
#: MB of files without compiled code; 71 when this was written, of which uvloop has 14.
BASE_MB = 80


@pytest.fixture(scope="module")
def base(workshop: Path, wheel: Path) -> Path:
    """`bin` of an environment with the base installation only."""
    return install(workshop / "base", wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_checkout_and_sdist_make_the_same_wheel(built: dict[str, Path], workshop: Path) -> None:
    """Byte by byte."""
    [from_checkout] = build(workshop / "from-checkout", ROOT, "--wheel")
    [from_sdist] = build(workshop / "from-sdist", built[".gz"], "--wheel")
    assert from_checkout.name == from_sdist.name
    assert contents(from_checkout) == contents(from_sdist)
    assert from_checkout.read_bytes() == from_sdist.read_bytes()


def test_nothing_of_the_builders_own_is_packed(wheel: Path, workshop: Path) -> None:
    """An inventory with somebody's hosts, data, caches: what git ignores stays where it is, in sdist and wheel."""
    own = ["inventory/hosts.ini", "var/secret", "migrations/__pycache__/env.pyc", "playbooks/.ansible/x.pyc"]
    with fresh_clone() as clone:
        for name in own:
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text("mine")
        [packed] = build(workshop / "own-wheel", clone, "--wheel")
        [source] = build(workshop / "own-sdist", clone, "--sdist")
    with tarfile.open(source) as archive:
        names = [*archive.getnames(), *contents(packed)]
    assert [name for name in names if any(name.endswith(mine.rpartition("/")[2]) for mine in own)] == []


def test_a_package_index_can_show_it(wheel: Path) -> None:
    """The metadata are valid, and the long description has no link or picture that only a checkout can resolve."""
    [metadata] = [text for name, text in contents(wheel).items() if name.endswith(".dist-info/METADATA")]
    described = Metadata.from_email(metadata, validate=True)
    assert described.description_content_type == "text/markdown"
    assert described.license_expression == "MIT"
    assert described.provides_extra == ["controller"]
    assert described.description is not None
    assert "pip install 'streamswarm[controller]'" in described.description.replace("bin/pip", "pip")
    targets = re.findall(r"\]\(([^)]+)\)", described.description)
    assert [target for target in targets if "://" not in target] == []


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    """Every file of the product's folders that git does not ignore is in it, and no test, tool or datum of anybody's."""
    kept = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
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
    assert found == expected
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
    """Somebody with the wheel: root, whose environment is closed to others, or an ordinary user, to whom it is read-only.

    They stand in a project of their own, whose packages are named like ours.
    """
    if request.param == "root" and os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("in CI this must run as root")
        pytest.skip("starting as root needs root")
    with tempfile.TemporaryDirectory(prefix="streamswarm-newcomer-") as name:
        home = Path(name)
        home.chmod(0o755)
        for package in ("controller", "worker", "web", "ansible"):
            (home / package).mkdir()
            (home / package / "__init__.py").write_text("raise SystemExit('a stranger was run')\n")
        # Closed to every account but root: the program runs from a copy.
        controller.parent.chmod(0o700 if request.param == "root" else 0o755)
        someone = installed(controller / "streamswarm", home, as_root=request.param == "root")
        yield someone
        clean_up(someone)
        controller.parent.chmod(0o755)


def test_a_newcomers_road_with_the_wheel(newcomer: Newcomer) -> None:
    """As with a clone: healthy, results, no rights that are not needed, killed parts come back, data kept."""
    first_day(newcomer)
    copy = newcomer.data_dir.with_name(newcomer.data_dir.name + "-program")
    assert copy.is_dir() == (newcomer.uid == 0), (
        "a copy is laid where the account cannot read, and only there"
    )
