"""A client of the REST API for the command line."""

from __future__ import annotations

import os
import re
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from controller.errors import ConfigurationError, ConflictError, NotFoundError, StreamSwarmError
from controller.settings import Settings, on_this_machine
from streamswarm.targets import shown

#: Where a controller keeps the token of its own machine's command line, below its data folder.
LOCAL_TOKEN = Path("secrets") / "local.token"
#: The variable that names certificates of authorities, PEM, by which the controller's is verified.
CA_FILE = "STREAMSWARM_CA_FILE"
_TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 65.0
_MOST_PROBLEMS = 20
_TOKEN = re.compile(r"ssw_[A-Za-z0-9_-]{43}")
_LONGEST_TOKEN = 200


class RefusedError(StreamSwarmError):
    """The controller refused a call; the message is its own."""


class UnreachableError(StreamSwarmError):
    """The controller's API does not answer; trying again later may help."""


class Client:
    """Calls the API with a token. Errors become StreamSwarmError with the controller's own words.

    It may be used by several threads at once.
    """

    def __init__(self, url: str, token: str, *, through_proxies: bool = True, ca_file: str = "") -> None:
        """`ca_file` holds the certificates of the authorities that are believed instead of the system's, in PEM."""
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=_TIMEOUT_S,
            # A redirect would carry the token elsewhere.
            follow_redirects=False,
            trust_env=through_proxies,
            verify=_trusting(ca_file) if ca_file else True,
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Client:
        """Return a client of the controller that the environment names, or else of the one on this machine.

        Reads STREAMSWARM_URL, STREAMSWARM_TOKEN (or STREAMSWARM_TOKEN_FILE) and STREAMSWARM_CA_FILE; without a URL, the
        settings and the token that the local controller keeps in its data folder.
        """
        env = os.environ if environment is None else environment
        url, token = env.get("STREAMSWARM_URL", ""), _token(env)
        if url and not url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"STREAMSWARM_URL is `{shown(url)}`, which is not the address of a dashboard",
                mend="write it as `https://monitoring.example.org`",
            )
        if url and not token:
            raise ConfigurationError(
                "STREAMSWARM_URL is set, but no token",
                mend="make a token on the dashboard and set STREAMSWARM_TOKEN or STREAMSWARM_TOKEN_FILE",
            )
        is_local = not url
        if is_local:
            settings = Settings.load(env)
            # Not where people reach it: that may lead through a proxy, whose certificate nobody here knows.
            url = f"http://{on_this_machine(settings.web_listen)}"
            token = token or _local_token(settings.data_dir / LOCAL_TOKEN)
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(
                "STREAMSWARM_TOKEN has characters that no token has", mend="copy the token again"
            )
        return cls(url, token, through_proxies=not is_local, ca_file=env.get(CA_FILE, ""))

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return an object."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make something, or have something done."""
        return self.call("POST", path, body=body or {})

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change something."""
        return self.call("PATCH", path, body=body)

    def delete(self, path: str, **query: Any) -> None:
        """Delete something."""
        self.call("DELETE", path, query=query)

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Return every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, **({"cursor": cursor} if cursor else {}))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def download(self, path: str, target: BinaryIO, **query: Any) -> int:
        """Write what a path answers to a file, piece by piece; return how many bytes."""
        try:
            with self._http.stream("GET", path, params=query, headers={"Accept": "*/*"}) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._error(answer)
                for piece in answer.iter_bytes():
                    target.write(piece)
                return answer.num_bytes_downloaded
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the download from {self.url} broke off: {error or type(error).__name__}",
                mend="try again; what was written so far is not complete",
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make one call; when the controller says that there were too many, wait once as long as it asks for."""
        answer = self._send(method, path, query, body)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            time.sleep(min(_retry_after(answer), _LONGEST_WAIT_S))
            answer = self._send(method, path, query, body)
        if answer.is_success:
            return _object(answer) if answer.content else {}
        raise self._error(answer)

    def _send(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Mapping[str, Any] | None
    ) -> httpx.Response:
        try:
            return self._http.request(method, path, params=query, json=body)
        except httpx.HTTPError as error:
            if distrust := _distrust(error):
                raise ConfigurationError(
                    f"the certificate of {self.url} cannot be verified: {distrust}",
                    mend=f"where its authority is not one of the system's, name a file with that authority's certificates, as "
                    f"{CA_FILE} or --ca-file; the controller's own is `ca/root.pem` in its data folder. An address "
                    "that is not in the certificate has to be another",
                ) from error
            raise UnreachableError(
                f"the controller at {self.url} does not answer: {error or type(error).__name__}",
                mend="start it (`streamswarm up`, `streamswarm web`), or set STREAMSWARM_URL to where it is",
            ) from error
        except httpx.InvalidURL as error:
            raise ConfigurationError(
                f"the address `{shown(self.url)}` is not a URL: {error}", mend="mend STREAMSWARM_URL"
            ) from error

    def _error(self, answer: httpx.Response) -> StreamSwarmError:
        if answer.is_redirect:
            return ConfigurationError(
                f"{self.url} sends callers on to {shown(answer.headers.get('Location', '?'))}",
                mend="set STREAMSWARM_URL to that address if it is yours",
            )
        if answer.headers.get("Content-Type", "").partition(";")[0] != "application/problem+json":
            return RefusedError(
                f"{self.url} answered {answer.status_code} {answer.reason_phrase} and is no StreamSwarm API",
                mend="set STREAMSWARM_URL to the address of the dashboard",
            )
        details = _object(answer)
        message = str(details.get("detail") or details.get("title") or answer.reason_phrase)
        faults = details.get("errors")
        if isinstance(faults, list) and faults:
            message = "; ".join(
                f"{fault.get('path')}: {fault.get('message')}"
                for fault in faults[:_MOST_PROBLEMS]
                if isinstance(fault, dict)
            )
        mend = str(details.get("mend") or "")
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            message = f"the controller at {self.url} does not accept the token"
            mend = "make another on the dashboard; it may be revoked or expired"
        if answer.status_code == httpx.codes.NOT_FOUND:
            return NotFoundError(message, mend=mend)
        if answer.status_code == httpx.codes.CONFLICT:
            return ConflictError(message, mend=mend)
        return RefusedError(message, mend=mend)


def _trusting(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # of which errors of TLS are
        raise ConfigurationError(
            f"{CA_FILE} (or --ca-file) names {path}, which cannot be used: {error}",
            mend="name a file with certificates in PEM",
        ) from error


def _distrust(error: BaseException | None) -> str:
    """Return why a certificate was not believed; empty where something else went wrong."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return ""


def _token(env: Mapping[str, str]) -> str:
    if env.get("STREAMSWARM_TOKEN"):
        return env["STREAMSWARM_TOKEN"].strip()
    path = env.get("STREAMSWARM_TOKEN_FILE", "")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"STREAMSWARM_TOKEN_FILE names {path}, which cannot be read: {error}",
            mend="mend the file or the variable",
        ) from error


def _local_token(path: Path) -> str:
    """Read the token that the local controller keeps; what is no token of its owner's is not sent to anybody.

    Root reads it in a folder of another account's, where a link could lead to any file of root's.
    """
    try:
        owner = path.parents[1].stat().st_uid
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="ascii") as file:
            found = os.fstat(descriptor)
            text = file.read(_LONGEST_TOKEN).strip() if stat.S_ISREG(found.st_mode) else ""
        if found.st_uid != owner or not _TOKEN.fullmatch(text):
            raise ConfigurationError(
                f"{path} is not the token that the controller of this machine keeps",
                mend="look at who put it there; `streamswarm up` writes it anew when it is missing",
            )
        return text
    except FileNotFoundError as error:
        raise ConfigurationError(
            "STREAMSWARM_URL and STREAMSWARM_TOKEN are not set, and no controller has run on this machine "
            f"({path} is not there)",
            mend="set both, or start one here: streamswarm up",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the token of this machine's controller cannot be read: {error}",
            mend="run as the account that the controller runs under, or set STREAMSWARM_URL and STREAMSWARM_TOKEN",
        ) from error


def _retry_after(answer: httpx.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError as error:
        raise RefusedError(
            f"{answer.url} answered {answer.status_code} with something that is not JSON",
            mend="set STREAMSWARM_URL to the address of the dashboard",
        ) from error
    if not isinstance(value, dict):
        raise RefusedError(
            f"{answer.url} answered with JSON that is no object", mend="use the same release on both sides"
        )
    return value
