"""Settings of the controller's processes: environment variables and one YAML file, nothing else.

Every setting `x_y` is read from `STREAMSWARM_X_Y`, else from key `x_y` of the file that `STREAMSWARM_CONFIG`
names, else its default. Secrets may be given by file: `STREAMSWARM_DATABASE_URL_FILE` for
`STREAMSWARM_DATABASE_URL`. `docs/reference/settings.md` lists them.
"""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from controller import assets
from controller.errors import ConfigurationError
from streamswarm.logs import FORMATS

PREFIX = "STREAMSWARM_"
#: Bounds of the time after which a session ends when nobody does anything, minutes.
SESSION_MINUTES = (10, 60)
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LEVELS = ("debug", "info", "warning", "error")
#: Variables of the command line and the playbooks.
_OTHERS = {
    PREFIX + name
    for name in (
        "CONFIG",
        "URL",
        "TOKEN",
        "TOKEN_FILE",
        "CA_FILE",
        "ENROLMENT_SOCKET",
        "ANSIBLE_STRATEGY",
    )
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the controller keeps things and how it is reached."""

    #: Everything that the controller keeps on disk lies below this folder.
    data_dir: Path = field(default_factory=lambda: default_data_dir())
    #: SQLAlchemy-style URL of a PostgreSQL server; empty runs the embedded one in `data_dir`.
    database_url: str = ""
    #: Name of the installation in certificates: `spiffe://<trust_domain>/…`.
    trust_domain: str = "streamswarm.local"
    #: Name of this gateway, unique among the gateways of one database.
    gateway_name: str = "gateway-1"
    #: Address and port on which workers hold their sessions.
    gateway_listen: str = "127.0.0.1:7443"
    #: Address and port on which workers enrol.
    enrolment_listen: str = "127.0.0.1:7444"
    #: `host:port` at which workers reach the gateways' session listeners; empty means `gateway_listen`.
    gateway_addresses: tuple[str, ...] = ()
    #: `host:port` at which workers reach the enrolment listener; empty means `enrolment_listen`.
    enrolment_address: str = ""
    #: Names and addresses written into the gateway's certificate beside those above.
    gateway_names: tuple[str, ...] = ()
    #: Address and port of the dashboard and REST API.
    web_listen: str = "127.0.0.1:8080"
    #: Address at which people reach the dashboard; empty means `http://<web_listen>`.
    web_url: str = ""
    #: Proxies in front of the dashboard whose forwarded headers are believed.
    web_proxy_hops: int = 0
    #: Names under which the dashboard answers, beside its own host's, that of `web_url` and plain addresses.
    web_hosts: tuple[str, ...] = ()
    #: Origins of other web pages whose scripts may call the REST API with a token, such as `https://wiki.example.org`.
    web_cors_origins: tuple[str, ...] = ()
    #: Minutes without activity after which a session ends, 10 to 60; 0: however long nobody does anything.
    web_session_minutes: float = 60.0
    #: Lets whoever is on this machine in without a login; only where nobody else can reach the dashboard.
    web_development: bool = False
    #: Threads of one web process; each live page holds one.
    web_threads: int = 96
    #: Life of a worker's certificate, hours; it is renewed at half of it.
    certificate_hours: float = 24.0
    #: Life of an enrolment token, minutes.
    enrolment_token_minutes: float = 15.0
    #: Days for which partitions are made ahead.
    partitions_ahead_days: int = 7
    #: Days for which results are kept; 0 keeps them for ever. Roll-ups are kept for longer.
    retention_days: int = 90
    #: Days for which roll-ups of five minutes are kept; 0 keeps them for ever.
    retention_5m_days: int = 180
    #: Days for which roll-ups of an hour are kept; 0 keeps them for ever.
    retention_1h_days: int = 1100
    #: Days for which roll-ups of a day are kept; 0 keeps them for ever.
    retention_1d_days: int = 0
    #: Where worker bundles are kept; unset: `/var/cache/streamswarm/bundles` for root, else `bundles` in `data_dir`.
    bundle_dir: Path | None = None
    #: Inventory files or folders: of the command line, and of operations that keepers run, on the keeper's machine.
    inventory: tuple[Path, ...] = ()
    #: Where the name server of the example test answers, when `streamswarm up` runs.
    example_resolver_listen: str = "127.0.0.1:7453"
    #: `debug`, `info`, `warning` or `error`.
    log_level: str = "info"
    #: `plain` lines, or `json`: one object a line.
    log_format: str = "plain"
    #: Names of those that the environment or the settings file gave; the others have their defaults.
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; raises ConfigurationError naming the variable or key at fault."""
        env = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        from_file = _read_file(env.get(PREFIX + "CONFIG", ""))
        known = {item.name: item for item in named()}
        _refuse_unknown(env, known)
        for key in from_file:
            if key not in known:
                raise ConfigurationError(
                    f"the settings file {env[PREFIX + 'CONFIG']} has an unknown key `{key}`",
                    mend=f"known keys are {', '.join(known)}",
                )
        for name, item in known.items():
            variable = PREFIX + name.upper()
            if variable in env:
                values[name] = _convert(str(item.type), env[variable], variable)
            elif variable + "_FILE" in env:
                values[name] = _convert(
                    str(item.type), _read_secret(env[variable + "_FILE"], variable), variable
                )
            elif name in from_file:
                values[name] = _convert(
                    str(item.type), from_file[name], f"key `{name}` of {env[PREFIX + 'CONFIG']}"
                )
        made = cls(**values, given=frozenset(values))
        made.check_retention()
        made.check_logs()
        made.check_web()
        return made

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables, for child processes: what is not the default anyway."""
        result: dict[str, str] = {}
        for item in named():
            value = getattr(self, item.name)
            if value is not None and (item.name in self.given or value != item.default):
                result[PREFIX + item.name.upper()] = (
                    ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                )
        return result

    @property
    def public_gateways(self) -> tuple[str, ...]:
        """`host:port` of the session listeners as workers dial them."""
        return self.gateway_addresses or (
            _dialled(self.gateway_listen, "GATEWAY_LISTEN", "GATEWAY_ADDRESSES"),
        )

    @property
    def public_enrolment(self) -> str:
        """`host:port` of the enrolment listener as workers dial it."""
        return self.enrolment_address or _dialled(
            self.enrolment_listen, "ENROLMENT_LISTEN", "ENROLMENT_ADDRESS"
        )

    @property
    def public_web_url(self) -> str:
        """Address of the dashboard as people type it, without a trailing slash."""
        return (self.web_url or f"http://{on_this_machine(self.web_listen)}").rstrip("/")

    @property
    def bundles(self) -> Path:
        """Where bundles are kept: what root ships to hosts lies where nobody else may write."""
        if self.bundle_dir is not None:
            return self.bundle_dir
        return Path("/var/cache/streamswarm/bundles") if _is_root() else self.data_dir / "bundles"

    def check(self) -> None:
        """Raise ConfigurationError for addresses that cannot be used, before anything is started."""
        for name in ("gateway_listen", "enrolment_listen", "web_listen", "example_resolver_listen"):
            split_address(getattr(self, name), what=PREFIX + name.upper())
        for address in (*self.public_gateways, self.public_enrolment):
            split_address(address, what="an address that workers dial")

    def check_retention(self) -> None:
        """Raise ConfigurationError when a layer would lose what it is computed from before it has to."""
        kept = [
            (name, getattr(self, name) or math.inf)
            for name in ("retention_days", "retention_1h_days", "retention_1d_days")
        ]
        for (shorter, days), (longer, more) in itertools.pairwise(kept):
            if more < days:
                raise ConfigurationError(
                    f"{PREFIX}{longer.upper()} is less than {PREFIX}{shorter.upper()}: late results could not be rolled up "
                    "again from what has gone",
                    mend=f"set {PREFIX}{longer.upper()} to at least as many days, or to 0, which is for ever",
                )

    def check_web(self) -> None:
        """Raise ConfigurationError for a time-out of sessions out of bounds, and for development where others get in."""
        shortest, longest = SESSION_MINUTES
        if self.web_session_minutes != 0 and not shortest <= self.web_session_minutes <= longest:
            raise ConfigurationError(
                f"{PREFIX}WEB_SESSION_MINUTES is {self.web_session_minutes:g}",
                mend=f"set it to {shortest} to {longest} minutes, or to 0, which lets sessions go on for 12 hours",
            )
        if self.web_development:
            self._check_development()

    def _check_development(self) -> None:
        """Development mode asks for no password: nothing but this machine itself may reach the dashboard."""
        host, _ = split_address(self.web_listen, what=f"{PREFIX}WEB_LISTEN")
        named = urlsplit(self.public_web_url).hostname or ""
        for faulty, name, value in (
            (not is_loopback(host), "WEB_LISTEN", self.web_listen),
            (not is_loopback(named), "WEB_URL", self.web_url),
            (self.web_proxy_hops != 0, "WEB_PROXY_HOPS", self.web_proxy_hops),
            (bool(self.web_hosts), "WEB_HOSTS", ",".join(self.web_hosts)),
        ):
            if faulty:
                raise ConfigurationError(
                    f"{PREFIX}WEB_DEVELOPMENT lets everybody in without a password, and {PREFIX}{name} is `{value}`: "
                    "others could reach the dashboard",
                    mend=f"unset {PREFIX}WEB_DEVELOPMENT, or let the dashboard be reached on loopback only",
                )

    def check_logs(self) -> None:
        """Raise ConfigurationError for a level or a form of logs that there is not."""
        for name, choices in (("log_level", _LEVELS), ("log_format", FORMATS)):
            value = getattr(self, name)
            if value not in choices:
                raise ConfigurationError(
                    f"{PREFIX}{name.upper()} is `{value}`", mend=f"set it to one of {', '.join(choices)}"
                )


def named() -> list[Field[Any]]:
    """Return the settings that there are, as fields of `Settings`."""
    return [item for item in fields(Settings) if item.name != "given"]


def default_data_dir() -> Path:
    """Return `/var/lib/streamswarm` for root, `var` of the checkout that this runs from, else the user's data folder."""
    if _is_root():
        return Path("/var/lib/streamswarm")
    checkout = assets.checkout()
    if checkout is not None:
        return checkout / "var"
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "streamswarm"


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine and no other."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_address(text: str, *, what: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`; raises ConfigurationError naming `what`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigurationError(
            f"{what} is `{text}`, which is not an address with a port",
            mend="write it as `127.0.0.1:7443` or `[::1]:7443`",
        )
    return host, int(port)


def on_this_machine(listen: str) -> str:
    """Return where this machine itself reaches what listens on an address: a wildcard over loopback."""
    host, port = split_address(listen, what="address")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  a comparison
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _dialled(listen: str, listening: str, dialling: str) -> str:
    """Return where to dial for an address that is listened on; a wildcard is no place to dial."""
    if split_address(listen, what=PREFIX + listening)[0] in ("0.0.0.0", "::"):  # noqa: S104  a comparison
        raise ConfigurationError(
            f"{PREFIX}{listening} is `{listen}`, every address of this machine, and workers need one to dial",
            mend=f"say how they reach it: {PREFIX}{dialling}=monitor.example.org:{listen.rpartition(':')[2]}",
        )
    return listen


def _refuse_unknown(env: Mapping[str, str], known: Iterable[str]) -> None:
    """A misspelt variable would be passed over silently, and the default used."""
    allowed = {PREFIX + name.upper() + end for name in known for end in ("", "_FILE")} | _OTHERS
    for variable in env:
        if (
            variable.startswith(PREFIX)
            and variable not in allowed
            and not variable.startswith(PREFIX + "LAB_")
        ):
            near = difflib.get_close_matches(variable, allowed, n=1)
            raise ConfigurationError(
                f"there is no setting {variable}",
                mend=f"did you mean {near[0]}?" if near else "unset it, or see docs/reference/settings.md",
            )


def _read_file(path: str) -> Mapping[str, Any]:
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"the settings file {path} cannot be read: {error}", mend="mend it, or unset STREAMSWARM_CONFIG"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"the settings file {path} must hold `key: value` lines", mend="see docs/reference/settings.md"
        )
    return content


def _read_secret(path: str, variable: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{variable}_FILE names {path}, which cannot be read: {error}",
            mend="mend the file or the variable",
        ) from error


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def _paths(texts: Iterable[str]) -> tuple[Path, ...]:
    return tuple(Path(text).expanduser().absolute() for text in texts)


def _convert(type_name: str, value: Any, where: str) -> Any:
    try:
        if type_name.startswith("Path"):
            return Path(str(value)).expanduser().absolute()
        if type_name == "int":
            return int(value)
        if type_name == "float":
            return float(value)
        if type_name == "bool":
            return _flag(str(value))
        if type_name.startswith("tuple"):
            parts = value.split(",") if isinstance(value, str) else value
            texts = tuple(str(part).strip() for part in parts if str(part).strip())
            return _paths(texts) if "Path" in type_name else texts
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{where} is `{value}`, which is not a {type_name}", mend="see docs/reference/settings.md"
        ) from error
    return str(value)
