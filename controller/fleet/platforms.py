"""What a host's Python runs on, and how that is said to the resolver that picks wheels for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controller.errors import ConfigurationError

#: The oldest Python that a worker runs on.
OLDEST_PYTHON = (3, 10)

#: Versions of glibc for which wheels are told apart, as the resolver names them; the newest that a host has counts.
_GLIBC = (
    (2, 17),
    (2, 28),
    (2, 31),
    (2, 32),
    (2, 33),
    (2, 34),
    (2, 35),
    (2, 36),
    (2, 37),
    (2, 38),
    (2, 39),
    (2, 40),
)
_ARCHITECTURES = ("x86_64", "aarch64")


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One combination for which a bundle is built. Made by `parse`, which has checked every part."""

    #: Full version of the host's Python, for example 3.11.2: wheels' markers may compare all of it.
    python: str
    #: Machine as `uname -m` says it: x86_64 or aarch64.
    architecture: str
    #: The C library and its version, for example glibc-2.36 or musl-1.2.
    libc: str

    @classmethod
    def parse(cls, *, python: str, architecture: str, libc: str) -> Platform:
        """Check what a host says about itself; raises ConfigurationError with what would be right.

        The words come from a machine that is not trusted and go into file names and a program's arguments.
        """
        match = re.fullmatch(r"(\d{1,2})\.(\d{1,3})\.(\d{1,3})", python, re.ASCII)
        if match is None:
            raise ConfigurationError(
                f"`{python}` is not a full Python version", mend="write it as 3.11.2, without a suffix"
            )
        if (int(match[1]), int(match[2])) < OLDEST_PYTHON or int(match[1]) != 3:
            raise ConfigurationError(
                f"a worker needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, not {python}",
                mend="install a newer one on the host and name it in the variable streamswarm_worker_python",
            )
        if architecture not in _ARCHITECTURES:
            raise ConfigurationError(
                f"there are no worker bundles for the architecture `{architecture[:40]}`",
                mend=f"use a host of one of: {', '.join(_ARCHITECTURES)}",
            )
        if re.fullmatch(r"(glibc|musl)-\d{1,2}\.\d{1,3}", libc, re.ASCII) is None:
            raise ConfigurationError(
                f"`{libc[:40]}` is not a C library with its version",
                mend="write it as glibc-2.36 or musl-1.2",
            )
        platform = cls(python=python, architecture=architecture, libc=libc)
        platform.resolver_name()
        return platform

    @property
    def tag(self) -> str:
        """The platform in one word, for file names."""
        return f"py{self.python}-{self.architecture}-{self.libc.replace('-', '')}"

    def resolver_name(self) -> str:
        """Return uv's name of the platform; raises ConfigurationError for a C library that is too old."""
        family, _, version = self.libc.partition("-")
        if family == "musl":
            return f"{self.architecture}-unknown-linux-musl"
        major, _, minor = version.partition(".")
        fitting = [known for known in _GLIBC if known <= (int(major), int(minor))]
        if not fitting:
            raise ConfigurationError(
                f"the host's {self.libc} is older than any that wheels are built for",
                mend="use a host with glibc 2.17 or newer",
            )
        newest = max(fitting)
        return f"{self.architecture}-manylinux_{newest[0]}_{newest[1]}"
