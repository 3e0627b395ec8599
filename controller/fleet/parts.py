"""The parts of the product that go to hosts as bundles: the worker and the controller."""

from __future__ import annotations

from dataclasses import dataclass

from controller.errors import ConfigurationError
from controller.fleet.platforms import Platform


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a bundle of one part holds."""

    #: In one word, for file names.
    name: str
    #: Our packages that it runs.
    packages: tuple[str, ...]
    #: The distribution's extra that it needs beside the base requirements; empty for none.
    extra: str = ""
    #: Base requirements that it does without.
    without: tuple[str, ...] = ()
    #: Its commands in `bin/`, each of which launcher.py knows.
    programs: tuple[str, ...]
    #: Commands that its libraries bring and that it starts, kept in `lib/bin/`.
    kept_programs: tuple[str, ...] = ()
    #: Whether it carries migrations, playbooks and the example inventory.
    assets: bool = False
    #: The oldest Python that it runs on.
    oldest_python: tuple[int, int]

    def check(self, platform: Platform) -> None:
        """Raise ConfigurationError when this part does not run on a platform."""
        found = tuple(int(word) for word in platform.python.split("."))
        if found[:2] < self.oldest_python:
            wanted = ".".join(map(str, self.oldest_python))
            raise ConfigurationError(
                f"the {self.name} needs Python {wanted} or newer, not {platform.python}",
                mend=f"install a newer one on the host and name it in the variable streamswarm_{self.name}_python",
            )


WORKER = Part(
    name="worker",
    packages=("streamswarm", "worker"),
    # Only the command line needs them: a third of a worker's code.
    without=("httpx", "rich"),
    programs=("streamswarm-worker",),
    oldest_python=(3, 10),
)
CONTROLLER = Part(
    name="controller",
    packages=("controller", "streamswarm", "web", "worker"),
    extra="controller",
    programs=("streamswarm", "ansible-inventory", "ansible-playbook"),
    kept_programs=("uv",),
    assets=True,
    oldest_python=(3, 11),
)
PARTS = {part.name: part for part in (WORKER, CONTROLLER)}
