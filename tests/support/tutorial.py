"""The tutorial as a newcomer uses it, what it says to type and what it calls by name; and a shell to type in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SECTION = re.compile(r"^## \d+\. (.+)$", re.MULTILINE)
#: Fences with a language hold what is shown or written, not what is typed.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<![*\w])\*([^*]+)\*(?![*\w])")


class Tutorial:
    """Its text. What was not asked for in the end was not followed: `left_out` tells."""

    def __init__(self) -> None:
        self.text = (_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
        parts = _SECTION.split(self.text)[1:]
        blocks = {title: BLOCK.findall(part) for title, part in zip(parts[::2], parts[1::2], strict=True)}
        self._typed = {
            title: [block for language, block in found if not language] for title, found in blocks.items()
        }
        self._shown = [block for found in blocks.values() for language, block in found if language == "ini"]
        prose = BLOCK.sub("", "".join(parts[1::2]))
        self._names = {" ".join(name.split()) for name in _NAME.findall(prose)}
        self._called: set[str] = set()

    @property
    def hosts(self) -> dict[str, str]:
        """Addresses of the inventory that it has written, by the hosts' names."""
        (inventory,) = self._shown
        return dict(re.findall(r"^(\S+) ansible_host=(\S+)$", inventory, re.MULTILINE))

    def typed(self, title: str) -> str:
        """Take the next block that a section has typed."""
        assert self._typed.get(title), f"the tutorial has nothing (more) to type in `{title}`"
        return self._typed[title].pop(0)

    def called(self, name: str) -> str:
        """Return what something on the pages is called; fails when the tutorial does not call it so."""
        assert name in self._names, f"the tutorial names no *{name}*"
        self._called.add(name)
        return name

    def left_out(self) -> list[str]:
        """Return the blocks that were not typed, and the names that were not looked for."""
        return [block for blocks in self._typed.values() for block in blocks] + sorted(
            self._names - self._called
        )


class Shell:
    """A shell in a folder, the checkout's unless another is named: what one block exports, the next one has."""

    def __init__(
        self, environment: Mapping[str, str], scratch: Path, words: Mapping[str, str], *, folder: Path = _ROOT
    ) -> None:
        self.environment = dict(environment)
        self._kept = scratch / "environment"
        self._folder = folder
        #: Addresses and files of the text, and what they are here.
        self._words = words

    def here(self, block: str) -> str:
        """Return a block with the addresses and files that it means here."""
        for written, here in self._words.items():
            block = re.sub(rf"(?<![\w.]){re.escape(written)}(?![\w.])", here, block)
        return block

    def type(self, block: str, *, timeout_s: float = 180) -> str:
        """Run a block as it is written and return what it printed; fails the test with that when the block fails."""
        block = self.here(block)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", f'{block}\nenv -0 >"$0"', self._kept],
            cwd=self._folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"
        lines = os.fsdecode(self._kept.read_bytes()).split("\0")
        self.environment = dict(line.split("=", 1) for line in lines if "=" in line)
        return done.stdout
