#!/usr/bin/python
"""Brings several files, folders and links of a host into their state in one go: content, owner and mode.

Ansible's own modules take a connection, a Python and a copy for each file. This one writes only below folders that
nobody but root can write in, and follows no link.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: streamswarm_files
short_description: Several files, folders and links, each with content, owner and mode
options:
  entries:
    description: The files, folders and links, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      content: {description: Text of the file. Left out it is a folder., type: str}
      target: {description: What the link leads to. Owner and mode are then the system's., type: str}
      owner: {description: Name of its owner., type: str, default: root}
      group: {description: Name of its group., type: str, default: root}
      mode: {description: "Permissions, as an octal number in quotes; not of links.", type: str}
  started_with:
    description:
      - Lines of sha256sum(1) that a service wrote when it started. Entries of which it has another content, or none, are
        told in the list C(outdated), and the task has changed something, for the service is to be restarted. Of a link
        it is the file C(release.json) behind it; folders are not looked at.
    type: path
  look_for:
    description: Paths of which is told whether they are there, in the returned list C(there).
    type: list
    elements: path
    default: []
  clear:
    description:
      - Folders out of which goes what an earlier run that was killed left. What lies there, and beside the entries, is
        told in the list C(abandoned), also when it is not to be cleared.
    type: list
    elements: path
    default: []
author: [StreamSwarm]
"""

_FILE = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "target": {"type": "str"},
    "mode": {"type": "str"},
}


#: What a file or link is called until it is complete.
PREFIX = ".streamswarm-"
#: More of what a service noted is not read, bytes.
LONGEST = 65_536


class Refused(Exception):  # noqa: N818  what it says is what happened
    """Something stands in the way; the message says what."""


def state(path: str) -> dict[str, Any] | None:
    """Return what stands at a path: kind, owner, group, mode and, of a file, the text; None where there is nothing.

    Of a link it is where it leads.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return {"kind": "link", "target": str(Path(path).readlink())}
    kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise Refused(f"{path} is neither file, folder nor link. Remove what stands there, and try again.")
    seen: dict[str, Any] = {
        "kind": kind,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
    }
    if kind == "file":
        with Path(path).open(encoding="utf-8", errors="replace", newline="") as handle:
            seen["content"] = handle.read()
    return seen


def wanted(entry: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Return the state that an entry asks for; in a check run an account may be missing yet."""
    if entry["target"] is not None:
        return {"kind": "link", "target": entry["target"]}
    if entry["mode"] is None:
        raise Refused(f"no mode is given for {entry['path']}.")
    ids: dict[str, Any] = {}
    for key, name, look in (("uid", entry["owner"], pwd.getpwnam), ("gid", entry["group"], grp.getgrnam)):
        try:
            ids[key] = look(name)[2]
        except KeyError:
            if not check:
                raise Refused(
                    f"there is no account `{name}`, to which {entry['path']} shall belong."
                ) from None
            ids[key] = None
    meant = {
        "kind": "folder" if entry["content"] is None else "file",
        **ids,
        "mode": f"{int(entry['mode'], 8):04o}",
    }
    if entry["content"] is not None:
        meant["content"] = entry["content"]
    return meant


def make(path: str, meant: dict[str, Any], found: dict[str, Any] | None) -> None:
    """Bring a path from the state that was found into the one that is meant."""
    if found is not None and found["kind"] != meant["kind"]:
        raise Refused(
            f"{path} is a {found['kind']} and shall be a {meant['kind']}. Remove it, and try again."
        )
    if meant["kind"] == "link":
        _lead(path, meant["target"])
        return
    if meant["kind"] == "folder":
        if found is None:
            Path(path).mkdir(mode=0o700, parents=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _own(handle, meant)
        finally:
            os.close(handle)
        return
    # Complete before it has its name, and never open to more than it shall be.
    handle, temporary = _begun(Path(path).parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(meant["content"])
            file.flush()
            _own(file.fileno(), meant)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _lead(path: str, target: str) -> None:
    """Make a link under another name first: whoever looks sees the old link or the new one."""
    while True:
        temporary = tempfile.mktemp(prefix=PREFIX, dir=Path(path).parent)  # noqa: S306  it fails if it is there
        Path(temporary).symlink_to(target)
        # A link cannot be locked: another run may have taken this one for abandoned.
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).replace(path)
            return


def _begun(folder: Path) -> tuple[int, str]:
    """Begin a file that no other run takes for abandoned: it is locked as long as it is open."""
    while True:
        handle, path = tempfile.mkstemp(prefix=PREFIX, dir=folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, path
        # Another run was faster than the lock.
        os.close(handle)


def abandoned(folder: str, *, clear: bool = False) -> list[str]:
    """Return what runs that were killed left in a folder; with `clear` it is gone afterwards. What is written now stays."""
    return [str(path) for path in sorted(Path(folder).glob(f"{PREFIX}*")) if _is_abandoned(path, clear=clear)]


def _is_abandoned(path: Path, *, clear: bool) -> bool:
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind == stat.S_IFLNK:
            if clear:
                path.unlink()
            return True
        if kind != stat.S_IFREG:
            return False
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if clear:
                path.unlink()
        finally:
            os.close(handle)
    except (FileNotFoundError, BlockingIOError):
        # It has its name by now, or somebody writes it.
        return False
    return True


def _own(handle: int, meant: dict[str, Any]) -> None:
    os.fchown(handle, meant["uid"], meant["gid"])
    os.fchmod(handle, int(meant["mode"], 8))


def digests(path: str) -> dict[str, str]:
    """Return what a service started with: path → SHA-256. The file is the service's own, which may be in other hands."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Refused(
                f"{path} is no file. Stop the service, see what runs under its account, and try again."
            )
        lines = file.read(LONGEST).decode("utf-8", "replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def in_force(path: str, meant: dict[str, Any], started: dict[str, str]) -> bool:
    """Whether a service started with what is meant to be at a path."""
    if meant["kind"] == "folder":
        return True
    if meant["kind"] == "file":
        return started.get(path) == hashlib.sha256(meant["content"].encode()).hexdigest()
    behind = Path(path).parent / meant["target"] / "release.json"
    if not behind.is_file():
        return False
    return started.get(f"{path}/release.json") == hashlib.sha256(behind.read_bytes()).hexdigest()


def difference(path: str, meant: dict[str, Any], found: dict[str, Any] | None) -> dict[str, str]:
    """Return what changes, as Ansible shows it."""

    def text(state: dict[str, Any] | None) -> str:
        if state is None:
            return ""
        told = "".join(f"{key}: {value}\n" for key, value in state.items() if key != "content")
        return told + state.get("content", "")

    return {"before_header": path, "after_header": path, "before": text(found), "after": text(meant)}


def main() -> None:
    """Do what the task asks for."""
    module = AnsibleModule(
        argument_spec={
            "entries": {"type": "list", "elements": "dict", "required": True, "options": _FILE},
            "started_with": {"type": "path"},
            "look_for": {"type": "list", "elements": "path", "default": []},
            "clear": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    changed, outdated, differences = [], [], []
    try:
        started = digests(module.params["started_with"]) if module.params["started_with"] else None
        for entry in module.params["entries"]:
            path = entry["path"]
            meant, found = wanted(entry, check=module.check_mode), state(path)
            if meant == found:
                if started is not None and not in_force(path, meant, started):
                    outdated.append(path)
                    differences.append({"prepared": f"{path}: the service runs with what was there before\n"})
                continue
            changed.append(path)
            differences.append(difference(path, meant, found))
            if not module.check_mode:
                make(path, meant, found)
        cleared = {
            folder: abandoned(folder, clear=not module.check_mode) for folder in module.params["clear"]
        }
        beside = {str(Path(entry["path"]).parent) for entry in module.params["entries"]} - cleared.keys()
        left = [path for folder in sorted(beside) for path in abandoned(folder)]
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error), changed_paths=changed)
    there = [path for path in module.params["look_for"] if os.path.lexists(path)]
    gone = [path for paths in cleared.values() for path in paths]
    module.exit_json(
        changed=bool(changed or outdated or gone),
        changed_paths=changed + gone,
        abandoned=gone + left,
        outdated=outdated,
        diff=differences,
        there=there,
    )


if __name__ == "__main__":
    main()
