"""One supervisor per data folder, found by others while it lives, and nothing of it left afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from controller.errors import ConfigurationError
from controller.local.lock import forget_killed, only_one, pid_file, running_supervisor


def killed_supervisor(folder: Path) -> None:
    """Leave behind what a supervisor leaves that is killed."""
    code = "import os, sys; from pathlib import Path; from controller.local.lock import only_one\n"
    code += "with only_one(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == -9


def test_the_file_is_there_while_one_runs_and_no_longer(tmp_path: Path) -> None:
    """A second one is refused meanwhile and spoils nothing."""
    with only_one(tmp_path):
        assert running_supervisor(tmp_path) == os.getpid()
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()}"), only_one(tmp_path):
            pass
        forget_killed(tmp_path)
        assert running_supervisor(tmp_path) == os.getpid()
    assert not pid_file(tmp_path).exists()
    assert running_supervisor(tmp_path) is None


def test_what_a_killed_one_has_left_is_forgotten(tmp_path: Path) -> None:
    """Its process id is no supervisor's any more; a folder without any stays without."""
    killed_supervisor(tmp_path)
    assert pid_file(tmp_path).read_text().strip().isdigit()
    assert running_supervisor(tmp_path) is None
    forget_killed(tmp_path)
    assert not pid_file(tmp_path).exists()
    forget_killed(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_never_two_while_files_come_and_go(tmp_path: Path) -> None:
    """Whoever has opened a file that is removed meanwhile does not take it for the lock."""
    inside, most, done = 0, 0, 0

    def compete() -> None:
        nonlocal inside, most, done
        while done < 300:
            try:
                with only_one(tmp_path):
                    inside += 1
                    most = max(most, inside)
                    done += 1
                    assert running_supervisor(tmp_path) == os.getpid()
                    inside -= 1
            except ConfigurationError:
                continue

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == (1, 0)
