"""The configuration file, its mistakes, the logs, and the lock of the data folder."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker.config import WorkerConfig
from worker.errors import ConfigurationError, StorageError, WorkerError
from worker.files import replace_file
from worker.lock import DataLock
from worker.logs import set_up_logs


def test_a_file_is_read(tmp_path: Path) -> None:
    """Addresses in their canonical form, the rest with defaults."""
    path = tmp_path / "worker.yaml"
    path.write_text(
        "gateways: ['Gate.example:7443', '[2001:DB8::1]:7443']\nhost_name: one\ndata_dir: /tmp/x\n"
    )
    config = WorkerConfig.load(path)
    assert config.gateways == ("gate.example:7443", "[2001:db8::1]:7443")
    assert config.data_dir == Path("/tmp/x")
    assert config.spool_mib == 256
    assert config.policy_file == Path("/etc/streamswarm/policy.yaml")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gateway": "x"}, "unknown key `gateway`"),
        ({"gateways": "127.0.0.1:1"}, "must be a list"),
        ({"gateways": ["127.0.0.1"]}, "names no port"),
        ({"gateways": ["127.0.0.1:99999"]}, "not a port"),
        ({"enrolment": "a b:1"}, "white space"),
        ({"spool_mib": 0}, "1 or more"),
        ({"spool_days": True}, "1 or more"),
        ({"log_level": "loud"}, "one of debug"),
        ({"log_format": "xml"}, "one of plain, json"),
        ({"ca_file": 5}, "must be text"),
    ],
)
def test_mistakes_name_the_key(values: dict[str, Any], said: str) -> None:
    """And what would be right."""
    with pytest.raises(ConfigurationError, match=said):
        WorkerConfig.from_values(values, where="worker.yaml")


@pytest.mark.parametrize("content", [b"- a\n", b"a: [", b"\xff"])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, content: bytes) -> None:
    """With their path in the message."""
    path = tmp_path / "worker.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"worker\.yaml"):
        WorkerConfig.load(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        WorkerConfig.load(tmp_path / "none.yaml")


def test_a_data_folder_has_one_daemon(tmp_path: Path) -> None:
    """The second is told who the first is; the lock ends with its holder, even one that was killed."""
    code = (
        "import sys, time; from pathlib import Path; from worker.lock import DataLock;"
        f"lock = DataLock.take(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WorkerError, match=f"process {holder.pid}"):
            DataLock.take(tmp_path)
        holder.kill()
    DataLock.take(tmp_path).release()
    DataLock.take(tmp_path).release()


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="data_dir"):
        DataLock.take(tmp_path / "file" / "data")


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """With the mode asked for, and nothing left over when it fails."""
    path = tmp_path / "sub" / "file"
    replace_file(path, b"one", mode=0o600)
    replace_file(path, b"two", mode=0o640)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        replace_file(tmp_path / "folder", b"x")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["folder", "sub"]


def test_nobody_can_forge_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters come out escaped, exceptions in the same line."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logs("info")
        log = logging.getLogger("worker.session")
        log.warning("name %s", "x\n2030-01-01 error forged\x1b[31m")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("broken")
        log.debug("not shown")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "warning session: name x\\n2030-01-01 error forged\\x1b[31m" in lines[0]
    assert "error session: broken | Traceback" in lines[1]
