"""`make bench`, `make bench NAME=spool`: each benchmark prints one JSON line that compares us with a named peer.

A benchmark is a module `tests/bench/bench_<name>.py` with a function `measure() -> Figure`. Dashes in NAME stand for
underscores. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of all benchmarks, as `NAME=` takes them."""
    return sorted(path.stem.removeprefix("bench_").replace("_", "-") for path in FOLDER.glob("bench_*.py"))


def main(wanted: list[str]) -> int:
    """Run the named benchmarks, or all."""
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
    unknown = [name for name in wanted if name not in names()]
    if unknown:
        print(f"no benchmark `{unknown[0]}`; there are {', '.join(names())}", file=sys.stderr)  # noqa: T201
        return 2
    missed = False
    for name in wanted or names():
        # By its name, so that child processes can import it too.
        module = importlib.import_module(f"bench_{name.replace('-', '_')}")
        figure = module.measure()
        print(json.dumps({"name": name, **figure}), flush=True)  # noqa: T201
        missed = missed or not figure["ok"]
    return int(missed)


if __name__ == "__main__":
    sys.exit(main([argument for argument in sys.argv[1:] if argument]))
