"""What a bundle is made from."""

from __future__ import annotations

import ast
import re

from controller.fleet import distribution


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
    assert not imported & set(distribution.OF_THE_COMMAND_LINE)
    left_out = set(distribution.base_requirements()) - set(distribution.worker_requirements())
    assert sorted(re.split(r"[^a-z]", line)[0] for line in left_out) == ["httpx", "rich"]
