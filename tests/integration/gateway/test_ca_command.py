"""`streamswarm ca`: what it prints and what it does."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from controller.cli.main import cli


async def test_the_authority_is_made_shown_and_used_to_revoke(deployment: Any, tmp_path: Any) -> None:
    """Init makes it once, show names it, revoke ends a worker's right to speak; mistakes get one clear line."""
    environment = deployment.settings.environment()

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["ca", *words], env=environment)
        return done.exit_code, done.output

    for command in (["show"], ["web", "monitor.example.org"]):
        empty = {**environment, "STREAMSWARM_DATA_DIR": str(tmp_path / "empty")}
        done = CliRunner().invoke(cli, ["ca", *command], env=empty)
        assert done.exit_code == 1
        assert "streamswarm ca init" in done.output
    assert not (tmp_path / "empty").exists()
    assert run("init")[0] == 0
    code, text = run("show")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == ["root", "intermediate", "gateway"]
    assert run("init")[1].endswith(text)
    worker = await deployment.enrol("host-a")
    code, text = run("revoke", "host-a")
    assert code == 0
    assert str(worker.worker_id) in text
    assert deployment.sql("SELECT revoked_at IS NOT NULL FROM certificates") == [(True,)]
    code, text = run("revoke", "host-x")
    assert code == 1
    assert "no worker `host-x`" in text
