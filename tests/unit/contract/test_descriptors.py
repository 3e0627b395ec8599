"""The generated code is fresh, released fields stay as they are, and a kind is added without touching the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

PROTO = Path(__file__).parents[3] / "proto"

#: Adds a kind named `echo` to a copy of the contract, then asks the contract about it in a fresh interpreter.
NEW_KIND = """
syntax = "proto3";
package streamswarm.v1;
import "streamswarm/v1/options.proto";
message EchoSpec {
  option (kind) = {label: "Echo" description: "UDP echo." target: TARGET_HOST_PORT timeout_s: 1};
  int32 port = 1 [(param) = {label: "Port" default: "7" min: 1 max: 65535}];
}
message EchoResult {
  optional double rtt_ms = 1 [(metric) = {label: "RTT" unit: "ms" headline: true}];
}
"""


def generate_into(source: Path, out: Path) -> None:
    """Run the project's generator over a copy of the sources."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import generate; "
        "root, out = Path(sys.argv[2]), Path(sys.argv[3]); "
        "generate.generate(root, out, sorted(str(p.relative_to(root)) for p in (root / 'streamswarm').rglob('*.proto')))"
    )
    subprocess.run([sys.executable, "-c", code, str(PROTO), str(source), str(out)], check=True, timeout=60)


def copy_sources(target: Path) -> None:
    for path in (PROTO / "streamswarm").rglob("*.proto"):
        destination = target / path.relative_to(PROTO)
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def descriptors(root: Path, out: Path) -> dict[str, Any]:
    """Field numbers, types and labels of every message, and values of every enum, below `root`."""
    subprocess.run(
        [sys.executable, "-c",
         "import sys; sys.path.insert(0, sys.argv[1]); import generate; from pathlib import Path; root = Path(sys.argv[2]); "
         "generate.run_protoc(root, f'--descriptor_set_out={sys.argv[3]}', "
         "names=sorted(str(p.relative_to(root)) for p in (root / 'streamswarm').rglob('*.proto')))",
         str(PROTO), str(root), str(out)],
        check=True, timeout=60,
    )  # fmt: skip
    return read_set(out)


def read_set(path: Path) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        for message in file.message_type:
            for field in message.field:
                known[f"{message.name}.{field.name}"] = (
                    field.number,
                    field.type,
                    field.label,
                    field.type_name,
                    field.proto3_optional,
                )
        for enum in [
            *file.enum_type,
            *(inner for message in file.message_type for inner in message.enum_type),
        ]:
            for value in enum.value:
                known[f"{enum.name}:{value.name}"] = value.number
        for service in file.service:
            for method in service.method:
                known[f"{service.name}/{method.name}"] = (
                    method.input_type,
                    method.output_type,
                    method.client_streaming,
                    method.server_streaming,
                )
    return known


def changed(accepted: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name, value in accepted.items() if now.get(name) != value]


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    """Every generated file equals what the generator writes now, and none is left over."""
    generate_into(PROTO, tmp_path)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*.py*")}
    committed = {path.relative_to(PROTO) for path in PROTO.rglob("*_pb2*.py*") if path.suffix != ".pyc"}
    assert written == committed, "run `make proto`"
    for name in written:
        assert (tmp_path / name).read_text() == (PROTO / name).read_text(), (
            f"{name} is stale: run `make proto`"
        )


def test_released_fields_never_change(tmp_path: Path) -> None:
    """Numbers, types and labels in the accepted descriptor set are what the sources still say."""
    assert changed(read_set(PROTO / "accepted.binpb"), descriptors(PROTO, tmp_path / "now.binpb")) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("int32 count = 1 [", "int32 count = 31 ["),
        ("int32 count = 1 [", "int64 count = 1 ["),
        ("int32 count = 1 [", "int32 packets = 1 ["),
        ("optional double loss_pct = 3", "optional float loss_pct = 3"),
    ],
)
def test_a_changed_field_is_noticed(tmp_path: Path, before: str, after: str) -> None:
    """The comparison does fail when a number, type or name changes."""
    copy_sources(tmp_path)
    path = tmp_path / "streamswarm/v1/probes/ping.proto"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert changed(read_set(PROTO / "accepted.binpb"), descriptors(tmp_path, tmp_path / "now.binpb")) != []


def test_proto_is_no_package() -> None:
    """`proto/__init__.py` would shadow the package `proto` of proto-plus."""
    assert not (PROTO / "__init__.py").exists()


def test_a_kind_is_added_by_its_own_file_and_two_lines(tmp_path: Path) -> None:
    """A new .proto file and one line in each oneof give a kind with parameters, metrics and validation."""
    copy_sources(tmp_path)
    (tmp_path / "streamswarm/v1/probes/echo.proto").write_text(NEW_KIND)
    envelope = tmp_path / "streamswarm/v1/probe.proto"
    text = envelope.read_text()
    text = text.replace(
        'import "streamswarm/v1/probes/dns.proto";',
        'import "streamswarm/v1/probes/dns.proto";\nimport "streamswarm/v1/probes/echo.proto";',
    )
    text = text.replace("PingSpec ping = 101;", "PingSpec ping = 101;\n    EchoSpec echo = 199;")
    text = text.replace("PingResult ping = 101;", "PingResult ping = 101;\n    EchoResult echo = 199;")
    envelope.write_text(text)
    generate_into(tmp_path, tmp_path)
    for name in (
        "__init__.py",
        "contract.py",
        "targets.py",
        "values.py",
        "v1/__init__.py",
        "v1/probes/__init__.py",
    ):
        (tmp_path / "streamswarm" / name).write_text((PROTO / "streamswarm" / name).read_text())
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
from streamswarm import contract
assert contract.__file__.startswith(sys.argv[1]), contract.__file__
echo = contract.kind("echo")
spec = contract.make_spec("echo", {})
try:
    contract.make_spec("echo", {"port": 0})
except contract.InvalidInputError as error:
    refused = str(error)
print(json.dumps([list(contract.kinds()), echo.label, echo.headline.name, contract.spec_values(spec), refused]))
"""
    output = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    names, label, headline, values, refused = json.loads(output)
    assert "echo" in names
    assert "ping" in names
    assert (label, headline, values) == ("Echo", "rtt_ms", {"port": 7})
    assert refused == "spec.port: 0 is below the smallest value, 1"
