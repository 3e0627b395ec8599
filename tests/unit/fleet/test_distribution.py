"""What a bundle is made from."""

from __future__ import annotations

import ast
import re
import zipfile
from pathlib import Path

import pytest

from controller.errors import ConfigurationError
from controller.fleet import distribution
from controller.fleet.parts import CONTROLLER, PARTS, WORKER
from controller.fleet.platforms import Platform


def test_requirements_are_those_of_the_base_installation() -> None:
    """What workers need is there; what only the controller or developers need is not."""
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in distribution.base_requirements()}
    assert {"grpcio", "protobuf", "cryptography", "psutil", "pyyaml", "dnspython"} <= names
    assert not names & {"sqlalchemy", "flask", "ansible-core", "psycopg", "pytest"}


def test_own_files_are_the_worker_and_the_contract() -> None:
    """Sources of both packages are there, and nothing compiled, hidden or of the controller."""
    names = [name for name, _ in distribution.own_files()]
    assert {"worker/__main__.py", "streamswarm/contract.py", "streamswarm/v1/gateway_pb2.py"} <= set(names)
    assert names == sorted(names, key=lambda name: (name.split("/")[0], names.index(name)))
    assert {name.split("/")[0] for name in names} == {"worker", "streamswarm"}
    assert not [name for name in names if name.endswith((".pyc", ".pyi", ".proto")) or "/." in name]


def _wheel(path: Path, *, name: str = "streamswarm", without: str = "") -> Path:
    files = {
        "worker/__init__.py": "",
        "worker/daemon.py": "ANSWER = 42\n",
        "streamswarm/__init__.py": "",
        "streamswarm/v1/probe_pb2.pyi": "",
        "controller/__init__.py": "",
        "streamswarm-9.9.dist-info/METADATA": (
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 9.9\nRequires-Dist: grpcio<2\n"
            "Requires-Dist: click>=8\nRequires-Dist: rich<16\nRequires-Dist: numpy; extra == 'controller'\n"
        ),
    }
    with zipfile.ZipFile(path, "w") as content:
        for file, text in files.items():
            if not without or not file.startswith(without):
                content.writestr(file, text)
    return path


def test_a_wheel_holds_another_release(tmp_path: Path) -> None:
    """Its version, its base requirements and its files of our packages, without those that no host needs."""
    with distribution.of_wheel(_wheel(tmp_path / "streamswarm-9.9-py3-none-any.whl")) as source:
        assert source.version == "9.9"
        assert list(source.requirements) == ["click>=8", "grpcio<2"]
        assert [name for name, _ in source.files] == [
            "streamswarm/__init__.py",
            "worker/__init__.py",
            "worker/daemon.py",
        ]
        assert dict(source.files)["worker/daemon.py"].read_text() == "ANSWER = 42\n"


def test_what_is_no_wheel_of_ours_is_refused(tmp_path: Path) -> None:
    """Another project's, one without our packages, and something that is no wheel at all."""
    for path in (
        _wheel(tmp_path / "a.whl", name="other"),
        _wheel(tmp_path / "b.whl", without="worker"),
        _wheel(tmp_path / "c.whl", without="streamswarm-9.9"),
        tmp_path / "missing.whl",
        Path(__file__),
    ):
        with pytest.raises(ConfigurationError, match="wheel"), distribution.of_wheel(path):
            pass


def test_a_worker_imports_nothing_that_its_bundle_leaves_out() -> None:
    """What only the command line requires is in no import of the files that go to hosts, and in no bundle."""
    imported = set()
    for _, path in distribution.own_files():
        for node in ast.walk(ast.parse(path.read_bytes())) if path.suffix == ".py" else ():
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert {"grpc", "click"} <= imported
    assert not imported & set(WORKER.without)
    left_out = set(distribution.base_requirements()) - set(distribution.installed().requirements)
    assert sorted(re.split(r"[^a-z]", line)[0] for line in left_out) == ["httpx", "rich"]


def test_the_controller_has_its_extra_and_all_that_travels_beside_the_code() -> None:
    """Its requirements stand without the extra's marker, and people's own inventories stay where they are."""
    source = distribution.installed(CONTROLLER)
    assert set(distribution.base_requirements()) < set(source.requirements)
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in source.requirements}
    assert {"sqlalchemy", "flask", "ansible-core", "httpx"} <= names
    assert not names & {"pytest", "mypy"}
    assert not [line for line in source.requirements if "extra" in line]
    files = [name for name, _ in source.files]
    assert {
        "controller/cli/main.py",
        "controller/_assets/migrations/env.py",
        "controller/_assets/playbooks/provision.yml",
        "controller/_assets/inventory/example.ini",
        "web/templates/base.html",
        "worker/__main__.py",
    } <= set(files)
    assert len(files) == len(set(files))
    assert not [name for name in files if "inventory/hosts" in name or name.startswith("tests/")]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("flask<4,>=3.1; extra == 'controller'", ["flask<4,>=3.1"]),
        ('psycopg[binary,pool]>=3.2; extra == "controller"', ["psycopg[binary,pool]>=3.2"]),
        (
            "uvloop>=1; sys_platform != 'win32' and extra == 'controller'",
            ["uvloop>=1; sys_platform != 'win32'"],
        ),
        (
            "odd; (a == '1' or b == '2') and extra == 'controller'",
            ["odd; (a == '1' or b == '2')"],
        ),
        ("pytest; extra == 'dev'", []),
        ("click>=8", []),
    ],
)
def test_the_marker_of_an_extra_is_taken_off(declared: str, expected: list[str]) -> None:
    """What else the marker says stays; requirements of other extras and of none are not the extra's."""
    assert list(distribution.of_extra("controller", [declared])) == expected


def test_a_part_is_refused_on_a_python_that_is_too_old_for_it() -> None:
    """The controller wants a newer one than a worker, and names its own variable."""
    platform = Platform.parse(python="3.10.12", architecture="x86_64", libc="glibc-2.35")
    WORKER.check(platform)
    with pytest.raises(
        ConfigurationError, match=r"the controller needs Python 3\.11 or newer, not 3\.10\.12"
    ) as caught:
        CONTROLLER.check(platform)
    assert "streamswarm_controller_python" in caught.value.mend


def test_the_launcher_knows_every_program() -> None:
    """A program that a bundle has and the launcher does not know would not start."""
    launcher = ast.parse(Path(distribution.__file__).with_name("launcher.py").read_text(encoding="utf-8"))
    [modules] = [
        ast.literal_eval(node.value)
        for node in launcher.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES"
    ]
    assert set(modules) == {program for part in PARTS.values() for program in part.programs}
