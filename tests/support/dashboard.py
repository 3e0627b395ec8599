"""The dashboard with its REST API behind a real socket: as a process of its own, or as threads of this one."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from flask import Flask
from support.surroundings import clean_environment, free_port, wait_for
from werkzeug.serving import make_server

from controller.cli.client import LOCAL_TOKEN
from controller.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard that serves."""

    url: str
    #: Holds the installation's own token.
    token_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which commands find it."""
        return {
            "STREAMSWARM_URL": self.url,
            "STREAMSWARM_TOKEN_FILE": str(self.token_file),
            "NO_PROXY": "*",
        }


@contextmanager
def dashboard(settings: Settings, log: Path) -> Iterator[Dashboard]:
    """Run it until the block ends."""
    port = free_port()
    environment = clean_environment(
        **{**settings.environment(), "STREAMSWARM_WEB_LISTEN": f"127.0.0.1:{port}"}
    )
    made = Dashboard(url=f"http://127.0.0.1:{port}", token_file=settings.data_dir / LOCAL_TOKEN)
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "web"], env=environment, stderr=stderr)

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                httpx.get(f"{made.url}/api/v1/health", trust_env=False, timeout=5)
            except httpx.TransportError:
                return False
            return made.token_file.exists()

        try:
            wait_for("the dashboard", serves, 30)
            yield made
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@contextmanager
def serving(app: Flask, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve an application on a free port of loopback until the block ends; yields the URL, of HTTPS with a context."""
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        app.extensions["live"].stop()
        server.shutdown()
        thread.join()
        server.server_close()
