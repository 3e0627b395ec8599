"""Generates the Python code of the contract, and with `--accept` the descriptor set that later versions must keep to.

make proto                             after a change of a .proto file
python proto/generate.py --accept      after a change that adds fields or kinds, when it is meant to stay
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
#: Field numbers and types that have been released: they never change.
ACCEPTED = ROOT / "accepted.binpb"


def sources() -> list[str]:
    """All .proto files, relative to `proto/`."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "streamswarm").rglob("*.proto"))


def run_protoc(root: Path, *options: str, names: list[str]) -> None:
    """Run protoc over `names` below `root`; ends the program with protoc's own message when it fails."""
    include = str(files("grpc_tools") / "_proto")
    code = protoc.main(["protoc", f"-I{root}", f"-I{include}", *options, *names])
    if code:
        sys.exit(code)


def generate(root: Path, out: Path, names: list[str]) -> None:
    """Write `_pb2.py` and `.pyi` for every file and `_pb2_grpc.py` for those with a service."""
    run_protoc(root, f"--python_out={out}", f"--pyi_out={out}", names=names)
    services = [name for name in names if "\nservice " in (root / name).read_text(encoding="utf-8")]
    run_protoc(root, f"--grpc_python_out={out}", names=services)


def main() -> None:
    """Generate in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--accept", action="store_true", help="also write the descriptor set that later versions must keep to"
    )
    options = parser.parse_args()
    generate(ROOT, ROOT, sources())
    if options.accept:
        run_protoc(ROOT, f"--descriptor_set_out={ACCEPTED}", names=sources())


if __name__ == "__main__":
    main()
