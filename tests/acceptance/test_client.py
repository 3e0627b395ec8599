"""The guide to a generated client, followed as it is written: generate it, type its example, measure with a real worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.installation import Installation, installation
from support.surroundings import clean_environment, wait_for
from support.tutorial import BLOCK, Shell

pytestmark = pytest.mark.timeout(900)

#: Seconds for a block to end; on a quiet machine the longest, which installs packages, takes a tenth of it.
PATIENCE_S = 300
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "client.md"


def test_the_guide_makes_a_client_that_works(tmp_path: Path) -> None:
    """Everything that it says to type works without a warning, its example measures, and types hold the two together."""
    folder = tmp_path / "reader"
    folder.mkdir()
    found = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    [example] = [block for language, block in found if language == "python"]
    (folder / "measure.py").write_text(example, encoding="utf-8")
    tools, *blocks = [block for language, block in found if not language]
    with installation(gateways=1) as made:
        commands = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = clean_environment(**made.settings.environment(), PATH=commands, NO_PROXY="127.0.0.1")
        here = {"http://127.0.0.1:8080": _url(made), "192.0.2.1:443": made.settings.gateway_addresses[0]}
        shell = Shell(environment, tmp_path, here, folder=folder)
        shell.type(tools, timeout_s=PATIENCE_S)
        _start(made)
        printed = [shell.type(block, timeout_s=PATIENCE_S) for block in blocks][-1]
        left = made.sql(
            "SELECT name FROM tests WHERE deleted_at IS NULL "
            "UNION ALL SELECT name FROM destinations WHERE deleted_at IS NULL"
        )
    found_by_both = r"Workers: alpha, beta\n(?:(?:alpha|beta) ok \d+\.\d\d ms\n){2}"
    assert re.fullmatch(found_by_both, printed), printed
    assert left == [], "the example leaves nothing behind"
    _check_types(folder)


def _start(made: Installation) -> None:
    """Start everything, and wait until two workers are connected."""
    for part in (*made.gateways, made.keeper, made.web, made.worker("alpha"), made.worker("beta")):
        part.start()

    def connected() -> bool:
        try:
            answer = httpx.get(f"{_url(made)}/api/v1/health", trust_env=False, timeout=5)
        except httpx.TransportError:
            return False
        ((workers,),) = made.sql("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL")
        return bool(answer.is_success and workers == 2)

    wait_for("two workers", connected, 150)


def _check_types(folder: Path) -> None:
    """Check the example as strictly as the guide says, and the package itself."""
    interpreter = folder / "client-env" / "bin" / "python"
    options = ["--config-file=", "--strict", "--python-executable", interpreter]
    for what in ("measure.py", "streamswarm-client/streamswarm_client"):
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *options, what],
            cwd=folder, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def _url(made: Installation) -> str:
    return f"http://{made.settings.web_listen}"
