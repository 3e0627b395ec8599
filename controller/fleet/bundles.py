"""Bundles: one tar.gz per part of the product and platform, with everything that a host needs beside its own Python.

A bundle unpacks to a release:

    bin/<program>               starts a program of the part, see launcher.py and parts.py
    lib/                        our packages and the wheels of the part's requirements, unpacked and, where this
                                machine has the host's Python, compiled
    release.json                version and platform

Bundles are kept in one folder (the setting `bundle_dir`) under a key of everything that decides their content, each beside a small
JSON file that describes it; the roles read both. They run on every host, and their hash lies beside them, so
nobody but the user who builds them may be able to write there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from controller.errors import ConfigurationError, StreamSwarmError
from controller.fleet import archive, distribution
from controller.fleet.distribution import Source
from controller.fleet.parts import WORKER, Part
from controller.fleet.platforms import Platform

#: Goes up when the layout of a release changes.
LAYOUT = 2
#: Bundles of each part and platform that are kept: the release in use, the one before, and some that were tried.
KEPT = 5
#: What installers write about themselves: it names this machine's paths, and nothing reads it on a host.
_TRACES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")

Report = Callable[[str], None]


class BundleError(StreamSwarmError):
    """A bundle could not be built."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that lies ready."""

    #: The tar.gz; `<path>.json` describes it.
    path: Path
    #: Version of the release: the distribution's, with a short hash of the content.
    version: str
    #: SHA-256 of the tar.gz.
    sha256: str
    #: What it was built for.
    platform: Platform
    #: What it holds.
    part: Part = WORKER

    def description(self) -> dict[str, str]:
        """Return the bundle as plain values, for JSON."""
        values = {
            "path": str(self.path),
            "version": self.version,
            "sha256": self.sha256,
            "part": self.part.name,
        }
        return values | asdict(self.platform)


def ensure_bundle(
    platform: Platform,
    *,
    folder: Path,
    part: Part = WORKER,
    release: str = "",
    report: Report = lambda _: None,
) -> Bundle:
    """Return the bundle of a part for a platform, building it first when it is not in `folder` yet.

    It is of the release that is installed here, or of `release`: a wheel of another one, or the version of a bundle that
    lies ready. `report` is told, in a few words each, what is going on. Builders of the same folder wait for one another, and
    nothing half-built ever has a bundle's name.
    """
    part.check(platform)
    if release.endswith(".whl"):
        with distribution.of_wheel(Path(release), part) as source:
            return _ensure(platform, source, folder, report)
    if release:
        return _of_version(platform, part, release, folder)
    return _ensure(platform, distribution.installed(part), folder, report)


def _ensure(platform: Platform, source: Source, folder: Path, report: Report) -> Bundle:
    try:
        _make_own(folder)
        path = _path(platform, source, folder)
        with _exclusively(folder / ".lock", report):
            known = _load(path, platform, source.part)
            if known is not None:
                report(f"the bundle {known.version} for {platform.tag} lies ready")
                os.utime(path)
                return known
            built = _build(platform, source, path, report)
            _prune(folder, platform, source.part)
            return built
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise BundleError(
            f"the {source.part.name} bundle cannot be written to {folder}: {error.strerror or error}",
            mend="make room there"
            if full
            else "make the folder writable, or set STREAMSWARM_BUNDLE_DIR to another",
        ) from error


def ready_bundles(folder: Path) -> tuple[Bundle, ...]:
    """Return the worker's bundles that lie ready in `folder` and that `ensure_bundle` would give out now; builds nothing."""
    source = distribution.installed()
    lying = _lying(WORKER, folder)
    ready = [_load(_path(bundle.platform, source, folder), bundle.platform, WORKER) for bundle in lying]
    return tuple({bundle.path: bundle for bundle in ready if bundle is not None}.values())


def _prune(folder: Path, platform: Platform, part: Part) -> None:
    """Remove the bundles of a part and platform that were given out last before `KEPT` others were."""
    lying = [
        bundle.path for bundle in _lying(part, folder) if bundle.platform == platform and bundle.path.exists()
    ]
    for path in sorted(lying, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        # The description first, as it promises the archive.
        _description_of(path).unlink()
        path.unlink()


def _of_version(platform: Platform, part: Part, version: str, folder: Path) -> Bundle:
    """Return the bundle of a version that lies ready for a platform."""
    _make_own(folder)
    lying = [bundle for bundle in _lying(part, folder) if bundle.platform == platform]
    for bundle in lying:
        if bundle.version == version and archive.file_hash(bundle.path) == bundle.sha256:
            os.utime(bundle.path)
            return bundle
    known = ", ".join(sorted(bundle.version for bundle in lying)) or "none"
    raise BundleError(
        f"no bundle of the version {version[:80]!a} for {platform.tag} lies in {folder}; there are: {known}",
        mend="name one of these, or the wheel of a release",
    )


def _lying(part: Part, folder: Path) -> Iterator[Bundle]:
    """Return what the descriptions of a part in `folder` say, whatever release it is of."""
    for description in sorted(folder.glob("*.tar.gz.json")):
        try:
            values = json.loads(description.read_text(encoding="utf-8"))
            platform = Platform.parse(**{key: values[key] for key in ("python", "architecture", "libc")})
            if values["part"] != part.name:
                continue
            yield Bundle(
                path=description.with_suffix(""),
                version=values["version"],
                sha256=values["sha256"],
                platform=platform,
                part=part,
            )
        except (OSError, ValueError, KeyError, TypeError, ConfigurationError):
            continue


def described_version(path: str) -> str | None:
    """Return the version of the bundle that lies at a path, by the description beside it; None when it has none."""
    try:
        version = json.loads(_description_of(Path(path)).read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def _path(platform: Platform, source: Source, folder: Path) -> Path:
    name = f"streamswarm-{source.part.name}-{source.version}-{platform.tag}-{_key(platform, source)}.tar.gz"
    return folder / name


def _make_own(folder: Path) -> None:
    """Make the folder, for this user alone; raises BundleError when others own it or can write there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            raise BundleError(
                f"the folder {folder} for bundles belongs to another user (uid {found.st_uid}), who could "
                "change what is installed on the hosts",
                mend="set STREAMSWARM_BUNDLE_DIR to a folder of your own, or provision as the user who owns this one",
            )
        if found.st_mode & 0o022:
            raise BundleError(
                f"the folder {folder} for bundles can be written by others (mode "
                f"{stat.S_IMODE(found.st_mode):04o}), who could have changed what is installed on the hosts",
                mend=f"remove the bundles in it and close it: rm -r {folder}",
            )
        os.fchmod(handle, 0o700)
    finally:
        os.close(handle)


def _key(platform: Platform, source: Source) -> str:
    """Hash all that decides a bundle's content, so that any change of it makes another bundle."""
    total = hashlib.sha256(f"{LAYOUT}\n{platform.tag}\n{source.version}\n".encode())
    if tag := _compiled_for(platform):
        total.update(f"{tag} {sys.version.split()[0]}\n".encode())
    for line in (*source.part.programs, *source.part.kept_programs, *source.requirements):
        total.update(f"{line}\n".encode())
    for name, path in source.files:
        total.update(f"{name}\0{archive.file_hash(path)}\n".encode())
    total.update(_launcher().read_bytes())
    return total.hexdigest()[:12]


def _launcher() -> Path:
    return Path(__file__).with_name("launcher.py")


def _load(path: Path, platform: Platform, part: Part) -> Bundle | None:
    """Return the bundle at `path`, or None when it is missing or is not what its description says."""
    try:
        described = json.loads(_description_of(path).read_text(encoding="utf-8"))
        bundle = Bundle(
            path=path, version=described["version"], sha256=described["sha256"], platform=platform, part=part
        )
        return bundle if archive.file_hash(path) == bundle.sha256 else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _build(platform: Platform, source: Source, path: Path, report: Report) -> Bundle:
    started = time.monotonic()
    report(f"building the {source.part.name} bundle for {platform.tag}")
    with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as name:
        workshop = Path(name)
        release = workshop / "release"
        library = release / "lib"
        _install_requirements(platform, source.requirements, library, report)
        _strip(library, keep=source.part.kept_programs)
        for relative, file in source.files:
            target = library / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        (release / "bin").mkdir()
        for program in source.part.programs:
            shutil.copyfile(_launcher(), release / "bin" / program)
            (release / "bin" / program).chmod(0o755)
        version = f"{source.version}+{archive.content_hash(release)[:10]}"
        if _compiled_for(platform):
            report("compiling")
            _compile(library)
        _sign(release, version, source, platform)
        report("packing")
        packed = workshop / path.name
        archive.pack(release, packed)
        sha256 = archive.file_hash(packed)
        bundle = Bundle(path=path, version=version, sha256=sha256, platform=platform, part=source.part)
        # The archive first: a description without its archive would promise what is not there.
        packed.rename(path)
        description = workshop / "description.json"
        description.write_text(json.dumps(bundle.description(), indent=2) + "\n", encoding="utf-8")
        description.rename(_description_of(path))
    took_s = time.monotonic() - started
    report(f"bundle {version}: {path.stat().st_size / 1e6:.1f} MB, built in {took_s:.1f} s")
    return bundle


def _sign(release: Path, version: str, source: Source, platform: Platform) -> None:
    """Write the release's version where its programs (as a distribution's metadata) and the role look for it.

    The requirements are kept for the controller, which builds the workers' bundles from them.
    """
    metadata = release / "lib" / f"{distribution.NAME}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {distribution.NAME}", f"Version: {version}"]
    lines += [f"Requires-Dist: {each}" for each in source.declared if source.part.extra]
    metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")
    known = {"version": version, "layout": LAYOUT, "compiled": _compiled_for(platform)}
    described = json.dumps(known | asdict(platform), indent=2)
    (release / "release.json").write_text(described + "\n", encoding="utf-8")


def _install_requirements(
    platform: Platform, requirements: Sequence[str], target: Path, report: Report
) -> None:
    """Have uv resolve the requirements as the host would, and unpack the wheels into `target`."""
    try:
        from uv import find_uv_bin
    except ImportError as error:
        raise BundleError(
            "building a bundle needs uv", mend="pip install 'streamswarm[controller]'"
        ) from error
    command = [
        find_uv_bin(),
        "pip",
        "install",
        *("--target", str(target)),
        *("--python", sys.executable),
        *("--python-version", platform.python),
        *("--python-platform", platform.resolver_name()),
        *("--only-binary", ":all:"),
        *("--link-mode", "copy"),
        "--no-progress",
        "--",
        *requirements,
    ]
    said: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as resolver:
        for line in resolver.stderr or ():
            if line.strip():
                said.append(line.rstrip())
                if line.startswith(("Resolved", "Downloading", "Prepared", "Installed")):
                    report(line.strip())
    if resolver.returncode != 0:
        end = "\n    ".join(said[-15:])
        raise BundleError(
            f"the wheels for {platform.tag} could not be had; uv said:\n    {end}",
            mend="check the network and the package index (UV_DEFAULT_INDEX, UV_INDEX, UV_FIND_LINKS), then try again",
        )


def _strip(library: Path, *, keep: Collection[str]) -> None:
    """Remove what depends on this machine or is of no use on a host; `keep` names commands that stay."""
    for command in (library / "bin").glob("*"):
        if command.name not in keep:
            command.unlink()
    if not keep:
        shutil.rmtree(library / "bin", ignore_errors=True)
    (library / ".lock").unlink(missing_ok=True)
    for metadata in library.glob("*.dist-info"):
        for name in _TRACES:
            (metadata / name).unlink(missing_ok=True)


def _compiled_for(platform: Platform) -> str | None:
    """Return the tag of the compiled files that this Python makes for a platform; None when it is another Python."""
    fits = platform.python.split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    return sys.implementation.cache_tag if fits else None


def _compile(library: Path) -> None:
    """Compile here once, not on every host; whatever does not compile, as on a host, is of no use there."""
    # Within a release sources never change, so nothing is checked against them. Without a fixed seed the order of sets
    # in compiled files, and so the bundle's hash, would be another each time.
    words: list[str | Path] = [
        "-m",
        "compileall",
        "-qq",
        "-j1",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        library.parent,
        library,
    ]
    subprocess.run(
        [sys.executable, "-S", *words],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )


def _description_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@contextmanager
def _exclusively(lock: Path, report: Report) -> Iterator[None]:
    # Neither truncated nor followed: a link there must not touch the file that it leads to.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(lock, flags, 0o600), "r+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another build to end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
