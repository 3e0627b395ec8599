"""`make soak`, `make soak NAME=kill`: the long forms of the fault tests, one after another; each prints one JSON line.

A soak is a module `tests/soak/soak_<name>.py` with a docstring and a function `measure() -> dict`: every figure that
it has found, and `ok`. It raises AssertionError, with what was found, where nothing can be measured any more. Dashes
in NAME stand for underscores. Lengths are set by variables that the module's docstring names, so that a short run can
be tried. The exit code is 1 when a soak has found a fault.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of all soaks, as `NAME=` takes them."""
    return sorted(path.stem.removeprefix("soak_").replace("_", "-") for path in FOLDER.glob("soak_*.py"))


def main(wanted: list[str]) -> int:
    """Run the named soaks, or all."""
    sys.path.insert(0, str(FOLDER.parent))
    unknown = [name for name in wanted if name not in names()]
    if unknown:
        print(f"no soak `{unknown[0]}`; there are {', '.join(names())}", file=sys.stderr)  # noqa: T201
        return 2
    faulty = False
    for name in wanted or names():
        path = FOLDER / f"soak_{name.replace('-', '_')}.py"
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        started = time.monotonic()
        figure = module.measure()
        line = {"name": name, **figure, "took_s": round(time.monotonic() - started, 1)}
        print(json.dumps(line), flush=True)  # noqa: T201
        faulty = faulty or not figure["ok"]
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main([argument for argument in sys.argv[1:] if argument]))
