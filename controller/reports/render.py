"""`python -m controller.reports.render`: HTML on stdin becomes a PDF on stdout, in a process that can do little else.

It fetches nothing: what a document may refer to are the fonts below, by made-up addresses, and they are in memory
before the first byte of the document is looked at. Limits on memory, time, files and file sizes come first, then
a network namespace of its own where the system grants one, then a hook that refuses sockets, programs, and files
outside of Python's own and the folder for temporary files. Only then is WeasyPrint loaded.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import importlib
import mimetypes
import os
import resource
import sys
import sysconfig
import tempfile
from typing import Any

from controller import assets
from controller.programs import end_with_parent

#: Exit codes, beside 0: the parent makes messages of them.
NO_LIBRARIES, NO_MEMORY, TOO_LARGE, NO_PARENT = 3, 4, 5, 6
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_REFUSED = (
    "socket.",
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.link",
    "os.symlink",
    "os.rename",
    "urllib.Request",
    "ftplib.",
    "webbrowser.",
)


def main(arguments: list[str]) -> int:
    """Read the limits (bytes of memory, seconds of processor, bytes of a file) and the parent's number; confine, draw."""
    memory, seconds, largest, parent = (int(argument) for argument in arguments)
    known = read_assets()
    set_limits(memory, seconds, largest)
    # One that died before it was tied to this process would leave it printing for nobody.
    if os.getppid() != parent:
        return NO_PARENT
    leave_network()
    # Known types of files would be looked for all over the system.
    mimetypes.init(files=())
    sys.addaudithook(_refuse())
    try:
        load()
    except (ImportError, OSError) as error:
        # A library that does not fit is reported as one that cannot be loaded.
        lacks_memory = "allocate memory" in str(error)
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return NO_MEMORY if lacks_memory else NO_LIBRARIES
    except MemoryError:
        return NO_MEMORY
    try:
        rest = memoryview(draw(sys.stdin.buffer.read().decode("utf-8"), known))
        # Unbuffered: what is refused here must not be tried again at the end of the program.
        while rest:
            rest = rest[os.write(1, rest) :]
    except MemoryError:
        return NO_MEMORY
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        return TOO_LARGE
    return 0


def read_assets() -> dict[str, bytes]:
    """Return what documents may refer to, by its address."""
    vendor = assets.static() / "vendor"
    return {
        "asset:text": (vendor / "geist" / "geist-latin-wght-normal.woff2").read_bytes(),
        "asset:text-ext": (vendor / "geist" / "geist-latin-ext-wght-normal.woff2").read_bytes(),
        "asset:figures": (vendor / "geist-mono" / "geist-mono-latin-wght-normal.woff2").read_bytes(),
    }


def set_limits(memory: int, seconds: int, largest: int) -> None:
    """Bound what this process may use; it dies with its parent."""
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    end_with_parent()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "to give up new rights is refused")


def leave_network() -> bool:
    """Move into a network namespace without any interface; False where the system forbids it."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Root needs no user namespace for it; others get the right by making one.
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def load() -> None:
    """Load WeasyPrint and the libraries that it needs."""
    # It would ask compilers for the names of libraries that are not there; the loader's own answer says more.
    ctypes.util.find_library = lambda name: None
    importlib.import_module("weasyprint")


def draw(document: str, known: dict[str, bytes]) -> bytes:
    """Return the document as a PDF."""
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    class Assets(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types
        """Gives out what is known and refuses everything else, whatever its scheme."""

        def __init__(self) -> None:
            super().__init__(allowed_protocols=(), allow_redirects=False)

        def fetch(self, url: str, headers: Any = None) -> Any:
            if url not in known:
                sys.stderr.write(f"refused to fetch {url[:200]!a}\n")
                raise ValueError("reports fetch nothing")
            return URLFetcherResponse(url, known[url], {"Content-Type": "font/woff2"})

    content = HTML(string=document, url_fetcher=Assets(), media_type="print").write_pdf()
    if not isinstance(content, bytes):
        raise TypeError("no PDF was made")
    return content


def _refuse() -> Any:
    """Return the hook that sees everything that Python code of this process tries."""
    paths = sysconfig.get_paths()
    readable = tuple(
        os.path.realpath(path) + os.sep
        for path in {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]}
    )
    temporary = os.path.realpath(tempfile.gettempdir())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_REFUSED):
            raise PermissionError(f"a report may not do this: {event}")
        if event == "open" and not isinstance(arguments[0], int):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            is_temporary = path == temporary or path.startswith(temporary + os.sep)
            if not is_temporary and (writes or not path.startswith(readable)):
                raise PermissionError(f"a report may not open {path}")

    return hook


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
