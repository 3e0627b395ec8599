"""Releases that differ from the one under test: made from its bundle, with a few lines of the worker changed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from controller.fleet import archive
from controller.fleet.bundles import Bundle

#: Path below the release → what stands there, and what shall.
Patches = Mapping[str, tuple[str, str]]

#: It ends as soon as it is started.
CRASHES: Patches = {
    "lib/worker/daemon.py": (
        "    stop = asyncio.Event()\n",
        "    stop = asyncio.Event()\n    raise RuntimeError('this release does not run')\n",
    )
}
#: It runs, and speaks to nobody.
CANNOT_CONNECT: Patches = {
    "lib/worker/uplink.py": (
        "        return self._queue.pop()\n",
        "        self._queue.pop()\n        return '127.0.0.1:9'\n",
    )
}


#: It measures, and tells round-trip times that are sixty milliseconds too long: more than a busy machine adds.
SLOW_PING: Patches = {
    "lib/worker/probes/ping.py": (
        "    rtts = [in_time[index] / 1e6 for",
        "    rtts = [in_time[index] / 1e6 + 60.0 for",
    )
}


def changed_release(bundle: Bundle, folder: Path, word: str, patches: Patches | None = None) -> Bundle:
    """Make another release beside a bundle: `word` ends its version, `patches` change its sources."""
    version = f"{bundle.version}.{word}"
    tree = folder / f"tree-{word}"
    tree.mkdir()
    subprocess.run(["tar", "-xzf", bundle.path, "-C", tree], check=True)
    for path, (before, after) in (patches or {}).items():
        source = tree / path
        text = source.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
        source.write_text(text.replace(before, after), encoding="utf-8")
    metadata = tree / "lib" / f"streamswarm-{bundle.version}.dist-info"
    renamed = metadata.rename(metadata.with_name(f"streamswarm-{version}.dist-info")) / "METADATA"
    renamed.write_text(renamed.read_text().replace(f"Version: {bundle.version}\n", f"Version: {version}\n"))
    described = json.loads((tree / "release.json").read_text(encoding="utf-8"))
    (tree / "release.json").write_text(json.dumps(described | {"version": version}))
    path = folder / f"{word}.tar.gz"
    archive.pack(tree, path)
    made = dataclasses.replace(bundle, path=path, version=version, sha256=archive.file_hash(path))
    path.with_name(f"{path.name}.json").write_text(json.dumps(made.description()))
    return made
