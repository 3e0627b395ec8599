"""Settings come from the environment, a file, or their defaults; a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import ConfigurationError
from controller.settings import Settings, named, split_address

REFERENCE = Path(__file__).parents[3] / "docs/reference/settings.md"


def test_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    """The same key at three places."""
    file = tmp_path / "settings.yaml"
    file.write_text("web_threads: 7\ntrust_domain: from.file\n")
    settings = Settings.load(
        {"STREAMSWARM_CONFIG": str(file), "STREAMSWARM_TRUST_DOMAIN": "from.environment"}
    )
    assert (settings.web_threads, settings.trust_domain, settings.gateway_name) == (
        7,
        "from.environment",
        "gateway-1",
    )


def test_secrets_may_come_from_a_file(tmp_path: Path) -> None:
    """`…_FILE` names a file whose text, without its last newline, is the value."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://somewhere/db\n")
    assert (
        Settings.load({"STREAMSWARM_DATABASE_URL_FILE": str(secret)}).database_url
        == "postgresql://somewhere/db"
    )


def test_settings_survive_the_way_to_a_child_process() -> None:
    """What `environment` gives is read back the same."""
    settings = Settings.load(
        {
            "STREAMSWARM_GATEWAY_ADDRESSES": "a:1, b:2",
            "STREAMSWARM_CERTIFICATE_HOURS": "0.5",
            "STREAMSWARM_DATA_DIR": "/tmp/x",
        }
    )
    assert settings.gateway_addresses == ("a:1", "b:2")
    assert Settings.load(settings.environment()) == settings


@pytest.mark.parametrize(
    ("environment", "content", "message"),
    [
        ({"STREAMSWARM_WEB_THREADS": "many"}, None, "STREAMSWARM_WEB_THREADS is `many`"),
        ({"STREAMSWARM_LOG_LEVEL": "loud"}, None, "STREAMSWARM_LOG_LEVEL is `loud`"),
        ({"STREAMSWARM_WEB_DEVELOPMENT": "maybe"}, None, "STREAMSWARM_WEB_DEVELOPMENT is `maybe`"),
        ({"STREAMSWARM_WEB_SESSION_MINUTES": "9.9"}, None, "WEB_SESSION_MINUTES is 9.9"),
        ({"STREAMSWARM_WEB_SESSION_MINUTES": "61"}, None, "WEB_SESSION_MINUTES is 61"),
        ({"STREAMSWARM_WEB_SESSION_MINUTES": "-1"}, None, "WEB_SESSION_MINUTES is -1"),
        ({"STREAMSWARM_WEB_SESSION_MINUTES": "nan"}, None, "WEB_SESSION_MINUTES is nan"),
        ({}, "log_format: xml", "STREAMSWARM_LOG_FORMAT is `xml`"),
        ({}, "colour: red", "unknown key `colour`"),
        ({}, "- a list", "must hold `key: value` lines"),
        ({}, "a: [", "cannot be read"),
        (
            {"STREAMSWARM_DATABASE_URL_FILE": "/does/not/exist"},
            None,
            "names /does/not/exist, which cannot be read",
        ),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, environment: dict[str, str], content: str | None, message: str
) -> None:
    """The message says which variable or key, and what to do."""
    if content is not None:
        (tmp_path / "settings.yaml").write_text(content)
        environment = {**environment, "STREAMSWARM_CONFIG": str(tmp_path / "settings.yaml")}
    with pytest.raises(ConfigurationError, match=message) as caught:
        Settings.load(environment)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:7443", ("::1", 7443)), ("host:65535", ("host", 65535))],
)
def test_addresses_are_split(text: str, expected: tuple[str, int]) -> None:
    """IPv4, IPv6 in brackets, names."""
    assert split_address(text, what="X") == expected


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:99999", "host:-1"])
def test_half_addresses_are_refused(text: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigurationError, match="STREAMSWARM_X"):
        split_address(text, what="STREAMSWARM_X")


@pytest.mark.parametrize("listen", ["0.0.0.0:7443", "[::]:7443"])
def test_a_wildcard_is_no_place_to_dial(listen: str) -> None:
    """Who listens on every address must say which one workers dial; then that one is used."""
    with pytest.raises(ConfigurationError, match="STREAMSWARM_GATEWAY_LISTEN") as caught:
        _ = Settings(gateway_listen=listen).public_gateways
    assert "STREAMSWARM_GATEWAY_ADDRESSES" in caught.value.mend
    assert Settings(gateway_listen=listen, gateway_addresses=("a:1",)).public_gateways == ("a:1",)
    with pytest.raises(ConfigurationError, match="STREAMSWARM_ENROLMENT_LISTEN"):
        _ = Settings(enrolment_listen=listen).public_enrolment


@pytest.mark.parametrize("minutes", ["0", "10", "60", "12.5"])
def test_sessions_last_ten_to_sixty_minutes_or_without_end(minutes: str) -> None:
    """Both bounds are in, and 0 switches the time-out off."""
    assert Settings.load({"STREAMSWARM_WEB_SESSION_MINUTES": minutes}).web_session_minutes == float(minutes)


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "[::1]:8080", "localhost:8080", "127.9.9.9:80"])
def test_development_mode_is_for_loopback(listen: str) -> None:
    """There it is taken, from a file as from the environment."""
    settings = Settings.load({"STREAMSWARM_WEB_DEVELOPMENT": "TRUE", "STREAMSWARM_WEB_LISTEN": listen})
    assert settings.web_development
    assert Settings.load(settings.environment()) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEB_LISTEN", "0.0.0.0:8080"),
        ("WEB_LISTEN", "[::]:8080"),
        ("WEB_LISTEN", "192.0.2.1:8080"),
        ("WEB_LISTEN", "127.0.0.1.example.org:8080"),
        ("WEB_URL", "https://monitor.example.org"),
        ("WEB_PROXY_HOPS", "1"),
        ("WEB_HOSTS", "monitor.example.org"),
    ],
)
def test_development_mode_is_refused_where_others_get_in(name: str, value: str) -> None:
    """The message names the setting by which they could."""
    with pytest.raises(ConfigurationError, match=f"STREAMSWARM_{name} is") as caught:
        Settings.load({"STREAMSWARM_WEB_DEVELOPMENT": "yes", f"STREAMSWARM_{name}": value})
    assert "WEB_DEVELOPMENT" in caught.value.mend


def test_every_setting_is_documented() -> None:
    """The reference page has a row for each setting, and for nothing else."""
    rows = {line.split("`")[1] for line in REFERENCE.read_text().splitlines() if line.startswith("| `")}
    assert rows == {field.name for field in named()}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"RETENTION_1H_DAYS": "30"}, "RETENTION_1H_DAYS is less than STREAMSWARM_RETENTION_DAYS"),
        ({"RETENTION_DAYS": "0"}, "RETENTION_1H_DAYS is less than STREAMSWARM_RETENTION_DAYS"),
        ({"RETENTION_1D_DAYS": "400"}, "RETENTION_1D_DAYS is less than STREAMSWARM_RETENTION_1H_DAYS"),
        ({"RETENTION_DAYS": "400", "RETENTION_1H_DAYS": "400", "RETENTION_1D_DAYS": "0"}, ""),
    ],
)
def test_wider_layers_are_kept_for_longer(values: dict[str, str], fault: str) -> None:
    """A layer is computed from narrower ones, again when something comes late: they must not go before it may."""
    environment = {f"STREAMSWARM_{name}": value for name, value in values.items()}
    if not fault:
        Settings.load(environment)
        return
    with pytest.raises(ConfigurationError, match=fault):
        Settings.load(environment)
