"""What a host says about its Python becomes a platform, or is refused."""

from __future__ import annotations

import pytest

from controller.errors import ConfigurationError
from controller.fleet.platforms import Platform


@pytest.mark.parametrize(
    ("libc", "architecture", "expected"),
    [
        ("glibc-2.36", "x86_64", "x86_64-manylinux_2_36"),
        ("glibc-2.34", "aarch64", "aarch64-manylinux_2_34"),
        ("glibc-2.30", "x86_64", "x86_64-manylinux_2_28"),
        ("glibc-2.99", "x86_64", "x86_64-manylinux_2_40"),
        ("musl-1.2", "aarch64", "aarch64-unknown-linux-musl"),
    ],
)
def test_the_newest_wheels_that_fit_the_c_library_are_asked_for(
    libc: str, architecture: str, expected: str
) -> None:
    """The resolver is told the newest known glibc that is not newer than the host's."""
    assert Platform.parse(python="3.11.2", architecture=architecture, libc=libc).resolver_name() == expected


@pytest.mark.parametrize(
    ("python", "architecture", "libc", "message"),
    [
        ("3.9.18", "x86_64", "glibc-2.36", "3.10 or newer, not 3.9.18"),
        ("2.7.18", "x86_64", "glibc-2.36", "3.10 or newer"),
        ("4.0.1", "x86_64", "glibc-2.36", "not 4.0.1"),
        ("3.11", "x86_64", "glibc-2.36", "not a full Python version"),
        ("3.11.2+", "x86_64", "glibc-2.36", "not a full Python version"),
        ("3.11.2\n", "x86_64", "glibc-2.36", "not a full Python version"),
        ("--help", "x86_64", "glibc-2.36", "not a full Python version"),
        ("\uff13.\uff11\uff11.\uff12", "x86_64", "glibc-2.36", "not a full Python version"),
        ("3.11.2", "armv7l", "glibc-2.36", "armv7l"),
        ("3.11.2", "../..", "glibc-2.36", "no worker bundles"),
        ("3.11.2", "x86_64", "glibc", "not a C library"),
        ("3.11.2", "x86_64", "glibc-2.36/../x", "not a C library"),
        ("3.11.2", "x86_64", "glibc-2.12", "older than any"),
    ],
)
def test_what_is_no_platform_is_refused(python: str, architecture: str, libc: str, message: str) -> None:
    """Words from a host that are not what they should be end in an error that says what would be right."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Platform.parse(python=python, architecture=architecture, libc=libc)
    assert caught.value.mend


def test_an_old_python_names_the_setting_that_helps() -> None:
    """The way out of a Python that is too old is the variable for another interpreter."""
    with pytest.raises(ConfigurationError) as caught:
        Platform.parse(python="3.8.10", architecture="x86_64", libc="glibc-2.31")
    assert "streamswarm_worker_python" in caught.value.mend


def test_the_tag_tells_platforms_apart() -> None:
    """Each part of a platform is in its tag."""
    base = {"python": "3.11.2", "architecture": "x86_64", "libc": "glibc-2.36"}
    others = [{"python": "3.11.3"}, {"architecture": "aarch64"}, {"libc": "musl-1.2"}, {}]
    assert len({Platform.parse(**(base | other)).tag for other in others}) == 4
