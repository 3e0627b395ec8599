"""Starts the worker of the release that this file lies in. Every bundle has it as bin/streamswarm-worker.

The release's real path is used, so a worker that runs keeps its own files when `current` moves on to another
release.
"""

import os
import runpy
import sys
from pathlib import Path

library = str(Path(__file__).resolve().parent.parent / "lib")
sys.path.insert(0, library)
# For the worker's own child processes, which start the same interpreter.
os.environ["PYTHONPATH"] = library
runpy.run_module("worker", run_name="__main__", alter_sys=True)
