"""nginx for tests: HTTP/1.1 and HTTP/2, in the clear and under TLS, compression, a large file."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.probes.peers import Namespace

LARGE_BYTES = 5_000_000
TEXT = b"all is well here\n" * 500
CLEAR, SECURE, SECURE_OLD, CLEAR_NEW = 8180, 8181, 8182, 8183

_CONFIGURATION = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
  gzip on; gzip_types text/plain; gzip_min_length 100; gzip_proxied any;
  keepalive_requests 3;
  server {{
    listen {address}:{clear};
    listen {address}:{secure} ssl http2;
    listen {address}:{secure_old} ssl;
    listen {address}:{clear_new} http2;
    root {folder}/www;
    location /text {{ default_type text/plain; alias {folder}/www/text; }}
    location /hit {{ add_header Cache-Status "Edge; hit; ttl=30"; return 200 "kept"; }}
    location /miss {{ add_header Cache-Status "Edge; fwd=miss"; return 200 "fetched"; }}
    location /away {{ return 302 /text; }}
    location /posted {{ client_max_body_size 1m; proxy_pass http://{address}:{clear}/accepted; }}
    location /accepted {{ return 201 "taken"; }}
  }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Nginx:
    """A server that listens."""

    address: str
    folder: Path

    def url(self, path: str, port: int = CLEAR) -> str:
        """Return the URL of a path."""
        scheme = "https" if port in (SECURE, SECURE_OLD) else "http"
        return f"{scheme}://{self.address}:{port}{path}"

    def logged(self) -> list[str]:
        """Return the lines of its access log, of which the last one may come a while after its answer."""
        deadline = time.monotonic() + 10
        while not (lines := (self.folder / "access.log").read_text().splitlines()):
            assert time.monotonic() < deadline, "nginx has logged no request"
            time.sleep(0.01)
        return lines


@contextlib.contextmanager
def nginx(
    folder: Path,
    certificate: bytes,
    key: bytes,
    *,
    address: str = "127.0.0.1",
    namespace: Namespace | None = None,
) -> Iterator[Nginx]:
    """Run a server, in a namespace if one is given."""
    (folder / "www").mkdir()
    (folder / "www" / "text").write_bytes(TEXT)
    (folder / "www" / "large").write_bytes(bytes(LARGE_BYTES))
    (folder / "server.pem").write_bytes(certificate)
    (folder / "server.key").write_bytes(key)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            address=address,
            clear=CLEAR,
            secure=SECURE,
            secure_old=SECURE_OLD,
            clear_new=CLEAR_NEW,
        )
    )
    inside = [] if namespace is None else ["ip", "netns", "exec", namespace.name]
    process = subprocess.Popen(
        [*inside, "nginx", "-c", str(configuration), "-p", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with contextlib.nullcontext() if namespace is None else namespace.entered():
            _wait(process, address)
        yield Nginx(address=address, folder=folder)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _wait(process: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address, CLEAR), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
