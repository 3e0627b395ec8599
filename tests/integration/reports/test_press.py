"""Printing: a confined child that fetches nothing, and one clear message for each way in which it can end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pdf import text_of, tool
from support.reports import printing

from controller.reports import render
from controller.reports.press import LIBRARIES, Limits, PrintingError, print_pdf

MARKER = "MARKER-f00d-cafe"
MIB = 1024 * 1024


class Listener:
    """Notes who connects."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(5)
                said = connection.recv(1000)
                if said == b"end":
                    return
                self.heard.append(said)
                connection.sendall(
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )

    def close(self) -> None:
        """Stop listening."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"end")
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Somebody who would hear a fetch."""
    listener = Listener()
    yield listener
    listener.close()


def greedy(port: int, marker: Path) -> str:
    """Return a document that refers to a server and a file in every way there is."""
    url, file = f"http://127.0.0.1:{port}", marker.as_uri()
    return f"""
    <link rel=stylesheet href="{url}/sheet.css"><link rel=attachment href="{file}"><link rel=attachment href="{url}/a">
    <style>@import "{url}/import.css"; @font-face {{ font-family: X; src: url({url}/font.woff2), url({file}) }}
      body {{ background: url({url}/back.png); font-family: X }} li {{ list-style-image: url({file}) }}
      p::before {{ content: url({url}/content.png) }}</style>
    <p>words<img src="{url}/image.png"><img src="{file}"><img srcset="{url}/set.png 2x"></p><li>item</li>
    <a rel=attachment href="{file}">attached</a><a rel=attachment href="{url}/b">attached</a>
    <object data="{url}/object.svg"></object><embed src="{file}"><iframe src="{url}/frame"></iframe>
    <svg width=10 height=10><image href="{url}/inner.png" width=5 height=5 /><use href="{file}#x" /></svg>
    <img src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}/deep.png'/></svg>">
    """


def test_a_document_fetches_nothing(listener: Listener, tmp_path: Path) -> None:
    """Neither over the network nor from files; the control shows that the same document would have."""
    from weasyprint import HTML

    marker = tmp_path / "secret.txt"
    marker.write_text(MARKER, encoding="utf-8")
    document = greedy(listener.port, marker)
    # The fetcher alone, in this very process, where nothing else stands in its way.
    alone = render.draw(document, {})
    printed = print_pdf(document)
    assert listener.heard == []
    for content in (alone, printed):
        assert MARKER.encode() not in content
        text = text_of(content, tmp_path)
        assert "words" in text
        assert MARKER not in text
        attached = subprocess.run(
            [tool("pdfdetach"), "-list", str(tmp_path / "printed.pdf")],
            check=True, capture_output=True, text=True, timeout=30,
        ).stdout  # fmt: skip
        assert attached.startswith("0 embedded files")
    HTML(string=document).write_pdf()
    assert len(listener.heard) >= 5


CONFINED = """
import os, socket, subprocess, sys, tempfile
from pathlib import Path
from controller.reports import render
render.set_limits(1 << 30, 20, 1 << 20)
render.leave_network()
sys.addaudithook(render._refuse())
def attempt(name, what):
    try:
        what()
    except PermissionError:
        print(name, "refused")
    else:
        print(name, "allowed")
attempt("socket", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2))
attempt("resolve", lambda: socket.getaddrinfo("localhost", 80))
attempt("program", lambda: subprocess.run(["true"]))
attempt("shell", lambda: os.system("true"))
attempt("fork", os.fork)
attempt("read", lambda: open("/etc/passwd"))
attempt("write", lambda: open(sys.argv[2], "w"))
attempt("temporary", lambda: tempfile.TemporaryFile().close())
attempt("library", lambda: open(os.__file__).close())
"""


def test_the_child_can_do_nothing_else(listener: Listener, tmp_path: Path) -> None:
    """Sockets, names, programs and foreign files are refused; temporary files and Python's own are not."""
    target, temporary = tmp_path / "written", tmp_path / "temporary"
    temporary.mkdir()
    said = subprocess.run(
        [sys.executable, "-I", "-c", CONFINED, str(listener.port), str(target)],
        env={"TMPDIR": str(temporary)},
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    answers = dict(line.split(" ", 1) for line in said)
    refused = {name for name, answer in answers.items() if answer == "refused"}
    assert refused == {"socket", "resolve", "program", "shell", "fork", "read", "write"}
    assert not target.exists()
    assert listener.heard == []


def endless() -> str:
    """Return a document that takes long to print."""
    return "<table>" + "<tr><td>word<td>word<td>word</tr>" * 60_000 + "</table>"


def test_a_child_whose_parent_died_before_they_were_tied_prints_nothing() -> None:
    """Nobody would wait for it: it ends before it loads what prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "controller.reports.render", str(MIB << 10), "60", str(MIB), "1"],
        input=b"<p>words</p>", capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (render.NO_PARENT, b"", b"")


def test_a_child_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed with its session, leaves no file behind, and never had a variable of ours."""
    monkeypatch.setenv("STREAMSWARM_DATABASE_URL", "postgresql://somebody:secret@nowhere/db")
    failed: list[PrintingError] = []

    def work() -> None:
        try:
            print_pdf(endless(), Limits(seconds=3))
        except PrintingError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while not printing(os.getpid()):
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.02)
    (child,) = printing(os.getpid())
    folder = Path(child.cwd())
    assert os.getsid(child.pid) == child.pid
    assert set(child.environ()) == {"LANG", "HOME", "TMPDIR", "XDG_CACHE_HOME"}
    thread.join(30)
    assert [error.message for error in failed] == ["printing took longer than 3 s and was ended"]
    assert not child.is_running()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(memory=160 * MIB), "needs more memory than the 160 MiB that it may take"),
        (Limits(memory=60 * MIB), "needs more memory than the 60 MiB"),
    ],
)
def test_memory_is_bounded(limits: Limits, message: str) -> None:
    """Want of memory, while loading or while printing, is one message that says what to do."""
    with pytest.raises(PrintingError) as caught:
        print_pdf(endless(), limits)
    assert message in caught.value.message
    assert caught.value.mend == "ask for a shorter range or fewer tests"


def test_a_file_that_is_too_large_is_refused() -> None:
    """The bound is on what is written, so nothing larger ever lies on the disk."""
    with pytest.raises(PrintingError, match="the PDF would have more than 0 MiB"):
        print_pdf("<p>a</p>" * 10, Limits(largest=1000))


@pytest.mark.namespaces
def test_a_missing_library_is_named_with_what_installs_it() -> None:
    """On a host without Pango the error tells which command helps."""
    found = subprocess.run(["ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    library = next(line.split()[-1] for line in found.splitlines() if "libpango-1.0.so.0" in line)
    if os.geteuid():
        pytest.skip("hiding a library needs root")
    script = "from controller.reports.press import print_pdf; print_pdf('<p>a')"
    # In a mount namespace of its own: nobody else misses the library.
    hidden = subprocess.run(
        [
            "unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$1" && exec "$2" -c "$3"', "sh",
            str(Path(library).resolve()), sys.executable, script,
        ],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert hidden.returncode != 0
    assert "the keeper's host lacks what WeasyPrint needs to make PDFs" in hidden.stderr
    assert f"sudo apt-get install {LIBRARIES}" in hidden.stderr
