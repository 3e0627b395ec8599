"""The worker's configuration: one YAML file, checked before anything starts."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from streamswarm.logs import FORMATS
from streamswarm.targets import TargetError, parse_host_port, shown
from worker.errors import ConfigurationError
from worker.wire.mark_messages import SHORTEST_KEY

DEFAULT_PATH = Path("/etc/streamswarm/worker.yaml")
DEFAULT_POLICY = Path("/etc/streamswarm/policy.yaml")
DEFAULT_DATA = Path("/var/lib/streamswarm-worker")

#: Keys whose values come from a closed list.
_CHOICES = {"log_level": ("debug", "info", "warning", "error"), "log_format": FORMATS}


#: The responder's key in force and the one before it.
_MOST_KEYS = 2


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker daemon is told by its host."""

    #: Session listeners to dial, `host:port`; empty takes those that enrolment named.
    gateways: tuple[str, ...] = ()
    #: Enrolment listener, `host:port`; empty when the worker is enrolled already.
    enrolment: str = ""
    #: CA certificates that the enrolment listener is checked against.
    ca_file: Path | None = None
    #: One-time token; the file is removed when it has been used.
    token_file: Path | None = None
    #: Name of this host in the inventory.
    host_name: str = field(default_factory=socket.gethostname)
    #: Identity, spool and jobs lie below this folder.
    data_dir: Path = DEFAULT_DATA
    #: Local policy; must exist unless it is the default path.
    policy_file: Path = DEFAULT_POLICY
    #: Folder with databases about addresses in MaxMind's format (`.mmdb`), read by `traceroute`; none without.
    databases_dir: Path | None = None
    #: User to become when started as root; empty refuses to run as root.
    user: str = ""
    #: Results waiting for acknowledgement may take this much of the disk.
    spool_mib: int = 256
    #: The oldest result may wait this long before no further run is started.
    spool_days: int = 30
    #: Runs under way at the same time.
    concurrent_runs: int = 256
    #: Text that the workers share: who has it is told by their responders how packets came. Empty asks and answers nobody.
    responder_key: str = field(default="", repr=False)
    #: The text that was `responder_key` before, taken beside it while not all workers have the new one.
    responder_key_previous: str = field(default="", repr=False)
    #: `debug`, `info`, `warning` or `error`.
    log_level: str = "info"
    #: `plain` lines, or `json`: one object a line.
    log_format: str = "plain"

    @classmethod
    def load(cls, path: Path) -> WorkerConfig:
        """Read the file; raises ConfigurationError naming the key at fault."""
        return cls.from_values(_read(path), where=str(path))

    @classmethod
    def from_values(cls, values: dict[str, Any], *, where: str) -> WorkerConfig:
        """Return the configuration for the keys and values of a file."""
        known = cls.__dataclass_fields__
        for key in values:
            if key not in known:
                raise ConfigurationError(
                    f"{where}: unknown key `{shown(str(key))}`", mend=f"known keys are {', '.join(known)}"
                )
        config = cls(
            **{key: _convert(key, value, where) for key, value in values.items() if value is not None}
        )
        if config.responder_key_previous and not config.responder_key:
            raise ConfigurationError(
                f"{where}: there is a `responder_key_previous` and no `responder_key`",
                mend="a single key is the `responder_key`",
            )
        return config

    @property
    def responder_keys(self) -> tuple[str, ...]:
        """The keys that responders may have, the one in force first; none asks and answers nobody."""
        return tuple(filter(None, dict.fromkeys((self.responder_key, self.responder_key_previous))))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(
            f"the configuration {path} cannot be read: {error}",
            mend="write it as docs/how-to/provision.md shows under `Run a worker by hand`, or name another with --config",
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} must hold `key: value` lines", mend="docs/how-to/provision.md has an example"
        )
    return content


def _convert(key: str, value: Any, where: str) -> Any:
    if key == "gateways":
        if not isinstance(value, list) or not value:
            raise ConfigurationError(
                f"{where}: `gateways` must be a list of `host:port`",
                mend="write `gateways: [192.0.2.1:7443]`",
            )
        return tuple(_address(item, f"{where}: `gateways`") for item in value)
    if key == "enrolment":
        return _address(value, f"{where}: `enrolment`")
    if key in ("spool_mib", "spool_days", "concurrent_runs"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(
                f"{where}: `{key}` must be a whole number of 1 or more", mend="mend the value"
            )
        return value
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where}: `{key}` must be text", mend="mend the value or leave the key out")
    if key.startswith("responder_key"):
        return _key(value, f"{where}: `{key}`")
    if key.endswith(("_file", "_dir")):
        return Path(value).expanduser().absolute()
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ConfigurationError(
            f"{where}: `{key}` must be one of {', '.join(_CHOICES[key])}", mend="mend the value"
        )
    return value


def read_responder_keys(path: Path) -> tuple[str, ...]:
    """Return the texts that workers share: a file's first line and, where there is one, the previous key in its second.

    Raises ConfigurationError.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()] or [""]
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the file of the responder key, {path}, cannot be read: {error}",
            mend="name a file with the workers' `responder_key` in it",
        ) from error
    if len(lines) > _MOST_KEYS:
        raise ConfigurationError(
            f"the file of the responder key, {path}, has {len(lines)} lines",
            mend="write the workers' `responder_key` into its first line and, while it is being replaced, "
            "their `responder_key_previous` into the second",
        )
    return tuple(_key(line, f"the responder key in {path}") for line in lines)


def _key(text: str, what: str) -> str:
    if len(text) < SHORTEST_KEY:
        raise ConfigurationError(
            f"{what} must have {SHORTEST_KEY} characters or more",
            mend="make one with `openssl rand -hex 32`, the same for all workers",
        )
    return text


def _address(value: Any, where: str) -> str:
    try:
        target = parse_host_port(str(value))
    except TargetError as error:
        raise ConfigurationError(f"{where}: {error}", mend="write `host:port`") from error
    if target.port is None:
        raise ConfigurationError(
            f"{where}: `{shown(str(value))}` names no port",
            mend="write it as `192.0.2.1:7443` or `[2001:db8::1]:7443`",
        )
    return str(target)
