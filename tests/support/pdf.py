"""What other programs find in a PDF."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Return a program of poppler-utils; a skip without it, a failure where nothing may be skipped."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is missing; apt-get install poppler-utils"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def text_of(pdf: bytes, folder: Path) -> str:
    """Return the text of a PDF, which is left in the folder as `printed.pdf`."""
    path = folder / "printed.pdf"
    path.write_bytes(pdf)
    return subprocess.run(
        [tool("pdftotext"), "-layout", str(path), "-"], check=True, capture_output=True, text=True, timeout=30
    ).stdout
