"""Starts a program of the release that this file lies in. Every bundle has it in bin/, under each program's name.

The release's real path is used, so a program that runs keeps its own files when `current` moves on to another
release.
"""

import os
import runpy
import sys
from pathlib import Path

#: Which module a program is.
MODULES = {
    "streamswarm-worker": "worker",
    "streamswarm": "controller.cli",
    "ansible-inventory": "ansible.cli.inventory",
    "ansible-playbook": "ansible.cli.playbook",
}

here = Path(__file__).resolve()
library = str(here.parent.parent / "lib")
sys.path.insert(0, library)
# For the program's own child processes, which start the same interpreter.
os.environ["PYTHONPATH"] = library
runpy.run_module(MODULES[here.name], run_name="__main__", alter_sys=True)
